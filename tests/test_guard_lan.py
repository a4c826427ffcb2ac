"""Where we listen, and who gets in from there: a second machine is a network namespace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import CHAT, TOKEN, Upstream, completion, config, get, post
from tests.running import ROOT, free_port


def refused_start(folder: Path, server: str, *flags: str) -> str:
    path = folder / "config.toml"
    path.write_text(config("http://127.0.0.1:9/v1", server=server))
    path.chmod(0o600)
    code = "import sys; from arbstr.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--config", str(path), *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("server", "flags"),
    [
        ('listen = "0.0.0.0:0"', ()),
        ('listen = "[::]:0"', ()),
        ('listen = "192.0.2.7:0"', ()),
        ("", ("--listen", "0.0.0.0:0")),
        ("", ("--listen", "[::]:0")),
    ],
)
def test_listening_beyond_loopback_without_a_token_is_refused_at_start(
    tmp_path: Path, server: str, flags: tuple[str, ...]
) -> None:
    told = refused_start(tmp_path, server, *flags)
    assert "server.auth_token" in told
    assert "allow_lan_without_token" in told


NETNS = f"arbstr-{os.getpid()}"


def netns_refusal() -> str:
    """Why there can be no network namespace here; empty where there can."""
    if shutil.which("ip") is None:
        return "there is no ip command"
    made = subprocess.run(["ip", "netns", "add", NETNS], capture_output=True, check=False)
    if made.returncode:
        return f"ip netns is not permitted: {made.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "del", NETNS], capture_output=True, check=False)
    return ""


@pytest.fixture
def lan() -> Iterator[str]:
    """A network namespace with a cable to this one; the address of this side."""
    if refusal := netns_refusal():
        pytest.skip(refusal)
    here, there = "10.203.113.1", "10.203.113.2"
    cable = f"arb{os.getpid() % 100_000}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    ip("netns", "add", NETNS)
    try:
        try:
            ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", NETNS)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"a cable between namespaces is not permitted: {error.stderr.decode()}")
        ip("addr", "add", f"{here}/30", "dev", cable)
        ip("link", "set", cable, "up")
        ip("-n", NETNS, "addr", "add", f"{there}/30", "dev", "eth0")
        ip("-n", NETNS, "link", "set", "eth0", "up")
        yield here
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=False, capture_output=True)


FROM_THERE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as connection:
    connection.sendall(sys.stdin.buffer.read())
    connection.shutdown(socket.SHUT_WR) if sys.argv[3:] else None
    try:
        while data := connection.recv(65536):
            sys.stdout.buffer.write(data)
    except OSError:
        pass
"""


def from_there(host: str, port: int, raw: bytes) -> bytes:
    """What another machine gets. It asks for the connection to be closed."""
    command = ["ip", "netns", "exec", NETNS, sys.executable, "-c", FROM_THERE, host, str(port)]
    done = subprocess.run(command, input=raw, capture_output=True, timeout=60, check=False)
    return done.stdout


def test_another_machine_needs_the_token(lan: str, tmp_path: Path) -> None:
    close = "Connection: close"
    with Upstream(completion) as upstream:
        port = free_port()
        server = f'listen = "0.0.0.0:{port}"\nauth_token = "{TOKEN}"'
        path = tmp_path / "config.toml"
        path.write_text(config(upstream.url, server=server))
        path.chmod(0o600)
        code = "import sys; from arbstr.cli import main; sys.exit(main())"
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, "serve", "--config", str(path)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        try:
            token = f"Authorization: Bearer {TOKEN}"
            host = f"{lan}:{port}"
            while b"200 OK" not in from_there(lan, port, get("/health", token, close, host=host)):
                assert process.poll() is None, (tmp_path / "log").read_text()
            chat = "/v1/chat/completions"
            assert b" 401 " in from_there(lan, port, post(chat, CHAT, close, host=host))
            assert b" 401 " in from_there(lan, port, get("/v1/balance/info", close, host=host))
            assert b" 421 " in from_there(
                lan, port, post(chat, CHAT, close, token, host="evil.example")
            )
            assert upstream.seen == []
            assert b" 200 " in from_there(lan, port, post(chat, CHAT, close, token, host=host))
            assert len(upstream.seen) == 1
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_another_machine_does_not_get_in_where_a_flag_opens_the_port(
    lan: str, tmp_path: Path
) -> None:
    """Options of mitmproxy can listen anywhere: the peer's address is looked at all the same."""
    with Upstream(completion) as upstream:
        port = free_port()
        path = tmp_path / "config.toml"
        path.write_text(config(upstream.url))
        path.chmod(0o600)
        code = "import sys; from mitmproxy.tools.main import mitmdump; sys.exit(mitmdump())"
        options = [f"arbstr_config={path}", f"confdir={tmp_path}", f"listen_port={port}"]
        sets = [word for option in options for word in ("--set", option)]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, "-s", str(ROOT / "arbstr_addon.py"), *sets,
                 "--listen-host", "0.0.0.0"],
                cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            assert (
                from_there(lan, port, post("/v1/chat/completions", CHAT, "Connection: close"))
                == b""
            )
        finally:
            process.kill()
            process.wait()
        assert "server.auth_token" in (tmp_path / "log").read_text()
        assert upstream.seen == []

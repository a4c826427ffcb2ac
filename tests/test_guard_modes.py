"""Under mitmdump, whatever its options say: a reverse proxy to the config's providers, no more."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamReset

from tests.attack import (
    CHAT,
    Upstream,
    ask,
    completion,
    config,
    connected,
    get,
    http,
    post,
    read_all,
)
from tests.running import ROOT, free_port

START_S = 30.0


@dataclass
class House:
    """`ports`: by mode. `provider` is configured, `other` is anybody."""

    ports: dict[str, int]
    provider: Upstream
    other: Upstream
    log: Path

    def url(self, mode: str) -> str:
        return f"http://127.0.0.1:{self.ports[mode]}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Mitmdump with the add-on, told to be every kind of proxy at once."""
    folder = tmp_path_factory.mktemp("modes")
    with Upstream(completion) as provider, Upstream(lambda _: http("200 OK", b"{}")) as other:
        elsewhere = urlsplit(other.url).netloc
        specs = {
            "reverse": f"reverse:http://{elsewhere}",
            "regular": "regular",
            "socks5": "socks5",
            "upstream": f"upstream:http://{elsewhere}",
            "tcp": f"reverse:tcp://{elsewhere}",
        }
        ports = {mode: free_port() for mode in specs}
        path = folder / "config.toml"
        path.write_text(config(provider.url))
        path.chmod(0o600)
        command = [sys.executable, "-c",
                   "import sys; from mitmproxy.tools.main import mitmdump; sys.exit(mitmdump())",
                   "-s", str(ROOT / "arbstr_addon.py"), "--set", f"confdir={folder}",
                   "--set", f"arbstr_config={path}"]  # fmt: skip
        for mode, spec in specs.items():
            command += ["--mode", f"{spec}@127.0.0.1:{ports[mode]}"]
        log = folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
        try:
            found = House(ports, provider, other, log)
            _wait(found, process)
            yield found
            assert "Traceback" not in log.read_text()
        finally:
            process.terminate()
            process.wait(30)


def _wait(house: House, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, house.log.read_text()
        try:
            if ask(house.url("reverse"), get("/health")).status == 200:
                return
        except (OSError, AssertionError):
            time.sleep(0.05)
    raise AssertionError(house.log.read_text())


def test_as_a_reverse_proxy_it_asks_the_provider_of_the_config(house: House) -> None:
    """The address after ``reverse:`` is not even looked at."""
    assert ask(house.url("reverse"), post()).status == 200
    assert len(house.provider.seen) == 1
    assert ask(house.url("tcp"), post()).status == 200
    assert len(house.provider.seen) == 2
    assert house.other.connections == 0


@pytest.mark.parametrize("mode", ["regular", "upstream", "socks5"])
def test_in_any_other_mode_it_says_nothing(house: House, mode: str) -> None:
    there = urlsplit(house.other.url).netloc
    host, port = there.split(":")
    attempts = (
        get(f"http://{there}/v1/models", host=there),
        get("/v1/models", host=there),
        f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n\r\n".encode(),
        get("http://mitm.it/", host="mitm.it"),
        b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(host) + struct.pack(">H", int(port)),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    )
    for raw in attempts:
        with connected(house.url(mode)) as connection:
            try:
                connection.sendall(raw)
                assert connection.recv(1) == b""
            except OSError:
                pass  # reset: as good
    assert house.other.connections == 0


@pytest.mark.parametrize("mode", ["reverse", "tcp"])
def test_in_reverse_mode_it_is_no_proxy_to_anywhere_else(house: House, mode: str) -> None:
    there = urlsplit(house.other.url).netloc
    seen = len(house.provider.seen)
    attempts = (
        get(f"http://{there}/v1/models", host=there),
        get("http://mitm.it/", host="mitm.it"),
        get("/", host="mitm.it"),
        f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n\r\n".encode(),
        get("/v1/x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        get(f"//{there}/v1/models"),
        get("/v1/../x"),
    )
    for raw in attempts:
        with connected(house.url(mode)) as connection:
            connection.sendall(raw)
            (reply,) = read_all(connection)
        assert reply.status in (400, 421), raw
        assert reply.json()["error"]["message"]
    assert house.other.connections == 0
    assert len(house.provider.seen) == seen


@contextmanager
def over_tls(url: str, *protocols: str) -> Iterator[ssl.SSLSocket]:
    """Mitmproxy makes up a certificate for any client that begins with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    with (
        connected(url) as plain,
        context.wrap_socket(plain, server_hostname="evil.example") as connection,
    ):
        yield connection


def test_over_tls_it_is_guarded_as_well(house: House) -> None:
    seen = len(house.provider.seen)
    with over_tls(house.url("reverse")) as connection:
        connection.sendall(post(host="evil.example"))
        assert [reply.status for reply in read_all(connection)] == [421]
    assert len(house.provider.seen) == seen


def h2_status(
    url: str,
    fields: list[tuple[str, str]],
    body: bytes,
    trailers: list[tuple[str, str]] | None = None,
) -> int:
    """The status that an HTTP/2 request gets; 0: its stream was reset."""
    limits = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    wire = H2Connection(limits)
    wire.initiate_connection()
    wire.send_headers(1, fields)
    wire.send_data(1, body, end_stream=trailers is None)
    if trailers is not None:
        wire.send_headers(1, trailers, end_stream=True)
    with over_tls(url, "h2") as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(wire.data_to_send())
        while data := connection.recv(65536):
            for event in wire.receive_data(data):
                if isinstance(event, ResponseReceived):
                    return int(dict(event.headers)[b":status"])
                if isinstance(event, StreamReset | ConnectionTerminated):
                    return 0
            connection.sendall(wire.data_to_send())
    return 0


H2 = {":method": "POST", ":scheme": "https", ":authority": "localhost",
      ":path": "/v1/chat/completions", "content-type": "application/json"}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({":authority": "evil.example"}, 421),
        ({":authority": "mitm.it"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({":path": "/v1/../admin"}, 400),
        ({":path": "//evil.example/"}, 400),
        ({":path": "/v1/chat%2Fcompletions"}, 400),
        ({":method": "TRACE"}, 405),
    ],
)
def test_http2_is_guarded_as_well(house: House, changes: dict[str, str], status: int) -> None:
    seen = len(house.provider.seen)
    assert h2_status(house.url("reverse"), list({**H2, **changes}.items()), CHAT) == status
    assert len(house.provider.seen) == seen


@pytest.mark.parametrize(
    "changes",
    [
        {":method": "CONNECT"},
        {":path": "http://evil.example/"},
        {"transfer-encoding": "chunked"},
        {"content-length": "5"},
        {"x-a": "b\r\nx-b: c"},
        {"x a": "b"},
        {":authority": ""},
        {"host": "evil.example"},
    ],
)
def test_hostile_http2_goes_nowhere(house: House, changes: dict[str, str]) -> None:
    seen = len(house.provider.seen)
    status = h2_status(house.url("reverse"), list({**H2, **changes}.items()), CHAT)
    assert status == 0 or 400 <= status < 500
    assert len(house.provider.seen) == seen
    assert house.other.connections == 0


def test_good_http2_is_served(house: House) -> None:
    assert h2_status(house.url("reverse"), list(H2.items()), CHAT) == 200


def test_trailers_of_http2_are_neither_the_end_nor_passed_on(house: House) -> None:
    seen = len(house.provider.seen)
    trailers = [("x-checksum", "1234")]
    assert h2_status(house.url("reverse"), list(H2.items()), CHAT, trailers) == 200
    assert b"x-checksum" not in house.provider.seen[seen].raw.lower()
    assert house.provider.seen[seen].body.startswith(CHAT[:1])

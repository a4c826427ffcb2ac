"""Keys and tokens show nowhere: everything that the program can emit is searched for them.

The upstream of these tests is as careless as it can be: it quotes the key that it was sent in every
place where an upstream can say anything.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from arbstr.config import load
from arbstr.core.secret import Secret
from tests.attack import (
    CLIENT_KEY,
    COMPLETION,
    OUR_KEY,
    TOKEN,
    Sent,
    Upstream,
    config,
    get,
    http,
    post,
    say,
)
from tests.running import ROOT, Running, running

MASK = "sk-o…***"
EVENT = b"text/event-stream"
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def key_of(sent: Sent) -> str:
    return sent.all("authorization")[0]


def error(sent: Sent) -> bytes:
    """An error that quotes the key in every member."""
    key = key_of(sent)
    members = {
        "message": f"Incorrect API key provided: {key}. You sent {key}.",
        "type": f"bad {key}",
        "code": f"key_{key}",
        "details": {"header": key, key: [key, {"deep": key}], "n": 1, "none": None},
    }
    return json.dumps({"error": members}).encode()


def stream(*parts: bytes) -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def split(sent: Sent) -> bytes:
    """A body whose chunks end in the middle of the key."""
    key = key_of(sent).encode()
    parts = (b"you sent: ", key[:12], key[12:30], key[30:], b" and ", key + key[:5], key[5:], b".")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


def event(sent: Sent) -> bytes:
    return b"data: " + error(sent) + b"\n\n"


CARELESS: dict[str, Callable[[Sent], bytes]] = {
    "400": lambda s: http("400 Bad Request", error(s)),
    "401": lambda s: http("401 Unauthorized", error(s), f"www-authenticate: {key_of(s)}"),
    "401-node": lambda s: http("401 Unauthorized", json.dumps({"detail": key_of(s)}).encode()),
    "402": lambda s: http("402 Payment Required", error(s)),
    "422": lambda s: http(
        "422 X", json.dumps({"detail": [{"loc": ["header", key_of(s)], "msg": key_of(s)}]}).encode()
    ),
    "429": lambda s: http("429 Slow", error(s), "retry-after: 9"),
    "500": lambda s: http("500 Oops", f"<p>{key_of(s)}</p>".encode(), kind="text/html"),
    "500-text": lambda s: http("500 Oops", json.dumps({"error": key_of(s)}).encode()),
    "302": lambda s: http("302 Found", b"", f"location: http://127.0.0.1:1/{key_of(s)}"),
    "200-error": lambda s: http("200 OK", error(s)),
    "200-text": lambda s: http("200 OK", key_of(s).encode(), kind="text/plain"),
    "200-headers": lambda s: http(
        "200 OK", COMPLETION, f"x-echo: {key_of(s)}", f"date: {key_of(s)}"
    ),
    "200-whole": lambda s: http(
        "200 OK", COMPLETION.replace(b'"hi"', json.dumps(key_of(s)).encode())
    ),
    "reason": lambda s: http(f"500 {key_of(s)}", b"{}"),
    "bad-line": lambda s: f"HTTP/1.1 {key_of(s)} X\r\n\r\n".encode(),
    "bad-header": lambda s: f"HTTP/1.1 200 OK\r\n{key_of(s)}\r\n\r\n".encode(),
    "bad-name": lambda s: (
        f"HTTP/1.1 200 OK\r\n{key_of(s)}: x\r\ncontent-length: 0\r\n\r\n".encode()
    ),
    "bad-encoding": lambda s: http("200 OK", b"{}", f"content-encoding: {key_of(s)}"),
    "no-http": lambda s: key_of(s).encode() + b"\r\n\r\n",
    "more": lambda s: http("200 OK", COMPLETION) + key_of(s).encode(),
    "event": lambda s: stream(event(s)),
    "event-late": lambda s: stream(WORD, event(s), b"data: [DONE]\n\n"),
    "event-broken": lambda s: stream(WORD, b"data: {" + key_of(s).encode() + b"\n\n"),
    "event-split": lambda s: stream(WORD, event(s)[:60], event(s)[60:]),
    "comment": lambda s: stream(WORD, b": " + key_of(s).encode() + b"\n\n", b"data: [DONE]\n\n"),
    "words": lambda s: stream(
        WORD.replace(b'"a"', json.dumps(key_of(s)).encode()), b"data: [DONE]\n\n"
    ),
}
PATHS: dict[str, Callable[[Sent], bytes]] = {
    "/v1/whoami": lambda s: http("200 OK", s.raw, kind="text/plain"),
    "/v1/split": split,
    "/v1/denied": lambda s: http("403 Forbidden", s.raw, f"x-you: {key_of(s)}"),
    "/v1/moved": lambda s: http("301 Moved", s.raw, f"location: /{key_of(s)}"),
    "/v1/dead": lambda s: f"HTTP/1.1 {key_of(s)} X\r\n\r\n".encode(),
}


def careless(sent: Sent) -> bytes:
    path = sent.path.partition("?")[0]
    if path in PATHS:
        return PATHS[path](sent)
    return CARELESS[json.loads(sent.body)["model"]](sent)


@dataclass
class House:
    arbstr: Running
    upstream: Upstream
    folder: Path
    said: dict[str, bytes] = field(default_factory=dict)


def chat(model: str, *lines: str, streamed: bool) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    return post("/v1/chat/completions", json.dumps(body).encode(), *lines, "Connection: close")


def raw_answer(url: str, raw: bytes) -> bytes:
    """Everything of an answer, its head too."""
    replies = say(url, raw)
    return b"".join(
        b"\n".join(f"{n}: {v}".encode() for n, v in reply.fields) + b"\n\n" + reply.body
        for reply in replies
    )


@pytest.fixture(scope="module", params=["with our key", "with the client's"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """An arbstr that has been asked everything, and says more than usual (``--verbose``)."""
    folder = tmp_path_factory.mktemp("secrets")
    ours = request.param == "with our key"
    with Upstream(careless) as upstream:
        text = config(
            upstream.url,
            server='auth_token = "${ARBSTR_TOKEN}"',
            key='api_key = "${KEY_OF_NODE}"' if ours else "",
        )
        token = f"X-Arbstr-Token: {TOKEN}"
        lines = (token,) if ours else (token, f"Authorization: Bearer {CLIENT_KEY}")
        with running(folder, text, verbose=True, ARBSTR_TOKEN=TOKEN, KEY_OF_NODE=OUR_KEY) as arbstr:
            house = House(arbstr, upstream, folder)
            for model in CARELESS:
                for streamed in (False, True):
                    raw = chat(model, *lines, streamed=streamed)
                    house.said[f"{model} {streamed}"] = raw_answer(arbstr.url, raw)
            for path in PATHS:
                for raw in (get(path, *lines, "Connection: close"),
                            post(path, b"{}", *lines, "Connection: close")):  # fmt: skip
                    house.said[f"{raw[:4].decode()} {path}"] = raw_answer(arbstr.url, raw)
            house.said |= badly_asked(arbstr, lines)
            yield house


def badly_asked(arbstr: Running, lines: tuple[str, ...]) -> dict[str, bytes]:
    """Answers to requests that go wrong with a secret in them."""
    secret = f"{TOKEN} {CLIENT_KEY}"
    asked = {
        "no colon": get("/v1/x", f"Authorization {secret}"),
        "a cut head": f"GET /v1/x HTTP/1.1\r\nAuthorization: {secret}".encode(),
        "a bad line": f"{TOKEN} {CLIENT_KEY}\r\n\r\n".encode(),
        "a bad token": get("/v1/x", f"Authorization: Bearer x{CLIENT_KEY}"),
        "a bad host": get("/v1/x", *lines, host=CLIENT_KEY),
        "a bad origin": get("/v1/x", *lines, f"Origin: https://{CLIENT_KEY}"),
        "a bad policy": post(
            "/v1/chat/completions", b'{"model":"m"}', *lines, "X-Arbstr-Policy: x"
        ),
        "a query": get(f"/v1/whoami?key={CLIENT_KEY}", *lines),
    }
    said = {}
    for name, raw in asked.items():
        if name == "a cut head":
            with pytest.raises(TimeoutError):
                say_for(arbstr.url, raw, 0.2)
            continue
        said[name] = raw_answer(
            arbstr.url, raw.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n")
        )
    return said


def say_for(url: str, raw: bytes, seconds: float) -> None:
    from tests.attack import connected  # noqa: PLC0415

    with connected(url) as connection:
        connection.sendall(raw)
        connection.settimeout(seconds)
        connection.recv(1)


def secrets_in(data: bytes | str, *, client_too: bool = True) -> list[str]:
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    known = [OUR_KEY, TOKEN, *([CLIENT_KEY] if client_too else [])]
    return [secret for secret in known if secret in text]


def test_the_upstream_was_sent_the_key_every_time(house: House) -> None:
    """Else the rest of these tests would show nothing."""
    keys = {key_of(sent) for sent in house.upstream.seen}
    assert keys in ({f"Bearer {OUR_KEY}"}, {f"Bearer {CLIENT_KEY}"})
    assert len(house.upstream.seen) >= 2 * len(CARELESS)


def test_no_answer_holds_our_key_or_the_token(house: House) -> None:
    found = {name: secrets_in(said, client_too=False) for name, said in house.said.items()}
    # What came before our end of the client's own bytes is the client's: it may see its own token.
    assert {name: secrets for name, secrets in found.items() if secrets} == {}


def test_answers_say_the_rest(house: House) -> None:
    if any(CLIENT_KEY in key_of(sent) for sent in house.upstream.seen):
        pytest.skip("a client may see its own key")
    assert b"Incorrect API key provided: Bearer " + MASK.encode() in house.said["401 False"]
    assert MASK.encode() in house.said["event-late True"]
    assert b"you sent: Bearer " + MASK.encode() in house.said["GET  /v1/split"]


@pytest.mark.parametrize(
    "path", ["/health", "/providers", "/v1/models", "/v1/stats", "/v1/requests"]
)
def test_none_of_our_endpoints_tells_one(house: House, path: str) -> None:
    assert secrets_in(json.dumps(house.arbstr.get(path))) == []


def test_the_log_tells_none_at_its_most_talkative(house: House) -> None:
    assert secrets_in(house.arbstr.log) == []
    assert "Traceback" not in house.arbstr.log


def test_the_ledger_holds_none(house: House) -> None:
    assert len(house.arbstr.requests()) >= 2 * len(CARELESS)
    files = [
        path for path in house.folder.rglob("*") if path.is_file() and "config" not in path.name
    ]
    assert any(path.name.endswith("-wal") for path in files)
    assert {
        path.name: secrets_in(path.read_bytes()) for path in files if secrets_in(path.read_bytes())
    } == {}


def test_every_file_it_made_is_for_the_user_alone(house: House) -> None:
    made = [p for p in house.folder.rglob("*") if p.is_file() and p.name.startswith("arbstr.db")]
    assert {p.name for p in made} >= {"arbstr.db", "arbstr.db-wal", "arbstr.db-shm"}
    assert {p.name: oct(stat.S_IMODE(p.stat().st_mode)) for p in made} == {
        p.name: "0o600" for p in made
    }


def test_the_list_of_processes_shows_none(house: House) -> None:
    pid = house.arbstr.process.pid
    assert secrets_in(Path(f"/proc/{pid}/cmdline").read_bytes()) == []
    shown = subprocess.run(
        ["ps", "-ww", "-o", "args", "-p", str(pid)], capture_output=True, check=True
    )
    assert b"serve" in shown.stdout
    assert secrets_in(shown.stdout) == []


def command(folder: Path, *words: str) -> str:
    """What a command prints."""
    code = "import sys; from arbstr.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ARBSTR_TOKEN": TOKEN, "KEY_OF_NODE": OUR_KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


COMMANDS = (
    ("--help",),
    ("serve", "--help"),
    ("check",),
    ("providers",),
    ("models",),
    ("requests",),
    ("costs",),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_prints_one(house: House, words: tuple[str, ...]) -> None:
    extra = () if "--help" in words else ("--config", str(house.folder / "config.toml"))
    printed = command(house.folder, *words, *extra)
    assert printed
    assert secrets_in(printed) == []


def test_an_export_is_for_the_user_alone(house: House, tmp_path: Path) -> None:
    """Whatever the umask says."""
    config_file, output = str(house.folder / "config.toml"), tmp_path / "rows.csv"
    before = os.umask(0)
    try:
        command(tmp_path, "export", "--config", config_file, "--output", str(output))
    finally:
        os.umask(before)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert secrets_in(output.read_bytes()) == []


@pytest.mark.parametrize(
    "line",
    [
        f'api_key = "{OUR_KEY} x"',
        f'api_key = ["{OUR_KEY}"]',
        f'api_key = "{OUR_KEY}\\u0000"',
        f'api_key = "${{{OUR_KEY}}}"',
        f'api_keys = "{OUR_KEY}"',
        f'url = "https://user:{OUR_KEY}@node.example/v1"',
        f'api_key = "{OUR_KEY}',
        f"api_key = {OUR_KEY}",
    ],
)
def test_a_config_that_is_wrong_about_its_key_does_not_tell_it(tmp_path: Path, line: str) -> None:
    text = config("http://127.0.0.1:9/v1", key=line)
    if line.startswith("url"):
        text = text.replace('url = "http://127.0.0.1:9/v1"\n', "")
    (tmp_path / "config.toml").write_text(text)
    (tmp_path / "config.toml").chmod(0o600)
    printed = command(tmp_path, "check", "--config", str(tmp_path / "config.toml"))
    assert "config.toml" in printed
    assert secrets_in(printed) == []


def test_a_config_as_python_shows_it_tells_none(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config("http://127.0.0.1:9/v1", server=f'auth_token = "{TOKEN}"'))
    path.chmod(0o600)
    loaded = load(path, {})
    assert loaded.providers[0].api_key == Secret(OUR_KEY)
    assert secrets_in(repr(loaded)) == []

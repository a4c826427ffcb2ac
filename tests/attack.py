"""What the tests of attacks share: raw bytes to arbstr, and an upstream that keeps what it gets."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

OUR_KEY = "sk-ours-0123456789abcdef-never-to-be-seen"
CLIENT_KEY = "sk-theirs-fedcba9876543210-not-for-the-ledger"
TOKEN = "token-of-this-arbstr-5e1f0c2d"
QUIET_S = 10.0

type Answer = Callable[["Sent"], bytes]


@dataclass(frozen=True)
class Sent:
    """A request as an upstream got it. `fields`: names in lower case, in their order."""

    method: str
    path: str
    fields: list[tuple[str, str]]
    body: bytes
    raw: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


@dataclass(frozen=True)
class Reply:
    """An answer of arbstr. `whole`: it came to its end as its head says."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    whole: bool

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    def json(self) -> Any:  # noqa: ANN401 - decoded JSON
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """``error.code`` of OpenAI's shape, ``error.type`` of Anthropic's."""
        error = self.json()["error"]
        code: str = error.get("code") or error["type"]
        return code


@dataclass
class Upstream:
    """A server on loopback that records every byte it gets and answers what it is told to."""

    answer: Answer
    seen: list[Sent] = field(default_factory=list)
    sent_to: list[socket.socket] = field(default_factory=list)
    open: set[socket.socket] = field(default_factory=set)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in list(self.open):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.add(connection)
            self.sent_to.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        with connection:
            while True:
                try:
                    data = connection.recv(65536)
                    if not data:
                        break
                    buffer += data
                    while (taken := _take(buffer)) is not None:
                        sent, buffer = taken
                        self.seen.append(sent)
                        connection.sendall(self.answer(sent))
                except OSError:
                    break
        self.open.discard(connection)


def _take(buffer: bytes) -> tuple[Sent, bytes] | None:
    head, end, rest = buffer.partition(b"\r\n\r\n")
    if not end:
        return None
    line, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = line.split(" ", 2)
    pairs = [(n.lower(), v.strip()) for n, _, v in (text.partition(":") for text in lines)]
    length = int(dict(pairs).get("content-length", "0"))
    if len(rest) < length:
        return None
    return Sent(method, path, pairs, rest[:length], head + end + rest[:length]), rest[length:]


def http(status: str, body: bytes, *lines: str, kind: str = "application/json") -> bytes:
    """A response of an upstream."""
    head = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def completion(_: Sent) -> bytes:
    """A good chat answer, billed 7 msats."""
    return http("200 OK", COMPLETION)


COMPLETION = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "total_tokens": 2,
            "cost": {"total_msats": 7},
        },
    }
).encode()

CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()


def post(
    path: str = "/v1/chat/completions",
    body: bytes = CHAT,
    *lines: str,
    host: str | None = "127.0.0.1",
    kind: str | None = "application/json",
) -> bytes:
    """A POST, byte by byte as given; `lines` are headers of its own."""
    head = [f"POST {path} HTTP/1.1", *lines, f"Content-Length: {len(body)}"]
    head += [f"Host: {host}"] if host is not None else []
    head += [f"Content-Type: {kind}"] if kind is not None else []
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def get(path: str, *lines: str, method: str = "GET", host: str = "127.0.0.1") -> bytes:
    """A request without a body."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *lines]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n"


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A socket to arbstr."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=QUIET_S) as connection:
        yield connection


def say(url: str, raw: bytes) -> list[Reply]:
    """Send `raw`, say that nothing more comes, and read until arbstr closes: every answer.

    Raises TimeoutError where it neither answers nor closes.
    """
    with connected(url) as connection:
        with contextlib.suppress(OSError):  # it may close before everything was sent
            connection.sendall(raw)
        return read_all(connection)


def ask(url: str, raw: bytes) -> Reply:
    """Send one request, read its one answer."""
    with connected(url) as connection:
        connection.sendall(raw)
        return read_one(connection, head_only=raw.startswith(b"HEAD "))


def read_one(connection: socket.socket, *, head_only: bool = False) -> Reply:
    """The next answer on a connection."""
    buffer = b""
    while True:
        found = _reply(buffer, head_only=head_only, ended=False)
        if found is not None:
            return found[0]
        data = connection.recv(65536)
        if not data:
            last = _reply(buffer, head_only=head_only, ended=True)
            assert last is not None, f"closed after {buffer[:200]!r}"
            return last[0]
        buffer += data


def read_all(connection: socket.socket) -> list[Reply]:
    """Every answer until arbstr closes, or a connection that it keeps has been quiet after one."""
    buffer, replies = b"", []
    while True:
        while (found := _reply(buffer, head_only=False, ended=False)) is not None:
            replies.append(found[0])
            buffer = found[1]
        if replies:
            connection.settimeout(0.3)
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            data = b""
        except TimeoutError:
            if replies and not buffer:
                return replies
            raise
        if not data:
            last = _reply(buffer, head_only=False, ended=True)
            return [*replies, last[0]] if last is not None else replies
        buffer += data


def parse(data: bytes, *, head_only: bool = False) -> list[Reply]:
    """Every answer in `data`; the last may be cut. `head_only`: the first one answers a HEAD."""
    replies: list[Reply] = []
    while data:
        found = _reply(data, head_only=head_only and not replies, ended=True)
        if found is None and data.startswith(b"HTTP/1.1 100 "):
            break
        assert found is not None, f"no answer: {data[:200]!r}"
        replies.append(found[0])
        data = found[1]
    return replies


def _reply(buffer: bytes, *, head_only: bool, ended: bool) -> tuple[Reply, bytes] | None:
    head, end, rest = buffer.partition(b"\r\n\r\n")
    if not end:
        return None
    line, *lines = head.decode("latin-1").split("\r\n")
    status = int(line.split(" ")[1])
    pairs = [(n.lower(), v.strip()) for n, _, v in (text.partition(":") for text in lines)]
    if status == 100:
        return _reply(rest, head_only=head_only, ended=ended)
    if head_only or status == 204:
        return Reply(status, pairs, b"", whole=True), rest
    fields = dict(pairs)
    if fields.get("transfer-encoding") == "chunked":
        found = _unchunk(rest)
        if found is not None:
            return Reply(status, pairs, found[0], whole=True), found[1]
        return (Reply(status, pairs, rest, whole=False), b"") if ended else None
    length = int(fields["content-length"]) if "content-length" in fields else None
    if length is not None and len(rest) >= length:
        return Reply(status, pairs, rest[:length], whole=True), rest[length:]
    return (Reply(status, pairs, rest, whole=length is None), b"") if ended else None


def _unchunk(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        size, end, data = data.partition(b"\r\n")
        if not end:
            return None
        length = int(size, 16)
        if len(data) < length + 2:
            return None
        body, data = body + data[:length], data[length + 2 :]
        if length == 0:
            return body, data


def config(
    url: str, *, server: str = "", limits: str = "", key: str = f'api_key = "{OUR_KEY}"'
) -> str:
    """A config with one provider that sells anything."""
    return "\n".join(
        (
            "[server]", server, "[fallback]", 'shutdown_grace = "0s"', "[limits]", limits,
            "[[providers]]", 'name = "node"', f'url = "{url}"', 'sync = "off"', key,
        )
    )  # fmt: skip

"""The client's side of the benchmarks: requests as bytes, one blocking connection, its clock."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping
from typing import Self

PATH = "/v1/chat/completions"
TEXT = "Say hello, and ask what you can do for me today."
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TIMEOUT_S = 30.0


class NoAnswerError(Exception):
    """Something else than a whole good answer."""


def body(text: str = TEXT, *, stream: bool = False, filler_bytes: int = 0) -> bytes:
    """A chat body. `filler_bytes`: so much of an earlier conversation, 4 KiB a message."""
    size = 4096
    sentence = 'It was said before that "this" matters, and so it\'s repeated here.\n'
    turns = [
        {"role": ("user", "assistant")[n % 2], "content": (sentence * 70)[:size]}
        for n in range(filler_bytes // size)
    ]
    messages = [*turns, {"role": "user", "content": text}]
    return json.dumps(
        {"model": "gpt-4o-mini", "stream": stream, "max_tokens": 256, "messages": messages}
    ).encode()


def request(port: int, content: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole request."""
    lines = [
        f"POST {PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}", "User-Agent: arbstr-bench/1",
        "Content-Type: application/json", "Authorization: Bearer sk-client",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
        f"Content-Length: {len(content)}", "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + content


class Line:
    """One connection that asks, waits for the whole answer, and asks again."""

    def __init__(self, port: int) -> None:
        """Connect at once."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, wire: bytes) -> bytes:
        """Send a request, return the whole response. Raises NoAnswerError for any but a 200."""
        self._socket.sendall(wire)
        got = b""
        while not is_whole(got):
            got += self._more()
        if not got.startswith(b"HTTP/1.1 200"):
            raise NoAnswerError(f"not a 200: {got[:600]!r}")
        return got

    def time_ask(self, wire: bytes) -> float:
        """How long `ask` takes, in ms."""
        start = time.perf_counter()
        self.ask(wire)
        return (time.perf_counter() - start) * 1000

    def time_token(self, wire: bytes) -> float:
        """The time to the first token of a stream, in ms; the rest is read as well."""
        start = time.perf_counter()
        self._socket.sendall(wire)
        got = b""
        while b"tok0" not in got:
            got += self._more()
        first = (time.perf_counter() - start) * 1000
        while not is_whole(got):
            got += self._more()
        return first

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise NoAnswerError("the connection was closed")
        return data


def is_whole(got: bytes) -> bool:
    """Whether `got` holds a response to its end."""
    end = got.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(got, 0, end)
    if length is None:
        return got.endswith(b"0\r\n\r\n")
    return len(got) >= end + 4 + int(length[1])


def check_answer(port: int, headers: Mapping[str, str]) -> None:
    """Have one request answered. Raises NoAnswerError for any but a 200."""
    with Line(port) as line:
        answer = line.ask(request(port, body(), headers))
    if b"How can I help" not in answer:
        raise NoAnswerError(f"not the upstream's answer: {answer[-600:]!r}")

"""The upstream of the benchmarks: routstr-shaped chat answers, as cheap as asyncio can send them.

It runs as a process of its own (``python -m tests.bench.upstream``), prints its port, and ends with
its standard input. What it answers stands in the request, so that it passes through every proxy: a
body with ``"stream": true`` gets events, and a text ``events=20 gap_ms=50`` in it says how many
tokens, how far apart. Bodies over 64 KiB are counted, not kept, and get the plain answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping

_KEPT_BYTES = 64 << 10
_EVENTS, _GAP_MS = 20, 0
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"transfer-encoding: *chunked", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_PACE = re.compile(rb"events=(\d+) gap_ms=(\d+)")

_COST = {
    "base_msats": 0, "input_msats": 2, "output_msats": 6, "total_msats": 8, "total_usd": 8e-06,
    "input_tokens": 11, "output_tokens": 9, "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0, "cache_read_msats": 0, "cache_creation_msats": 0,
    "sats_cost": 0, "remaining_balance_msats": 9_999_906,
}  # fmt: skip
_USAGE = {
    "prompt_tokens": 11, "completion_tokens": 9, "total_tokens": 20, "cost": _COST, "cost_sats": 0,
    "remaining_balance_msats": 9_999_906,
}  # fmt: skip
_BILL = {
    "usage": _USAGE, "provider": "generic", "metadata": {"routstr": {"cost": _COST}}, "cost": _COST,
}  # fmt: skip


def _object(kind: str, choices: list[object], more: Mapping[str, object]) -> bytes:
    whole = {
        "id": "chatcmpl-L5ehtuWv3n7DWxeX", "object": kind, "created": 1_795_393_207,
        "model": "gpt-4o-mini", "choices": choices, **more,
    }  # fmt: skip
    return json.dumps(whole).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: Mapping[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = _object("chat.completion.chunk", [choice], {"provider": "generic"})
    return _chunk(b"data: " + body + b"\n\n")


_SERVER = b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 00:20:06 GMT\r\nserver: uvicorn\r\n"
_MESSAGE = {"role": "assistant", "content": "Hello! How can I help you today?", "refusal": None}
_CHOICE = {"index": 0, "message": _MESSAGE, "logprobs": None, "finish_reason": "stop"}
_PLAIN_BODY = _object("chat.completion", [_CHOICE], _BILL)
PLAIN = (
    _SERVER
    + b"content-type: application/json\r\nx-routstr-cost-msats: 8\r\ncontent-length: "
    + str(len(_PLAIN_BODY)).encode()
    + b"\r\nx-routstr-request-id: d21d9883-b45c-43bf-abde-1db7177f16a2\r\n\r\n"
    + _PLAIN_BODY
)
"""A whole plain answer, some 1.3 KB as in the capture ``chat_ok``."""
HEAD = (
    _SERVER
    + b"content-type: text/event-stream\r\ncache-control: no-cache\r\n"
    + b"transfer-encoding: chunked\r\n\r\n"
    + _event({"role": "assistant", "content": ""})
)
_LAST_BODY = _object("chat.completion.chunk", [], _BILL)
TAIL = (
    _event({}, "stop")
    + _chunk(b"data: " + _LAST_BODY + b"\n\n")
    + _chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)
TOKEN = _event({"content": "tok000000 "}).replace(b"000000", b"%06d")
"""A token on the wire, its number left out."""


class Upstream(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left_bytes = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone: a stream that is under way stops."""
        del exc
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        if self._left_bytes:
            self._left_bytes -= len(data)
            if self._left_bytes == 0:
                self._send(PLAIN)
            return
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[: end + 4])
            if _CHUNKED.search(head):
                if not self._buffer.endswith(b"0\r\n\r\n"):
                    return
                size = len(self._buffer) - len(head)
            else:
                length = _LENGTH.search(head)
                size = int(length[1]) if length else 0
            have = len(self._buffer) - len(head)
            if have < size:
                if size > _KEPT_BYTES:
                    self._left_bytes = size - have
                    self._buffer.clear()
                return
            body = bytes(self._buffer[len(head) : len(head) + size])
            del self._buffer[: len(head) + size]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        if not _STREAM.search(body):
            self._send(PLAIN)
            return
        pace = _PACE.search(body)
        events, gap_ms = (int(pace[1]), int(pace[2])) if pace else (_EVENTS, _GAP_MS)
        self._send(HEAD)
        if gap_ms == 0:
            self._send(b"".join(TOKEN % n for n in range(events)) + TAIL)
            return
        self._next(0, events, gap_ms / 1000, asyncio.get_running_loop().time())

    def _next(self, n: int, events: int, gap_s: float, at_s: float) -> None:
        """Token `n` now, the next one where the pace wants it, however late this one is."""
        if self._transport is None:
            return
        if n == events:
            self._send(TAIL)
            return
        self._send(TOKEN % n)
        following = at_s + gap_s
        loop = asyncio.get_running_loop()
        loop.call_at(following, self._next, n + 1, events, gap_s, following)

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())

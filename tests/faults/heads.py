"""Faults of the connection and of the head: little or nothing of an answer comes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping

from tests.faults import answers, good
from tests.faults.wire import Behaviour, Exchange, table


async def reset_before(x: Exchange) -> None:
    """The request is read, then the connection is reset."""
    await x.reset()


async def close_before(x: Exchange) -> None:
    """The request is read, then the connection is closed."""
    await x.close()


async def reset_head(x: Exchange) -> None:
    """A reset in the middle of the head."""
    await x.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-str")
    await x.reset()


async def close_head(x: Exchange) -> None:
    """The connection is closed in the middle of the head."""
    await x.raw(b"HTTP/1.1 200 OK\r\ncontent-ty")
    await x.close()


async def head_reset(x: Exchange) -> None:
    """A whole head, then a reset."""
    await x.head(200, good.kind_of(x))
    await x.reset()


async def head_close(x: Exchange) -> None:
    """A whole head, then the connection is closed."""
    await x.head(200, good.kind_of(x))
    await x.close()


async def silent(x: Exchange) -> None:
    """No answer at all."""
    await x.gone()


async def head_silent(x: Exchange) -> None:
    """A whole head, and then nothing any more."""
    await x.head(200, good.kind_of(x))
    await x.gone()


async def late(x: Exchange) -> None:
    """The right answer after ``=MS`` milliseconds, billed whether somebody waits or not."""
    x.bill()
    await asyncio.sleep(int(x.argument) / 1000)
    await good.ok(x)


async def trickle(x: Exchange) -> None:
    """A plain answer in crumbs: bytes all the time, whole only after ``=MS`` milliseconds."""
    bill = x.bill()
    body = answers.completion(x.model, answers.text_of(x.nonce), answers.cost_members(bill))
    await x.head(200, {"content-type": "application/json", "content-length": str(len(body))})
    crumbs = 12
    for start in range(crumbs):
        await x.write(body[start : start + 1])
        await asyncio.sleep(int(x.argument) / 1000 / crumbs)
    await x.write(body[crumbs:])
    await x.end()


async def left_before(x: Exchange) -> None:
    """The right answer, when the client has left."""
    x.bill()
    await x.client_left()
    await good.ok(x)


async def left_fails(x: Exchange) -> None:
    """500, when the client has left."""
    await x.client_left()
    await x.reply(500, json.dumps(answers.error_body(500, good.MARK)).encode())


async def garbage(x: Exchange) -> None:
    """No HTTP."""
    await x.raw(b"\x00\x01\x02 SSH-2.0-OpenSSH_9.7\r\n\r\n")
    await x.close()


async def bad_status(x: Exchange) -> None:
    """A status line that is none."""
    await x.raw(b"HTTP/1.1 twohundred OK\r\ncontent-length: 2\r\n\r\n{}")
    await x.close()


async def two_lengths(x: Exchange) -> None:
    """Two content-lengths that differ."""
    await x.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{}   ")
    await x.close()


async def endless_head(x: Exchange) -> None:
    """Header lines for ever."""
    await x.raw(b"HTTP/1.1 200 OK\r\n")
    for _ in range(4096):
        await x.raw(b"x-filler: " + b"a" * 8182 + b"\r\n")
    x.turn.notes.append("32 MB of header lines were taken")
    await x.close()


async def endless_line(x: Exchange) -> None:
    """One header line for ever."""
    await x.raw(b"HTTP/1.1 200 OK\r\nx-filler: ")
    for _ in range(4096):
        await x.raw(b"a" * 8192)
    x.turn.notes.append("32 MB of a header line were taken")
    await x.close()


async def slow_head(x: Exchange) -> None:
    """A header line now and then, for ever."""
    await x.raw(b"HTTP/1.1 200 OK\r\n")
    until = time.monotonic() + x.upstream.hang_s
    while time.monotonic() < until:
        await x.raw(b"x-filler: a\r\n")
        await asyncio.sleep(0.05)
    await x.close()


async def early(x: Exchange) -> None:
    """An interim response ``=STATUS`` first."""
    hint = b"link: </style.css>; rel=preload\r\n" if x.argument == "103" else b""
    await x.raw(b"HTTP/1.1 %b Interim\r\n%b\r\n" % (x.argument.encode(), hint))
    await good.ok(x)


async def endless_early(x: Exchange) -> None:
    """Interim responses for ever."""
    for _ in range(20_000):
        await x.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n")
    x.turn.notes.append("20,000 interim responses were taken")
    await x.close()


async def idle_reset(x: Exchange) -> None:
    """Good on a fresh connection; a second request on it is reset."""
    await (x.reset() if x.served else good.ok(x))


async def idle_reset_twice(x: Exchange) -> None:
    """Good the first time of all; after that only resets."""
    await (x.reset() if x.turn.n else good.ok(x))


async def idle_close(x: Exchange) -> None:
    """Good, then the connection is closed without a word."""
    await good.ok(x)
    await x.close()


BEHAVIOURS: Mapping[str, Behaviour] = table(
    reset_before, close_before, reset_head, close_head, head_reset, head_close, silent,
    head_silent, late, trickle, left_before, left_fails, garbage, bad_status, two_lengths,
    endless_head, endless_line, slow_head, early, endless_early, idle_reset, idle_reset_twice,
    idle_close,
)  # fmt: skip

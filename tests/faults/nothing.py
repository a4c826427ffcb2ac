"""Streams in which nothing of use comes; and two good ones, for clients that leave or are slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from tests.faults import answers, good
from tests.faults.wire import Behaviour, Exchange, table

OVERSIZED_BYTES = 9_000_000
"""More than `limits.event_bytes` is by default."""


async def error_first(x: Exchange) -> None:
    """An error event first."""
    await x.head(200, {"content-type": "text/event-stream"})
    await x.write(answers.event(answers.error_body(502, "the upstream says so")) + answers.DONE)
    await x.end()


async def comments_only(x: Exchange) -> None:
    """Comment lines, then the end."""
    await x.head(200, {"content-type": "text/event-stream"})
    for _ in range(5):
        await x.write(b": OPENROUTER PROCESSING\n\n")
    await x.end()


async def done_first(x: Exchange) -> None:
    """``[DONE]`` and nothing else."""
    await x.head(200, {"content-type": "text/event-stream"})
    await x.write(answers.DONE)
    await x.end()


async def role_only(x: Exchange) -> None:
    """The role, then a clean end."""
    await good.open_stream(x)
    await x.end()


async def role_stop(x: Exchange) -> None:
    """The role, a ``finish_reason`` and ``[DONE]``, but no text."""
    await good.open_stream(x)
    await good.finish(x)
    await x.write(answers.DONE)
    await x.end()


async def role_reset(x: Exchange) -> None:
    """The role, then a reset."""
    await good.open_stream(x)
    await x.reset()


async def broken_first(x: Exchange) -> None:
    """A first event of broken JSON."""
    await x.head(200, {"content-type": "text/event-stream"})
    await x.write(b'data: {"id": "chatcmpl-1", "choices": [{"delta"\n\n')
    await x.write(answers.DONE)
    await x.end()


async def oversized_first(x: Exchange) -> None:
    """A first event larger than any allowed."""
    await x.head(200, {"content-type": "text/event-stream"})
    await good.text(x, "x" * OVERSIZED_BYTES)
    await x.gone()


async def comments_for_ever(x: Exchange) -> None:
    """Comments, more often than the idle limit, and never a token."""
    await x.head(200, {"content-type": "text/event-stream"})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(x.upstream.hang_s):
            while True:
                await x.write(b": keep-alive\n\n")
                await asyncio.sleep(0.1)
    await x.close()


async def left(x: Exchange) -> None:
    """Text; when the client has left, the rest of it and the bill."""
    members = answers.cost_members(x.bill())
    await good.open_stream(x)
    await good.some_text(x)
    await x.client_left()
    await good.rest_of_text(x)
    await good.finish(x)
    await good.usage(x, members)
    await x.write(answers.DONE)
    await x.end()


async def flood(x: Exchange) -> None:
    """``=MB`` megabytes of text in events of 10 kB, and a good end."""
    members = answers.cost_members(x.bill())
    await good.open_stream(x)
    await good.some_text(x)
    one = answers.event(answers.chunk(x.model, {"content": "f" * 10_000}))
    for _ in range(int(x.argument) * 100):
        await x.write(one)
    await good.finish(x)
    await good.usage(x, members)
    await x.write(answers.DONE)
    await x.end()


BEHAVIOURS: Mapping[str, Behaviour] = table(
    error_first, comments_only, done_first, role_only, role_stop, role_reset, broken_first,
    oversized_first, comments_for_ever, left, flood,
)  # fmt: skip

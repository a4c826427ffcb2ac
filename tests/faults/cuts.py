"""Streams that break in the middle, when the client has text already."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from tests.faults import answers, good
from tests.faults.nothing import OVERSIZED_BYTES
from tests.faults.wire import Behaviour, Exchange, table


async def cut(x: Exchange) -> None:
    """Text, then the clean end of the body: no usage, no ``[DONE]``."""
    await good.open_stream(x)
    await good.some_text(x)
    await x.end()


async def cut_close(x: Exchange) -> None:
    """Text, then the connection is closed."""
    await good.open_stream(x)
    await good.some_text(x)
    await x.close()


async def cut_reset(x: Exchange) -> None:
    """Text, then a reset."""
    await good.open_stream(x)
    await good.some_text(x)
    await x.reset()


async def cut_in_event(x: Exchange) -> None:
    """Text, then the clean end of the body inside an event."""
    await good.open_stream(x)
    await good.some_text(x)
    await x.write(b'data: {"id": "chatcmpl-fault", "choices": [{"index": 0, "de')
    await x.end()


async def stall(x: Exchange) -> None:
    """Text, then silence."""
    await good.open_stream(x)
    await good.some_text(x)
    await x.gone()


async def stall_then_end(x: Exchange) -> None:
    """Text, then ``=MS`` milliseconds of silence, then the rest, billed."""
    members = answers.cost_members(x.bill())
    await good.open_stream(x)
    await good.some_text(x)
    await asyncio.sleep(int(x.argument) / 1000)
    await good.rest_of_text(x)
    await good.finish(x)
    await good.usage(x, members)
    await x.write(answers.DONE)
    await x.end()


async def drip(x: Exchange) -> None:
    """Text without end, piece by piece, for ever."""
    await good.open_stream(x)
    await good.some_text(x)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(x.upstream.hang_s):
            while True:
                await good.text(x, "")
                await asyncio.sleep(0.1)
    await x.close()


async def error_mid(x: Exchange) -> None:
    """Text, an error event, a usage of nothing, ``[DONE]`` (capture `odd_error_event_stream`)."""
    await good.open_stream(x)
    await good.some_text(x)
    error = {"message": "Provider disconnected", "type": "server_error", "code": 502}
    await x.write(answers.event({"error": error, "model": x.model}))
    x.turn.billed_msats, x.turn.source = 0, "billed"
    await good.usage(x, answers.cost_members(answers.Bill(0, 0, 0)))
    await x.write(answers.DONE)
    await x.end()


async def broken_mid(x: Exchange) -> None:
    """Text, then an event of broken JSON, then the rest as if nothing had been."""
    await good.open_stream(x)
    await good.some_text(x)
    await x.write(b'data: {"id": "chatcmpl-fault", "choices": [{"index": 0,, ]}\n\n')
    await good.rest_of_text(x)
    await good.finish(x)
    await x.write(answers.DONE)
    await x.end()


async def oversized_mid(x: Exchange) -> None:
    """Text, then an event larger than any allowed."""
    await good.open_stream(x)
    await good.some_text(x)
    await good.text(x, "x" * OVERSIZED_BYTES)
    await x.gone()


async def lying_chunk_mid(x: Exchange) -> None:
    """Text, then a chunk shorter than it says it is."""
    await good.open_stream(x)
    await good.some_text(x)
    await x.raw(b'fff\r\ndata: {"choices": [')
    await x.close()


async def bad_chunk_mid(x: Exchange) -> None:
    """Text, then a chunk size that is no number."""
    await good.open_stream(x)
    await good.some_text(x)
    await x.raw(b"data: hello\r\n\r\n")
    await x.gone()


async def end_without_usage(x: Exchange) -> None:
    """All the text and a ``finish_reason``; neither usage nor ``[DONE]``."""
    await good.open_stream(x)
    await good.some_text(x)
    await good.rest_of_text(x)
    await good.finish(x)
    await x.end()


async def end_without_finish(x: Exchange) -> None:
    """All the text and usage; neither a ``finish_reason`` nor ``[DONE]``."""
    members = answers.cost_members(x.bill())
    await good.open_stream(x)
    await good.some_text(x)
    await good.rest_of_text(x)
    await good.usage(x, members)
    await x.end()


async def tool_cut(x: Exchange) -> None:
    """A tool call instead of text, then the clean end of the body."""
    call = {"index": 0, "id": "call_1", "type": "function"}
    call |= {"function": {"name": "search", "arguments": '{"q"'}}
    await good.open_stream(x)
    await x.write(answers.event(answers.chunk(x.model, {"tool_calls": [call]})))
    await x.client_has_text()
    await x.end()


BEHAVIOURS: Mapping[str, Behaviour] = table(
    cut, cut_close, cut_reset, cut_in_event, stall, stall_then_end, drip, error_mid, broken_mid,
    oversized_mid, lying_chunk_mid, bad_chunk_mid, end_without_usage, end_without_finish,
    tool_cut,
)  # fmt: skip

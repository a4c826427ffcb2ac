"""Good streams in odd clothes: the client must get every one of them whole."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

from tests.faults import answers
from tests.faults.wire import Behaviour, Exchange, table

BIG_BYTES = 5_000_000


def _events(x: Exchange) -> list[bytes]:
    """The events of a whole stream, billed."""
    members = answers.cost_members(x.bill())
    return answers.whole_stream(x.model, answers.text_of(x.nonce), members)


async def _send(x: Exchange, pieces: list[bytes], pause_s: float = 0.0) -> None:
    await x.head(200, {"content-type": "text/event-stream"})
    for piece in pieces:
        await x.write(piece)
        await asyncio.sleep(pause_s)
    await x.end()


async def byte_by_byte(x: Exchange) -> None:
    """One byte at a time."""
    await _send(x, [bytes([byte]) for byte in b"".join(_events(x))])


async def split_utf8(x: Exchange) -> None:
    """Every chunk ends inside a character, wherever there is one of several bytes."""
    data = b"".join(_events(x))
    cuts = [at for at in range(1, len(data)) if data[at] & 0xC0 == 0x80]
    starts = [0, *cuts, len(data)]
    await _send(x, [data[a:b] for a, b in itertools.pairwise(starts)], 0.001)


async def crlf(x: Exchange) -> None:
    """Lines end with CR LF."""
    await _send(x, [one.replace(b"\n", b"\r\n") for one in _events(x)])


async def split_crlf(x: Exchange) -> None:
    """Lines end with CR LF, and every chunk ends inside one of the two that end an event."""
    pieces = [one.replace(b"\n", b"\r\n") for one in _events(x)]
    halves = [half for one in pieces for half in (one[:-3], one[-3:-1], one[-1:])]
    await _send(x, halves, 0.001)


async def lone_cr(x: Exchange) -> None:
    """Lines end with CR alone."""
    await _send(x, [one.replace(b"\n", b"\r") for one in _events(x)])


async def one_piece(x: Exchange) -> None:
    """All events in one chunk."""
    await _send(x, [b"".join(_events(x))])


async def big_event(x: Exchange) -> None:
    """5 MB of reasoning in one event, then the text."""
    big = answers.event(answers.chunk(x.model, {"reasoning": "r" * BIG_BYTES}))
    events = _events(x)
    await _send(x, [events[0], big, *events[1:]])


async def comments_mid(x: Exchange) -> None:
    """Comments for ``=MS`` milliseconds after the first text, longer than the idle limit."""
    events = _events(x)
    comments = [b": keep-alive\n\n"] * 20
    pause_s = int(x.argument) / 1000 / len(comments)
    await x.head(200, {"content-type": "text/event-stream"})
    for one in events[:3]:
        await x.write(one)
    await x.client_has_text()
    for one in comments:
        await x.write(one)
        await asyncio.sleep(pause_s)
    for one in events[3:]:
        await x.write(one)
    await x.end()


async def comments_before(x: Exchange) -> None:
    """A few comments first."""
    await _send(x, [b": OPENROUTER PROCESSING\n\n"] * 3 + _events(x), 0.001)


async def usage_every(x: Exchange) -> None:
    """Usage on every event, growing; the last one counts."""
    bill = x.bill()
    *text, finish, _usage, done = answers.whole_stream(x.model, answers.text_of(x.nonce), {})
    counted = []
    for number, one in enumerate(text):
        part = answers.Bill(bill.input_tokens, number, number)
        members = answers.event(answers.cost_members(part)).decode()[7:-3]
        counted.append(one[:-3] + f", {members}}}\n\n".encode())
    last = answers.event(answers.usage_chunk(x.model, answers.cost_members(bill)))
    await _send(x, [*counted, finish, last, done])


async def usage_no_cost(x: Exchange) -> None:
    """Counts, but no word on cost."""
    members = {"usage": answers.counts(x.unbilled_usage())}
    await _send(x, answers.whole_stream(x.model, answers.text_of(x.nonce), members))


async def no_usage(x: Exchange) -> None:
    """No usage at all."""
    events = answers.whole_stream(x.model, answers.text_of(x.nonce), {})
    await _send(x, [*events[:-2], answers.DONE])


async def no_done(x: Exchange) -> None:
    """A ``finish_reason`` and usage, but no ``[DONE]`` (capture `odd_no_done_stream`)."""
    await _send(x, _events(x)[:-1])


async def done_unended(x: Exchange) -> None:
    """``[DONE]`` without the empty line that ends an event."""
    await _send(x, [*_events(x)[:-1], b"data: [DONE]\n"])


async def after_done(x: Exchange) -> None:
    """More events after ``[DONE]``."""
    more = answers.event(answers.chunk(x.model, {"content": "and one more thing"}))
    await _send(x, [*_events(x), more, answers.DONE, b"garbage"])


async def no_space(x: Exchange) -> None:
    """``data:`` without the space, with an ``id`` and an ``event`` line."""
    head = b"id: 7\nevent: message\n"
    await _send(x, [head + one.replace(b"data: ", b"data:", 1) for one in _events(x)])


BEHAVIOURS: Mapping[str, Behaviour] = table(
    byte_by_byte, split_utf8, crlf, split_crlf, lone_cr, one_piece, big_event, comments_mid,
    comments_before, usage_every, usage_no_cost, no_usage, no_done, done_unended, after_done,
    no_space,
)  # fmt: skip

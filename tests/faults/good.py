"""The right answer, plain and streamed, and the parts that broken ones are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from tests.faults import answers
from tests.faults.codings import Encoder
from tests.faults.wire import Behaviour, Exchange, table

HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1><p>nginx</p></body></html>"
MARK = "the upstream says so"
"""Stands in every error message of ours, so that the client's can be recognised as it."""
EARLY = 3
"""How many pieces come before the client has been seen reading."""


async def ok(x: Exchange) -> None:
    """The right answer."""
    if x.stream:
        await stream(x)
    else:
        await plain(x)


async def plain(x: Exchange, encode: Callable[[bytes], bytes] = bytes, **headers: str) -> None:
    """A whole answer with its bill. `encode`: applied to the body."""
    bill = x.bill()
    body = answers.completion(x.model, answers.text_of(x.nonce), answers.cost_members(bill))
    cost = {"x-routstr-cost-msats": str(bill.msats)}
    await x.reply(200, encode(body), cost | headers)


async def stream(x: Exchange, encoder: Encoder | None = None, encoding: str = "") -> None:
    """A whole stream; its middle comes only when the client has read its beginning."""
    members = answers.cost_members(x.bill())
    events = answers.whole_stream(x.model, answers.text_of(x.nonce), members)
    code = encoder.feed if encoder else bytes
    kind = {"content-type": "text/event-stream", "cache-control": "no-cache"}
    await x.head(200, kind | ({"content-encoding": encoding} if encoding else {}))
    for number, one in enumerate(events):
        if number == 1 + EARLY:
            await x.client_has_text()
        await x.write(code(one))
    await x.write(encoder.finish() if encoder else b"")
    await x.end()


async def error(x: Exchange, number: int, body: answers.Json, **headers: str) -> None:
    """An error with a JSON body."""
    await x.reply(number, json.dumps(body).encode(), headers)


def kind_of(x: Exchange) -> dict[str, str]:
    """The content-type that was asked for."""
    return {"content-type": "text/event-stream" if x.stream else "application/json"}


async def open_stream(x: Exchange, **headers: str) -> None:
    """The head, and the event with the role, which is no text yet."""
    await x.head(200, {"content-type": "text/event-stream", "cache-control": "no-cache"} | headers)
    await x.write(answers.event(answers.chunk(x.model, {"role": "assistant", "content": ""})))


async def some_text(x: Exchange) -> None:
    """The first pieces of the text, and a wait until the client has them."""
    for piece in answers.pieces_of(answers.text_of(x.nonce))[:EARLY]:
        await text(x, piece)
    await x.client_has_text()


async def rest_of_text(x: Exchange) -> None:
    """The other pieces."""
    for piece in answers.pieces_of(answers.text_of(x.nonce))[EARLY:]:
        await text(x, piece)


async def text(x: Exchange, piece: str) -> None:
    """One event with some text."""
    await x.write(answers.event(answers.chunk(x.model, {"content": piece})))


async def finish(x: Exchange) -> None:
    """The event with the ``finish_reason``."""
    await x.write(answers.event(answers.chunk(x.model, {}, "stop")))


async def usage(x: Exchange, members: answers.Json) -> None:
    """The event with usage and cost."""
    await x.write(answers.event(answers.usage_chunk(x.model, members)))


BEHAVIOURS: Mapping[str, Behaviour] = table(ok)

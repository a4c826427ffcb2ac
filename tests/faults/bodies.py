"""A 200 that is no answer, and plain answers in odd clothes."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping

from tests.faults import answers, codings, good
from tests.faults.wire import Behaviour, Exchange, table


async def ok_error(x: Exchange) -> None:
    """An error body."""
    await good.error(x, 200, answers.error_body(500, f"500 in a 200: {good.MARK}"))


async def html(x: Exchange) -> None:
    """An HTML page."""
    await x.reply(200, good.HTML, {"content-type": "text/html; charset=utf-8"})


async def empty(x: Exchange) -> None:
    """Nothing."""
    await x.reply(200, b"", good.kind_of(x))


async def no_content(x: Exchange) -> None:
    """204."""
    await x.raw(b"HTTP/1.1 204 No Content\r\n\r\n")


async def broken_json(x: Exchange) -> None:
    """Broken JSON."""
    await x.reply(200, b'{"id": "chatcmpl-1", "choices": [{"index": 0,, "message": }]}')


async def json_array(x: Exchange) -> None:
    """JSON, but no object."""
    await x.reply(200, b'["hello"]')


async def truncated(x: Exchange) -> None:
    """Fewer bytes than the content-length says."""
    body = answers.completion(x.model, answers.text_of(x.nonce), {})
    await x.head(200, {"content-type": "application/json", "content-length": str(len(body) + 500)})
    await x.write(body[: len(body) // 2])
    await x.close()


async def no_choices(x: Exchange) -> None:
    """A completion without choices."""
    body = json.loads(answers.completion(x.model, "", {})) | {"choices": []}
    await x.reply(200, json.dumps(body).encode())


async def wrong_kind(x: Exchange) -> None:
    """JSON for who asked for a stream, a stream for who did not."""
    if x.stream:
        await x.reply(200, answers.completion(x.model, answers.text_of(x.nonce), {}))
        return
    events = answers.whole_stream(x.model, answers.text_of(x.nonce), {})
    await x.reply(200, b"".join(events), {"content-type": "text/event-stream"})


async def lying_chunk(x: Exchange) -> None:
    """A first chunk shorter than it says it is."""
    await x.head(200, good.kind_of(x))
    await x.raw(b'fff\r\n{"id": "chatcmpl-1", "choi')
    await x.close()


async def bad_chunk(x: Exchange) -> None:
    """A chunk size that is no number."""
    await x.head(200, good.kind_of(x))
    await x.raw(b'zz\r\n{"id": "chatcmpl-1"}\r\n0\r\n\r\n')
    await x.close()


async def bad_encoding(x: Exchange) -> None:
    """Noise that calls itself gzip."""
    await x.reply(200, b"this is not gzip at all", good.kind_of(x) | {"content-encoding": "gzip"})


async def encoded(x: Exchange) -> None:
    """Good, in content-encoding ``=NAME``, which nobody had asked for."""
    if x.stream:
        await good.stream(x, encoder=codings.encoder(x.argument), encoding=x.argument)
        return
    encode = functools.partial(codings.encoded, x.argument)
    await good.plain(x, encode, **{"content-encoding": x.argument})


async def trailing(x: Exchange) -> None:
    """Good, and garbage behind its end."""
    await good.ok(x)
    await x.raw(b'\r\n{"leftover": true}\r\nHTTP/1.1 200 OK\r\n\r\n')
    await x.close()


async def chunked(x: Exchange) -> None:
    """Good, not streamed, in chunks of 7 bytes."""
    bill = x.bill()
    body = answers.completion(x.model, answers.text_of(x.nonce), answers.cost_members(bill))
    await x.head(200, {"content-type": "application/json"})
    for start in range(0, len(body), 7):
        await x.write(body[start : start + 7])
    await x.end()


async def usage_alone(x: Exchange) -> None:
    """Good, with counts but no word on cost."""
    bill = x.unbilled_usage()
    usage = {"usage": answers.counts(bill)}
    await x.reply(200, answers.completion(x.model, answers.text_of(x.nonce), usage))


async def nothing_counted(x: Exchange) -> None:
    """Good, without usage and cost."""
    await x.reply(200, answers.completion(x.model, answers.text_of(x.nonce), {}))


BEHAVIOURS: Mapping[str, Behaviour] = table(
    ok_error, html, empty, no_content, broken_json, json_array, truncated, no_choices,
    wrong_kind, lying_chunk, bad_chunk, bad_encoding, encoded, trailing, chunked, usage_alone,
    nothing_counted,
)  # fmt: skip

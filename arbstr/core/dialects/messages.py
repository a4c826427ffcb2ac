"""Anthropic messages: ``POST /v1/messages`` and ``/v1/messages/count_tokens``.

Source: Anthropic API reference, "Messages" and "Streaming messages"; captures ``messages_*``.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.body import Members
from arbstr.core.dialects.base import (
    Dialect,
    Facts,
    Judge,
    Mark,
    Problem,
    StreamReader,
    as_object,
    common_edits,
    error_object,
    fingerprint,
    image_bytes,
    length,
    positive,
    read_model,
    texts,
)
from arbstr.core.errors import read_error
from arbstr.core.price import merge_bills, read_bill
from arbstr.core.shapes import mapping, objects
from arbstr.core.sse import Event, encode
from arbstr.core.usage import count, from_anthropic

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_ERROR_IN_200 = "a 200 answer holds an error"
_OUTPUT_COUNTS = ("output_tokens", "reasoning_tokens")
_COUNTS = ("input_tokens", "cached_tokens", "cache_write_tokens", *_OUTPUT_COUNTS)


def read_ask(members: Members) -> Ask:
    """Read a Messages body. Raises BadBodyError for a model that is missing or no string."""
    said = members.value("messages")
    messages = objects(said)
    users = [t for m in messages if m.get("role") == "user" and (t := texts(m.get("content")))]
    images = [
        image_bytes(source.get("data"))
        for message in messages
        for part in _parts(message.get("content"))
        if part.get("type") == "image" and isinstance(source := part.get("source"), dict)
    ]
    first = next((m.get("content") for m in messages if m.get("role") == "user"), None)
    return Ask(
        dialect=MESSAGES.name,
        model=read_model(members),
        stream=members.value("stream") is True,
        max_output=positive(members, "max_tokens"),
        tools=bool(members.value("tools")),
        images=len(images),
        messages=length(said),
        last_user_text=users[-1] if users else "",
        prompt_bytes=max(0, len(members.body) - sum(images)),
        conversation=None if first is None else fingerprint(members.value("system"), first),
        prefix_bytes=members.size("messages") + members.size("system"),
    )


def _parts(content: object) -> list[Mapping[str, object]]:
    """The parts of a message, those inside tool results too."""
    parts = list(objects(content))
    for part in tuple(parts):
        if part.get("type") == "tool_result":
            parts += objects(part.get("content"))
    return parts


def edits(members: Members, _ask: Ask, model: str, limit: int | None) -> Mapping[str, bytes]:
    """What goes up changed: the model."""
    return common_edits(members, model, limit, "max_tokens")


def _failed(answer: Mapping[str, object]) -> bool:
    return bool(answer.get("error")) or answer.get("type") == "error"


read_body = Judge("content", from_anthropic, _failed)


class MessagesReader(StreamReader):
    """Follows one Messages stream.

    ``message_delta`` counts are totals, not additions: the last
    word on each bucket wins, so that nothing is counted twice.
    """

    __slots__ = ()

    def read(self, event: Event) -> Mark:
        """Say what one event is."""
        if event.data is None:
            return Mark.NOTHING
        if (data := as_object(event.data)) is None:
            return Mark.BROKEN
        kind = data.get("type") or event.name.decode(errors="replace")
        if kind == "error" or data.get("error"):
            self.error = read_error(data, fallback="the upstream reported an error in the stream")
            return Mark.ERROR
        if kind == "cost":
            self.bill = merge_bills(self.bill, read_bill(data))
            return Mark.COST
        if kind in ("message_start", "message_delta"):
            self._take(mapping(data.get("message")) or data)
        elif kind == "message_stop":
            return Mark.END
        elif kind == "content_block_start":
            return _starts_content(mapping(data.get("content_block")))
        elif kind == "content_block_delta":
            delta = mapping(data.get("delta"))
            said = any(delta.get(n) for n in ("text", "thinking", "partial_json", "signature"))
            return Mark.CONTENT if said else Mark.NOTHING
        return Mark.NOTHING

    def _take(self, message: Mapping[str, object]) -> None:
        self.bill = merge_bills(self.bill, read_bill(message))
        new = from_anthropic(mapping(message.get("usage")))
        if new is None or self.usage is None:
            self.usage = new or self.usage
            return
        # Some relays fill in zeros for what they do not know: no prompt has no tokens.
        has_input = new.input_tokens or new.cached_tokens or new.cache_write_tokens
        names = _COUNTS if has_input else _OUTPUT_COUNTS
        said = {n: v for n in names if (v := getattr(new, n)) is not None}
        self.usage = msgspec.structs.replace(self.usage, **said)

    @property
    def whole(self) -> bool:
        """Never without ``message_stop``."""
        return False


def _starts_content(block: Mapping[str, object]) -> Mark:
    """A text or thinking block starts empty; any other kind of block is said by its start alone."""
    said = (
        block.get("type") not in ("text", "thinking") or block.get("text") or block.get("thinking")
    )
    return Mark.CONTENT if said else Mark.NOTHING


def error_body(problem: Problem) -> bytes:
    """``{"type": "error", "error": {type, message, ...}}``."""
    other = "invalid_request_error" if 400 <= problem.status < 500 else "api_error"
    kind = _ERROR_TYPES.get(problem.status, other)
    error = {**error_object(problem), "type": kind}
    return msgspec.json.encode({"type": "error", "error": error})


def error_event(problem: Problem) -> bytes:
    """A last ``event: error``, which makes the SDKs raise."""
    return encode(error_body(problem), b"error")


def raises(event: Event) -> bool:
    """The SDKs look at the ``event:`` line alone."""
    return event.name == b"error"


def _read_count_body(body: bytes) -> Facts:
    answer = as_object(body)
    if answer is None or count(answer.get("input_tokens")) is None:
        return Facts("the answer has no input_tokens")
    return Facts(None, None, None, read_bill(answer))


def _read_count_ask(members: Members) -> Ask:
    return msgspec.structs.replace(
        read_ask(members), dialect=COUNT_TOKENS.name, stream=False, output=False, free=True
    )


MESSAGES = Dialect(
    name="messages",
    paths=("/v1/messages", "/messages"),
    read_ask=read_ask,
    edits=edits,
    read_body=read_body,
    reader=MessagesReader,
    error_body=error_body,
    error_event=error_event,
    raises=raises,
    bill_follows_end=True,
)

COUNT_TOKENS = Dialect(
    name="count_tokens",
    paths=("/v1/messages/count_tokens", "/messages/count_tokens"),
    read_ask=_read_count_ask,
    edits=edits,
    read_body=_read_count_body,
    reader=MessagesReader,
    error_body=error_body,
    error_event=error_event,
)

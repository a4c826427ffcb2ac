"""OpenAI responses: ``POST /v1/responses``.

Source: OpenAI API reference, "Responses"; captures ``responses_*``: the last event has no
``event:`` line, there is no ``[DONE]``, and ``response.usage.cost`` is a bare USD number.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.body import Members
from arbstr.core.dialects.base import (
    Dialect,
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
    openai_error,
    positive,
    read_model,
    texts,
)
from arbstr.core.errors import read_error
from arbstr.core.price import merge_bills, read_bill
from arbstr.core.shapes import mapping, objects
from arbstr.core.sse import Event, encode
from arbstr.core.usage import from_openai

_ENDS = ("response.completed", "response.incomplete")
_FAILS = ("response.failed", "error")
_JSON_FORMATS = ("json_object", "json_schema")
_FAILED = "the upstream reported a failed response"
_ITEMS_OF_CONTENT = ("message", "reasoning")
"""Output items that start empty; any other kind (a call) is said by its start alone."""


def read_ask(members: Members) -> Ask:
    """Read a Responses body. Raises BadBodyError for a model that is missing or no string."""
    said = members.value("input")
    items = objects(said)
    users = [t for i in items if i.get("role") == "user" and (t := texts(i.get("content")))]
    images = [
        image_bytes(part.get("image_url"))
        for item in items
        for part in objects(item.get("content"))
        if part.get("type") == "input_image"
    ]
    text_format = mapping(mapping(members.value("text")).get("format")).get("type")
    key = members.value("prompt_cache_key")
    contents = (item.get("content") for item in items if item.get("role") == "user")
    first = said if isinstance(said, str) else next(contents, None)
    return Ask(
        dialect=RESPONSES.name,
        model=read_model(members),
        stream=members.value("stream") is True,
        max_output=positive(members, "max_output_tokens"),
        reserves=False,
        tools=bool(members.value("tools")),
        images=len(images),
        messages=length(said),
        json_mode=text_format in _JSON_FORMATS,
        last_user_text=said if isinstance(said, str) else (users[-1] if users else ""),
        prompt_bytes=max(0, len(members.body) - sum(images)),
        conversation=key
        if isinstance(key, str) and key
        else fingerprint(members.value("instructions"), first),
        prefix_bytes=members.size("input") + members.size("instructions"),
    )


def edits(members: Members, _ask: Ask, model: str, limit: int | None) -> Mapping[str, bytes]:
    """What goes up changed: the model."""
    return common_edits(members, model, limit, "max_output_tokens")


def _failed(answer: Mapping[str, object]) -> bool:
    """``status`` ``failed`` is an error under status 200."""
    return bool(answer.get("error")) or answer.get("status") == "failed"


read_body = Judge("output", from_openai, _failed, _FAILED)


class ResponsesReader(StreamReader):
    """Follows one Responses stream."""

    __slots__ = ()

    def read(self, event: Event) -> Mark:
        """Say what one event is."""
        if event.data is None or event.data.strip() == b"[DONE]":
            return Mark.NOTHING
        if (data := as_object(event.data)) is None:
            return Mark.BROKEN
        kind = data.get("type")
        response = mapping(data.get("response"))
        if kind in _FAILS or (kind is None and data.get("error")):
            self._take(data, response)
            bare = {"error": data} if kind == "error" and not data.get("error") else data
            self.error = read_error(response if response.get("error") else bare, fallback=_FAILED)
            return Mark.ERROR
        if kind in _ENDS:
            self._take(data, response)
            return Mark.END | (Mark.CONTENT if response.get("output") else Mark.NOTHING)
        return _content(kind, data)

    def _take(self, data: Mapping[str, object], response: Mapping[str, object]) -> None:
        self.usage = from_openai(mapping(response.get("usage"))) or self.usage
        self.bill = merge_bills(self.bill, read_bill(data))

    @property
    def whole(self) -> bool:
        """Never without one of the last events."""
        return False


def _content(kind: object, data: Mapping[str, object]) -> Mark:
    if not isinstance(kind, str):
        return Mark.NOTHING
    if kind.endswith(".delta"):
        return Mark.CONTENT if data.get("delta") else Mark.NOTHING
    if kind == "response.output_item.added":
        item = mapping(data.get("item"))
        starts_empty = item.get("type") in _ITEMS_OF_CONTENT and not item.get("content")
        return Mark.NOTHING if starts_empty else Mark.CONTENT
    return Mark.NOTHING


def error_event(problem: Problem) -> bytes:
    """A last ``event: error``, with what makes the SDK raise: an ``error`` in its data."""
    error = error_object(problem)
    event = {"type": "error", "code": problem.code, "message": problem.message, "param": None}
    return encode(msgspec.json.encode({**event, "error": error}), b"error")


def raises(event: Event) -> bool:
    """The SDK raises where ``error`` is in the data; ``response.failed`` is an end by itself."""
    data = as_object(event.data) or {}
    return bool(data.get("error")) or data.get("type") == "response.failed"


RESPONSES = Dialect(
    name="responses",
    paths=("/v1/responses", "/responses"),
    read_ask=read_ask,
    edits=edits,
    read_body=read_body,
    reader=ResponsesReader,
    error_body=openai_error,
    error_event=error_event,
    raises=raises,
)

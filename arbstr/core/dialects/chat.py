"""OpenAI chat completions: ``POST /v1/chat/completions``.

Source: OpenAI API reference, "Chat"; captures ``chat_*``, ``odd_*``.
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

DONE = b"[DONE]"
_CONTENT = (
    "content",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "tool_calls",
    "function_call",
    "refusal",
    "audio",
    "images",
)
_JSON_FORMATS = ("json_object", "json_schema")
_ERROR_IN_200 = "a 200 answer holds an error"


def read_ask(members: Members) -> Ask:
    """Read a chat body. Raises BadBodyError for a model that is missing or no string."""
    said = members.value("messages")
    messages = objects(said)
    users = [m for m in messages if m.get("role") == "user"]
    images = [
        image_bytes(mapping(part.get("image_url")).get("url"))
        for message in messages
        for part in objects(message.get("content"))
        if part.get("type") == "image_url"
    ]
    max_tokens = positive(members, "max_tokens")
    return Ask(
        dialect=CHAT.name,
        model=read_model(members),
        stream=members.value("stream") is True,
        max_output=positive(members, "max_completion_tokens", "max_tokens"),
        reserves=max_tokens is not None,
        tools=bool(members.value("tools") or members.value("functions")),
        images=len(images),
        messages=length(said),
        json_mode=mapping(members.value("response_format")).get("type") in _JSON_FORMATS,
        choices=positive(members, "n") or 1,
        wants_usage=mapping(members.value("stream_options")).get("include_usage") is True,
        last_user_text=texts(users[-1].get("content")) if users else "",
        prompt_bytes=max(0, len(members.body) - sum(images)),
        conversation=_conversation(members, messages),
        prefix_bytes=members.size("messages"),
    )


def _conversation(members: Members, messages: object) -> str | None:
    if isinstance(key := members.value("prompt_cache_key"), str) and key:
        return key
    first: list[object] = []
    for message in objects(messages):
        first.append(message.get("content"))
        if message.get("role") == "user":
            return fingerprint(*first)
    return None


def edits(members: Members, ask: Ask, model: str, limit: int | None) -> Mapping[str, bytes]:
    """What goes up changed: the model, and the request for usage on a stream."""
    name = "max_completion_tokens" if "max_completion_tokens" in members else "max_tokens"
    changes = common_edits(members, model, limit, name)
    if ask.stream and not ask.wants_usage:
        options = {**mapping(members.value("stream_options")), "include_usage": True}
        changes["stream_options"] = msgspec.json.encode(options)
    return changes


read_body = Judge("choices", from_openai, may_be_empty=False)


class ChatReader(StreamReader):
    """Follows one chat stream. It is whole once every choice has ended and the usage is known."""

    __slots__ = ("_choices", "_finished")

    def __init__(self, ask: Ask) -> None:
        super().__init__(ask)
        self._choices = ask.choices
        self._finished: set[int] = set()

    def read(self, event: Event) -> Mark:
        """Say what one event is."""
        if event.data is None:
            return Mark.NOTHING
        if event.data.strip() == DONE:
            return Mark.END
        if (chunk := as_object(event.data)) is None:
            return Mark.BROKEN
        if chunk.get("usage") or chunk.get("cost"):
            self.usage = from_openai(mapping(chunk.get("usage"))) or self.usage
            self.bill = merge_bills(self.bill, read_bill(chunk))
        if chunk.get("error"):
            self.error = read_error(chunk, fallback="the upstream reported an error in the stream")
            return Mark.ERROR
        mark = Mark.NOTHING
        choices = objects(chunk.get("choices"))
        for choice in choices:
            if choice.get("finish_reason"):
                index = choice.get("index")
                self._finished.add(index if isinstance(index, int) else 0)
            delta = choice.get("delta")
            if choice.get("text") or (isinstance(delta, dict) and any(map(delta.get, _CONTENT))):
                mark = Mark.CONTENT
        return Mark.USAGE_ONLY if not choices and chunk.get("usage") else mark

    @property
    def whole(self) -> bool:
        """A finish reason on every choice, and usage (design.md, "After a failure")."""
        return self.usage is not None and len(self._finished) >= self._choices


def error_event(problem: Problem) -> bytes:
    """A last ``data: {"error": ...}``, which makes the SDKs raise."""
    return encode(openai_error(problem))


CHAT = Dialect(
    name="chat",
    paths=("/v1/chat/completions", "/chat/completions"),
    read_ask=read_ask,
    edits=edits,
    read_body=read_body,
    reader=ChatReader,
    error_body=openai_error,
    error_event=error_event,
    end_event=encode(DONE),
)

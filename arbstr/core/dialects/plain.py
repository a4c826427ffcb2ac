"""Endpoints without subtleties: embeddings, legacy completions, and all that passes through.

Source: OpenAI API reference, "Embeddings" and "Completions"; captures ``embeddings``,
``legacy_completions``.
"""

from __future__ import annotations

from collections.abc import Mapping

from arbstr.core.ask import Ask
from arbstr.core.body import Members
from arbstr.core.dialects import chat
from arbstr.core.dialects.base import (
    Dialect,
    Facts,
    Judge,
    Mark,
    StreamReader,
    as_object,
    common_edits,
    openai_error,
    positive,
    read_model,
)
from arbstr.core.price import read_bill
from arbstr.core.shapes import mapping
from arbstr.core.sse import Event, encode
from arbstr.core.usage import Usage, from_openai

_ERROR_IN_200 = "a 200 answer holds an error"


def _read_embeddings_ask(members: Members) -> Ask:
    return Ask(
        dialect=EMBEDDINGS.name,
        model=read_model(members),
        reserves=False,
        prompt_bytes=len(members.body),
        output=False,
    )


def _embedding_usage(usage: Mapping[str, object]) -> Usage | None:
    """Embeddings have no output, and mostly do not say so."""
    found = from_openai(usage)
    if found is None or found.output_tokens is not None:
        return found
    return Usage(found.input_tokens, found.cached_tokens, found.cache_write_tokens, 0)


def _read_completions_ask(members: Members) -> Ask:
    prompt = members.value("prompt")
    return Ask(
        dialect=COMPLETIONS.name,
        model=read_model(members),
        stream=members.value("stream") is True,
        max_output=positive(members, "max_tokens"),
        choices=positive(members, "n") or 1,
        wants_usage=mapping(members.value("stream_options")).get("include_usage") is True,
        last_user_text=prompt if isinstance(prompt, str) else "",
        prompt_bytes=len(members.body),
    )


def _only_model(members: Members, _ask: Ask, model: str, _limit: int | None) -> Mapping[str, bytes]:
    return common_edits(members, model, None, "")


def _no_ask(_members: Members) -> Ask:
    return Ask(dialect=PASS_THROUGH.name, model="")


def _no_edits(_members: Members, _ask: Ask, _model: str, _limit: int | None) -> Mapping[str, bytes]:
    return {}


def _read_any_body(body: bytes) -> Facts:
    answer = as_object(body)
    if answer is None:
        return Facts()
    return Facts(None, None, from_openai(mapping(answer.get("usage"))), read_bill(answer))


class AnyReader(StreamReader):
    """Follows a stream that nobody judges, for the cost it may name."""

    __slots__ = ()

    def read(self, event: Event) -> Mark:
        """Every event goes down as it comes."""
        if (data := as_object(event.data)) is not None:
            self.usage = from_openai(mapping(data.get("usage"))) or self.usage
            self.bill = read_bill(data) or self.bill
        return Mark.CONTENT

    @property
    def whole(self) -> bool:
        """Its end is whatever the upstream says it is."""
        return True


EMBEDDINGS = Dialect(
    name="embeddings",
    paths=("/v1/embeddings", "/embeddings"),
    read_ask=_read_embeddings_ask,
    edits=_only_model,
    read_body=Judge("data", _embedding_usage),
    reader=AnyReader,
    error_body=openai_error,
    error_event=chat.error_event,
)

COMPLETIONS = Dialect(
    name="completions",
    paths=("/v1/completions", "/completions"),
    read_ask=_read_completions_ask,
    edits=chat.edits,
    read_body=chat.read_body,
    reader=chat.ChatReader,
    error_body=openai_error,
    error_event=chat.error_event,
    end_event=encode(chat.DONE),
)

PASS_THROUGH = Dialect(
    name="pass_through",
    paths=(),
    read_ask=_no_ask,
    edits=_no_edits,
    read_body=_read_any_body,
    reader=AnyReader,
    error_body=openai_error,
    error_event=chat.error_event,
    metered=False,
)

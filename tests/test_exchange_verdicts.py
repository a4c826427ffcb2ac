"""Every row of "After a failure", in every dialect, streamed and not: the second model answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from arbstr.core.attempt import Failure
from arbstr.core.tryout import Limits
from tests.talk import APIS, HTML, JSON, SSE, Api, Talk, candidate, event, model

type Play = Callable[[Talk, Api], list[str]]


def status(code: int, error: object = None) -> Play:
    """The first model answers with this status."""
    body = json.dumps(error or {"error": {"message": "no", "code": "no"}}).encode()
    return lambda talk, _: talk.answer(1, code, body)


def body(data: bytes, fields: tuple[tuple[bytes, bytes], ...] = JSON) -> Play:
    """It answers 200 with this body."""
    return lambda talk, _: talk.answer(1, 200, data, fields)


def events(data: Callable[[Api], bytes]) -> Play:
    """It answers 200 with these events, and ends."""

    def play(talk: Talk, api: Api) -> list[str]:
        return talk.head(1) + talk.data(1, data(api)) + talk.end(1)

    return play


def reset_after(opening: bool) -> Play:
    def play(talk: Talk, api: Api) -> list[str]:
        told = talk.head(1)
        return told + (talk.data(1, api.opening) if opening else []) + talk.reset(1)

    return play


ALWAYS: dict[str, Play] = {
    "connection refused": lambda talk, _: talk.refuse(1),
    "reset": lambda talk, _: talk.reset(1),
    "stall": lambda talk, _: talk.tick(60.0),
    **{f"status {code}": status(code) for code in (500, 502, 503, 504, 521, 408, 425, 429, 404)},
    "unknown model": status(400, {"error": {"message": "no", "type": "invalid_model"}}),
    "context": status(400, {"error": {"message": "no", "code": "context_length_exceeded"}}),
    "too large": status(413),
    "no balance": status(402),
    "our key": status(401, {"detail": "Unauthorized"}),
    "its key": status(401),
    "forbidden": status(403),
    "moved": status(302),
    "not modified": status(304),
    "html": body(b"<html>", HTML),
    "nothing": body(b""),
    "no content-type": body(b"", ()),
    "error in 200": body(b'{"error": {"message": "no"}}'),
    "text error in 200": body(b'{"error": "no"}'),
    "broken json": body(b'{"choices": ['),
    "no object": body(b"[]"),
    "no answer": body(b'{"id": "x"}'),
}
STREAMED: dict[str, Play] = {
    "reset after the head": reset_after(opening=False),
    "reset after the opening": reset_after(opening=True),
    "no event": events(lambda _: b""),
    "opening, then a clean end": events(lambda api: api.opening),
    "comments only": events(lambda _: b": ping\n\n" * 3),
    "done": events(lambda _: event("[DONE]")),
    "error event": events(lambda api: api.opening + api.error),
    "error event, then more": events(lambda api: api.error + api.text + api.end),
    "broken event": events(lambda _: event("{broken")),
    "no object": events(lambda _: event('"text"')),
    "a whole plain answer": lambda talk, api: talk.answer(1, 200, api.plain),
    "an event over the limit": events(lambda _: b"data: " + b"x" * 9_999),
}
PLAIN: dict[str, Play] = {
    "a whole stream": lambda talk, api: talk.answer(1, 200, api.stream, SSE),
    "cut": lambda talk, api: talk.head(1, fields=JSON) + talk.data(1, api.plain) + talk.reset(1),
    "cut cleanly": lambda talk, api: talk.answer(1, 200, api.plain[:-1]),
    "over the limit": body(b" " * 20_000),
}


def cases() -> Iterator[object]:
    for api in APIS:
        for name, play in (ALWAYS | STREAMED).items():
            yield pytest.param(api, True, play, id=f"{api.dialect.name}, streamed, {name}")
        for name, play in (ALWAYS | PLAIN).items():
            yield pytest.param(api, False, play, id=f"{api.dialect.name}, plain, {name}")


@pytest.mark.parametrize(("api", "stream", "play"), [*cases()])
def test_a_failure_before_the_first_token_is_invisible(api: Api, stream: bool, play: Play) -> None:
    # The second is another provider's, has a larger context and reserves less.
    first = candidate(model("a", "p", context=1000), 900.0)
    second = candidate(model("b", "q", context=2000), 90.0)
    limits = Limits(event_bytes=5_000, answer_bytes=10_000)
    talk = Talk(first, second, api=api, stream=stream, limits=limits)
    assert talk.start() == ["try 1: a"]
    assert play(talk, api) == ["try 2: b"]

    if stream:
        assert talk.head(2) + talk.data(2, api.stream + api.bill) == ["head 2", "data", "settle"]
        assert talk.settled() == ["finish"]
        assert talk.went_down.endswith(api.end + api.bill)
    else:
        assert talk.answer(2, 200, api.plain) == ["settle"]
        assert talk.settled() == ["answer 200 of 2"]
        assert talk.went_down == api.plain
    row = talk.row
    assert (row.outcome, row.status, row.model, row.attempts) == ("ok", 200, "b", 2)
    spent = talk.cost(1)[0] or 0  # some of what was no answer was billed all the same
    assert (row.cost_msats, row.cost_source, row.output_tokens) == (47 + spent, "billed", 9)
    failed = talk.attempt(1)
    assert (failed.outcome, talk.attempt(2).outcome) == ("error", "ok")
    assert isinstance(failed.failure, Failure)
    assert failed.error_code
    assert talk.cost(1)[1] in ("unknown", "billed")


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.dialect.name)
@pytest.mark.parametrize("code", [400, 405, 409, 415, 422, 451])
def test_a_request_at_fault_is_told_at_once(api: Api, code: int) -> None:
    talk = Talk("a", "b", api=api)
    talk.start()
    said = {"error": {"message": "bad", "type": "invalid_request_error", "param": "temperature"}}
    assert talk.answer(1, code, json.dumps(said).encode()) == ["settle"]
    assert talk.settled() == [f"answer {code}"]
    error = json.loads(talk.went_down)["error"]
    assert (error["message"], error["type"], error["param"]) == (
        "bad",
        "invalid_request_error",
        "temperature",
    )
    assert len(error["attempts"]) == 1
    assert (talk.row.outcome, talk.row.status) == ("error", code)
    assert talk.breakers.failures("p", "a") == 0


@pytest.mark.parametrize(
    ("play", "counts"),
    [
        (status(500), True),
        (status(429), True),
        (body(b"<html>", HTML), True),
        (lambda talk, _: talk.refuse(1), True),
        (lambda talk, _: talk.tick(60.0), True),
        (status(404), False),
        (status(402), False),
        (status(401), False),
        (status(413), False),
        (status(302), False),
    ],
)
def test_only_what_is_the_upstreams_fault_counts_against_it(play: Play, counts: bool) -> None:
    talk = Talk("a", "b")
    talk.start()
    play(talk, APIS[0])
    assert talk.breakers.failures("p", "a") == int(counts)


def test_a_model_that_was_not_found_is_unlisted_where_it_was_asked_for() -> None:
    for play, elsewhere in (
        (status(404), False),
        (status(404, {"error": {"message": "no", "code": "model_not_found"}}), True),
        (status(400, {"error": {"message": "no", "type": "invalid_model"}}), True),
    ):
        talk = Talk("a", "b")
        talk.start()
        play(talk, APIS[0])
        name = talk.exchange.ticket.dialect.name
        assert talk.breakers.is_unlisted("p", "a", name, 1.0)
        assert talk.breakers.is_unlisted("p", "a", "another dialect", 1.0) is elsewhere

"""Which attempt follows which, on what clock, and what is said when nobody is left."""

from __future__ import annotations

import json

import pytest

from arbstr.core.exchange import Timing
from tests.talk import (
    APIS,
    CHAT,
    HTML,
    JITTER_S,
    JSON,
    MESSAGES,
    RESPONSES,
    SSE,
    Api,
    Talk,
    candidate,
    model,
)

each_api = pytest.mark.parametrize("api", APIS, ids=lambda api: api.dialect.name)
RATE_LIMIT = b'{"error": {"message": "slow down", "code": "rate_limit"}}'


# --- clocks before the first token ----------------------------------------------------------------


@each_api
def test_none_but_a_token_stops_the_first_token_clock(api: Api) -> None:
    talk = Talk("a", "b", api=api, timing=Timing(first_token_s=5.0))
    talk.start()
    talk.head(1, at=1.0)
    talk.data(1, api.opening, 4.0)
    assert talk.tick(4.9) == []
    assert talk.tick(5.0) == ["try 2: b"]
    talk.head(2, at=6.0)
    assert talk.data(2, api.text, 6.0) == ["head 2", "data"]
    assert talk.went_down == api.text


def test_an_attempt_that_was_given_up_is_read_on_and_its_cost_counts() -> None:
    talk = Talk("a", "b", timing=Timing(first_token_s=5.0))
    talk.start()
    talk.head(1)
    talk.tick(5.0)
    talk.head(2, at=6.0)
    assert talk.data(1, CHAT.stream, 6.5) == []
    assert talk.end(1, 6.5) == []
    assert talk.data(2, CHAT.stream, 7.0) == ["head 2", "data", "settle"]
    assert [talk.cost(1), talk.cost(2)] == [(47, "billed"), (47, "billed")]
    assert talk.row.cost_msats == 94
    assert talk.went_down == CHAT.opening + CHAT.text + CHAT.usage[: CHAT.usage.index(b"data", 9)]


def test_its_cost_may_come_after_the_row() -> None:
    talk = Talk("a", "b", timing=Timing(first_token_s=5.0))
    talk.start()
    talk.tick(5.0)
    talk.head(2, at=6.0)
    talk.data(2, CHAT.stream, 7.0)
    talk.settled()
    assert talk.row.cost_msats == 47
    assert talk.head(1, at=8.0) == []
    assert talk.data(1, CHAT.stream, 8.0) == []
    assert talk.end(1, 8.0) == ["late 1"]
    assert talk.cost(1) == (47, "billed")


def test_the_last_model_is_not_cut_short_by_the_first_token_clock() -> None:
    talk = Talk("a", timing=Timing(first_token_s=5.0, total_s=50.0))
    talk.start()
    assert talk.tick(49.0) == []
    assert talk.tick(50.0) == ["settle"]
    assert talk.settled() == ["answer 502"]
    assert talk.row.outcome == "error"
    assert talk.attempt(1).error_code == "total_timeout"


def test_the_total_clock_counts_all_attempts() -> None:
    talk = Talk("a", "b", "c", timing=Timing(first_token_s=5.0, total_s=8.0))
    talk.start()
    assert talk.tick(5.0) == ["try 2: b"]
    assert talk.tick(8.0) == ["settle"]


@each_api
def test_a_first_token_that_is_cut_is_none(api: Api) -> None:
    for missing in range(1, len(api.text) + 1):
        talk = Talk("a", "b", api=api)
        talk.start()
        talk.head(1)
        assert talk.data(1, api.opening + api.text[:-missing]) == []
        assert talk.end(1) == ["try 2: b"]


# --- the same model again -------------------------------------------------------------------------


def test_a_short_rate_limit_is_waited_for_once() -> None:
    talk = Talk("a", "b")
    talk.start()
    limited = ((b"retry-after", b"2"), *JSON)
    assert talk.answer(1, 429, RATE_LIMIT, limited) == [f"pause {2 + JITTER_S:g}"]
    assert talk.tick(100.0) == []
    assert talk.resume(2.25) == ["try 2: a"]
    assert talk.answer(2, 429, RATE_LIMIT, limited, 3.0) == ["try 3: b"]
    assert talk.breakers.is_open("p", "a", 4.9)
    assert not talk.breakers.is_open("p", "a", 5.0)


def test_a_long_rate_limit_lets_the_model_rest() -> None:
    talk = Talk("a", "b")
    talk.start()
    assert talk.answer(1, 429, RATE_LIMIT, ((b"Retry-After", b"20"), *JSON)) == ["try 2: b"]
    assert talk.breakers.is_open("p", "a", 19.9)


def test_an_idle_connection_that_was_closed_is_replaced_once() -> None:
    talk = Talk("a", "b")
    talk.start()
    talk.sent(1, reused=True)
    assert talk.reset(1) == ["try 2: a fresh"]
    talk.sent(2, reused=True)
    assert talk.reset(2) == ["try 3: b"]
    assert talk.breakers.failures("p", "a") == 1


def test_a_fresh_connection_that_breaks_is_no_idle_one() -> None:
    talk = Talk("a", "b")
    talk.start()
    talk.sent(1, reused=False)
    assert talk.reset(1) == ["try 2: b"]
    talk.sent(2, reused=True)
    talk.head(2)
    assert talk.reset(2) == ["settle"]


# --- who is next ----------------------------------------------------------------------------------


def test_no_more_than_so_many_attempts_are_made() -> None:
    talk = Talk("a", "b", "c", timing=Timing(max_attempts=2))
    talk.start()
    assert talk.refuse(1) == ["try 2: b"]
    assert talk.refuse(2) == ["settle"]
    assert talk.settled() == ["answer 502"]


def test_a_prompt_that_is_too_long_goes_to_a_larger_context() -> None:
    small, same, large = (model(n, context=c) for n, c in (("s", 8), ("t", 8), ("l", 16)))
    talk = Talk(small, same, large)
    talk.start()
    assert talk.answer(1, 413, b"{}") == ["try 2: l"]
    assert talk.answer(2, 413, b"{}") == ["settle"]
    assert talk.settled() == ["answer 413"]


def test_too_little_balance_goes_to_a_smaller_reservation() -> None:
    talk = Talk(candidate("dear", 900.0), candidate("dearer", 950.0), candidate("cheap", 90.0))
    talk.start()
    body = b'{"detail": {"error": {"message": "poor", "code": "insufficient_balance"}}}'
    assert talk.answer(1, 402, body) == ["try 2: cheap"]
    assert talk.answer(2, 402, body) == ["settle"]
    talk.settled()
    assert (talk.row.status, talk.row.error_code) == (402, "insufficient_balance")


def test_our_bad_key_goes_to_another_provider() -> None:
    talk = Talk(model("a", "p"), model("b", "p"), model("c", "q"))
    talk.start()
    assert talk.answer(1, 401, b'{"detail": "Unauthorized"}') == ["try 2: c"]


def test_a_models_bad_key_goes_to_the_next_model() -> None:
    talk = Talk(model("a", "p"), model("b", "p"))
    talk.start()
    assert talk.answer(1, 401, b'{"error": {"message": "Incorrect API key"}}') == ["try 2: b"]


def test_what_is_paid_once_is_sent_once_and_whatever_comes_is_delivered() -> None:
    talk = Talk("a", "b", paid_once=True, stream=False)
    talk.start()
    assert talk.tick(100.0) == []
    assert talk.answer(1, 500, b'{"detail": "sorry"}') == ["settle"]
    assert talk.settled() == ["answer 500 of 1"]
    assert talk.went_down == b'{"detail": "sorry"}'
    assert talk.row.outcome == "error"


def test_what_is_paid_once_and_never_answered_is_an_error_of_ours() -> None:
    talk = Talk("a", "b", paid_once=True)
    talk.start()
    assert talk.refuse(1) == ["settle"]
    assert talk.settled() == ["answer 502"]


# --- nobody is left -------------------------------------------------------------------------------


@each_api
def test_the_last_real_error_is_told_with_every_attempt(api: Api) -> None:
    talk = Talk("a", "b", "c", api=api)
    talk.start()
    talk.answer(1, 503, b'{"error": {"message": "busy", "type": "server_error", "code": "full"}}')
    talk.answer(2, 200, b"<html>", HTML)
    talk.refuse(3)
    assert talk.settled() == ["answer 503"]
    body = json.loads(talk.went_down)
    assert (body["error"]["message"], body["error"]["code"]) == ("busy", "full")
    assert [(a["n"], a["model"], a["status"]) for a in body["error"]["attempts"]] == [
        (1, "a", 503),
        (2, "b", 200),
        (3, "c", None),
    ]
    assert (talk.row.outcome, talk.row.status, talk.row.error_code) == ("error", 503, "full")
    assert (talk.row.attempts, talk.row.model, talk.row.cost_msats) == (3, "c", None)


def test_where_there_was_no_real_error_it_is_ours() -> None:
    talk = Talk("a", "b")
    talk.start()
    talk.head(1)
    talk.end(1)
    talk.refuse(2)
    assert talk.settled() == ["answer 502"]
    error = json.loads(talk.went_down)["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_error")
    assert error["message"] == "no model answered: connection refused"


def test_a_delivered_rate_limit_keeps_its_retry_after() -> None:
    talk = Talk("a")
    talk.start()
    talk.answer(1, 429, RATE_LIMIT, ((b"retry-after", b"20"), *JSON))
    talk.settled()
    assert talk.exchange.whole is not None
    assert talk.exchange.whole.retry_after == "20"


# --- the body that goes up ------------------------------------------------------------------------


def test_the_body_names_the_model_that_is_tried_and_asks_for_usage() -> None:
    talk = Talk("a", "b", temperature=0.5)
    talk.start()
    first, second = (
        json.loads(talk.exchange.body_for(candidate(name)) or b"") for name in ("a", "b")
    )
    assert (first["model"], second["model"]) == ("a", "b")
    assert first["stream_options"] == {"include_usage": True}
    assert {k: v for k, v in first.items() if k not in ("model", "stream_options")} == {
        **{k: v for k, v in CHAT.request.items() if k != "model"},
        "stream": True,
        "temperature": 0.5,
    }


@pytest.mark.parametrize("api", [MESSAGES, RESPONSES])
def test_a_body_that_need_not_change_goes_up_as_it_came(api: Api) -> None:
    talk = Talk("a", api=api)
    assert talk.exchange.body_for(candidate("a")) is None
    assert json.loads(talk.exchange.body_for(candidate("b")) or b"") == api.request | {
        "model": "b",
        "stream": True,
    }


def test_headers_are_read_in_any_case() -> None:
    talk = Talk("a")
    talk.start()
    talk.head(1, fields=((b"X-Routstr-Cost-Msats", b"5"), *SSE))
    talk.data(1, CHAT.text)
    talk.end(1)
    assert talk.cost(1) == (5, "billed")

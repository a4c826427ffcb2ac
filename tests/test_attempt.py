"""The table "After a failure" of the design, row by row; and the errors that lead into it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbstr.core.attempt import (
    LONGEST_REST_S,
    TABLE,
    Failure,
    Kind,
    Then,
    Verdict,
    decide,
    retry_after_s,
    status_failure,
)
from arbstr.core.dialects.base import as_object
from arbstr.core.errors import Fault, UpstreamError, read_error
from tests import replay

NEXT, DELIVER = Then.NEXT, Then.DELIVER
NOW_S = 1_800_000_000.0


def status(code: int, fault: Fault = "", retry_after: float | None = None) -> Failure:
    return status_failure(code, UpstreamError("no", fault=fault), retry_after=retry_after)


def verdict(failure: Failure, *, tried_before: bool = False, paid_once: bool = False) -> Verdict:
    return decide(failure, tried_before=tried_before, paid_once=paid_once)


@pytest.mark.parametrize("kind", ["connect", "reset", "timeout", "answer"])
def test_no_answer_leads_to_the_next_model(kind: Kind) -> None:
    assert verdict(Failure(kind, "no", "no")) == Verdict(NEXT)


@pytest.mark.parametrize("code", [500, 502, 503, 504, 520, 521, 524, 599, 408, 425])
def test_an_upstream_in_trouble_leads_to_the_next_model_and_counts(code: int) -> None:
    assert verdict(status(code)) == Verdict(NEXT)


def test_a_model_that_is_not_known_there_is_unlisted() -> None:
    unlisted = Verdict(NEXT, counts=False, unlist=True)
    assert verdict(status(404)) == unlisted
    assert verdict(status(404, "node_key")) == unlisted
    assert verdict(status(400, "model")) == unlisted


@pytest.mark.parametrize("failure", [status(400, "context"), status(413)])
def test_a_prompt_that_is_too_long_wants_a_larger_context(failure: Failure) -> None:
    assert verdict(failure) == Verdict(Then.NEXT_LARGER_CONTEXT, counts=False)


def test_too_little_balance_wants_a_smaller_reservation() -> None:
    assert verdict(status(402)) == Verdict(Then.NEXT_SMALLER_RESERVATION, counts=False)


@pytest.mark.parametrize("code", [401, 403])
def test_our_key_and_the_models_key_are_told_apart(code: int) -> None:
    assert verdict(status(code, "node_key")) == Verdict(Then.NEXT_OTHER_PROVIDER, counts=False)
    assert verdict(status(code)) == Verdict(NEXT, counts=False)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308, 304])
def test_a_redirect_is_neither_followed_nor_delivered(code: int) -> None:
    assert verdict(status(code)) == Verdict(NEXT, counts=False)


@pytest.mark.parametrize("code", [400, 405, 406, 409, 410, 415, 418, 422, 451])
def test_a_request_at_fault_is_told_so(code: int) -> None:
    assert verdict(status(code)) == Verdict(DELIVER, counts=False)


@pytest.mark.parametrize(
    ("wait_s", "tried_before", "expected"),
    [
        (0.0, False, Verdict(Then.SAME_AFTER_WAIT, counts=False)),
        (1.5, False, Verdict(Then.SAME_AFTER_WAIT, counts=False, wait_s=1.5)),
        (2.0, False, Verdict(Then.SAME_AFTER_WAIT, counts=False, wait_s=2.0)),
        (2.0, True, Verdict(NEXT, rest_s=2.0)),
        (2.1, False, Verdict(NEXT, rest_s=2.1)),
        (20.0, False, Verdict(NEXT, rest_s=20.0)),
        (3e7, False, Verdict(NEXT, rest_s=LONGEST_REST_S)),
        (None, False, Verdict(NEXT)),
        (None, True, Verdict(NEXT)),
    ],
)
def test_a_rate_limit_is_waited_for_once_and_only_if_short(
    wait_s: float | None, tried_before: bool, expected: Verdict
) -> None:
    assert verdict(status(429, retry_after=wait_s), tried_before=tried_before) == expected


def test_a_reset_of_an_idle_connection_is_tried_again_once() -> None:
    idle = Failure("reset", "closed", "reset", idle_reused=True)
    assert verdict(idle) == Verdict(Then.SAME_FRESH, counts=False)
    assert verdict(idle, tried_before=True) == Verdict(NEXT)


@given(
    st.sampled_from(["connect", "reset", "timeout", "answer", "status"]),
    st.none() | st.integers(100, 999),
    st.sampled_from(["", "context", "model", "node_key"]),
    st.booleans(),
    st.none() | st.floats(0, 100),
    st.booleans(),
)
def test_every_failure_has_a_row_and_paid_ones_are_never_sent_twice(  # noqa: PLR0917
    kind: Kind, code: int | None, fault: Fault, idle: bool, wait_s: float | None, before: bool
) -> None:
    failure = Failure(
        kind, "no", "no", code, UpstreamError("no", fault=fault), wait_s, idle_reused=idle
    )
    assert verdict(failure, tried_before=before, paid_once=True).then is DELIVER
    found = verdict(failure, tried_before=before)
    assert not (before and found.then in (Then.SAME_FRESH, Then.SAME_AFTER_WAIT))
    assert 0 <= found.rest_s <= LONGEST_REST_S


def test_no_row_is_hidden_behind_another() -> None:
    failures = [Failure(kind, "", "") for kind in ("connect", "reset", "timeout", "answer")]
    failures += [
        status(code, fault)
        for code in range(100, 1000)
        for fault in ("", "context", "model", "node_key")
    ]
    hit = {next(n for n, row in enumerate(TABLE) if _fits(n, failure)) for failure in failures}
    assert hit == set(range(len(TABLE)))


def _fits(n: int, failure: Failure) -> bool:
    row = TABLE[n]
    return (
        (not row.kinds or failure.kind in row.kinds)
        and (not row.statuses or any(failure.status in r for r in row.statuses))
        and row.fault in (None, failure.fault)
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("20", 20.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("soon", None),
        ("nan", None),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 99 Foo 2027 07:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, now_s=NOW_S) == seconds


# --- the captured errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "fault", "then"),
    [
        ("err_bad_key", "invalid_api_key", "node_key", Then.NEXT_OTHER_PROVIDER),
        ("err_basic_auth", "missing_api_key", "node_key", Then.NEXT_OTHER_PROVIDER),
        ("err_no_auth", "http_401", "node_key", Then.NEXT_OTHER_PROVIDER),
        ("messages_x_api_key", "http_401", "node_key", Then.NEXT_OTHER_PROVIDER),
        ("upstream_401", "invalid_api_key", "", NEXT),
        ("err_402_insufficient", "insufficient_balance", "node_key", Then.NEXT_SMALLER_RESERVATION),
        ("err_402_messages", "insufficient_balance", "node_key", Then.NEXT_SMALLER_RESERVATION),
        (
            "xcashu_insufficient",
            "minimum_balance_required",
            "node_key",
            Then.NEXT_SMALLER_RESERVATION,
        ),
        ("err_unknown_model", "400", "model", NEXT),
        ("responses_unknown_model", "400", "model", NEXT),
        ("upstream_429", "UPSTREAM_RATE_LIMIT", "", NEXT),
        ("messages_litellm_429", "UPSTREAM_RATE_LIMIT", "", NEXT),
        ("upstream_500", "500", "", NEXT),
        ("upstream_dead", "502", "", NEXT),
        ("legacy_completions", "not_found", "", NEXT),
        ("upstream_400", "invalid_value", "", DELIVER),
        ("err_max_tokens_string", "http_400", "node_key", DELIVER),
        ("err_messages_missing", "invalid_request_error", "", DELIVER),
    ],
)
def test_a_captured_error_is_understood(name: str, code: str, fault: Fault, then: Then) -> None:
    capture = replay.load(name)
    error = read_error(as_object(capture.answer), fallback="nothing")
    wait = dict(capture.answer_fields).get(b"retry-after", b"").decode()
    failure = status_failure(capture.status, error, retry_after=retry_after_s(wait, now_s=NOW_S))
    assert error.message != "nothing"
    assert (failure.code, failure.fault) == (code, fault)
    assert verdict(failure).then is then


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, UpstreamError("m", "t", "c")),
        ({"error": "a string"}, UpstreamError("a string")),
        ({"detail": "Unauthorized"}, UpstreamError("Unauthorized", fault="node_key")),
        (
            {"detail": [{"loc": ["body", "model"], "msg": "Field required"}, {"msg": "x"}]},
            UpstreamError("body.model: Field required; x", fault="node_key"),
        ),
        (
            {"detail": {"reason": "Insufficient", "type": "minimum"}},
            UpstreamError("Insufficient", "minimum", None, "node_key"),
        ),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
            UpstreamError("m", "overloaded_error"),
        ),
        (
            {"error": {"message": "m", "code": "context_length_exceeded"}},
            UpstreamError("m", code="context_length_exceeded", fault="context"),
        ),
        (
            {"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}},
            UpstreamError("prompt is too long: 9 tokens > 8 maximum", fault="context"),
        ),
        (
            {"error": {"message": "m", "code": "model_not_found"}},
            UpstreamError("m", code="model_not_found", fault="model"),
        ),
        ({"error": {"message": "", "code": 502}}, UpstreamError("nothing", code="502")),
        ({"error": {"message": 7, "type": 7, "code": True}}, UpstreamError("nothing")),
        ({"error": []}, UpstreamError("nothing")),
        ({}, UpstreamError("nothing")),
        (None, UpstreamError("nothing")),
        ("Bad gateway", UpstreamError("nothing")),
        ([{"error": "x"}], UpstreamError("nothing")),
    ],
)
def test_errors_of_all_shapes_are_read(body: object, expected: UpstreamError) -> None:
    got = read_error(body, fallback="nothing")
    assert (got.message, got.type, got.code, got.fault) == (
        expected.message,
        expected.type,
        expected.code,
        expected.fault,
    )

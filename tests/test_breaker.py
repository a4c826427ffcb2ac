"""Circuit breakers: closed, open, one probe at a time; resting and unlisted beside that."""

from __future__ import annotations

from arbstr.core.breaker import (
    EVERYWHERE,
    FAILURES_TO_OPEN,
    FIRST_PROBE_S,
    LAST_PROBE_S,
    PROBE_TIMEOUT_S,
    UNLISTED_S,
    Breakers,
    Snapshot,
)

P, M = "node", "model"


def opened(now_s: float = 0.0) -> Breakers:
    """Breakers whose one circuit has just opened."""
    breakers = Breakers()
    for n in range(FAILURES_TO_OPEN):
        was_opened = breakers.failure(P, M, now_s, f"failure {n}")
    assert was_opened
    return breakers


def state(breakers: Breakers, now_s: float) -> str:
    return next((s.state for s in breakers.snapshots(now_s)), "closed")


def test_it_opens_at_the_third_failure_in_a_row() -> None:
    breakers = Breakers()
    assert not breakers.failure(P, M, 0.0, "a")
    assert not breakers.failure(P, M, 0.0, "b")
    assert not breakers.is_open(P, M, 0.0)
    assert breakers.failure(P, M, 0.0, "c")
    assert breakers.is_open(P, M, 0.0)
    assert breakers.failures(P, M) == 3
    assert not breakers.is_open("other", M, 0.0)


def test_a_success_between_them_starts_the_count_anew() -> None:
    breakers = Breakers()
    for _ in range(5):
        breakers.failure(P, M, 0.0, "x")
        breakers.failure(P, M, 0.0, "x")
        assert not breakers.success(P, M, ttft_ms=None)
    assert not breakers.is_open(P, M, 0.0)


def test_one_probe_goes_through_after_a_while() -> None:
    breakers = opened()
    assert breakers.is_open(P, M, FIRST_PROBE_S - 0.1)
    assert not breakers.is_open(P, M, FIRST_PROBE_S)
    breakers.attempt(P, M, FIRST_PROBE_S)
    assert breakers.is_open(P, M, FIRST_PROBE_S + 1)


def test_a_good_probe_closes_it() -> None:
    breakers = opened()
    breakers.attempt(P, M, FIRST_PROBE_S)
    assert breakers.success(P, M, ttft_ms=None)
    assert not breakers.is_open(P, M, FIRST_PROBE_S)
    assert breakers.failures(P, M) == 0


def test_each_failed_probe_doubles_the_wait_up_to_a_bound() -> None:
    breakers, now_s, wait_s = opened(), 0.0, FIRST_PROBE_S
    for _ in range(6):
        now_s += wait_s
        assert not breakers.is_open(P, M, now_s)
        breakers.attempt(P, M, now_s)
        assert breakers.failure(P, M, now_s, "still")
        wait_s = min(2 * wait_s, LAST_PROBE_S)
        assert breakers.is_open(P, M, now_s + wait_s - 0.1)


def test_a_failure_that_comes_late_does_not_prolong_it() -> None:
    breakers = opened()
    assert not breakers.failure(P, M, 20.0, "an older request")
    assert not breakers.is_open(P, M, FIRST_PROBE_S)


def test_a_probe_that_nobody_heard_of_again_lets_the_next_one_through() -> None:
    breakers = opened()
    breakers.attempt(P, M, FIRST_PROBE_S)
    assert breakers.is_open(P, M, FIRST_PROBE_S + PROBE_TIMEOUT_S - 0.1)
    assert not breakers.is_open(P, M, FIRST_PROBE_S + PROBE_TIMEOUT_S)


def test_a_model_rests_as_long_as_it_was_told() -> None:
    breakers = Breakers()
    breakers.rest(P, M, 20.0)
    assert breakers.is_open(P, M, 19.9)
    assert not breakers.is_open(P, M, 20.0)
    breakers.rest(P, M, 50.0)
    breakers.success(P, M, ttft_ms=None)
    assert not breakers.is_open(P, M, 30.0)


def test_an_unlisted_model_is_back_after_the_next_sync() -> None:
    breakers = Breakers()
    breakers.unlist(P, M, EVERYWHERE, 0.0)
    breakers.unlist("other", M, EVERYWHERE, 0.0)
    assert breakers.is_unlisted(P, M, "any", 1.0)
    breakers.relist(P)
    assert not breakers.is_unlisted(P, M, "any", 1.0)
    assert breakers.is_unlisted("other", M, "any", 1.0)


def test_what_is_not_found_in_one_dialect_is_still_sold_in_the_others() -> None:
    breakers = Breakers()
    breakers.unlist(P, M, "one", 0.0)
    assert breakers.is_unlisted(P, M, "one", 1.0)
    assert not breakers.is_unlisted(P, M, "other", 1.0)


def test_without_a_sync_it_is_back_some_time_later() -> None:
    breakers = Breakers()
    breakers.unlist(P, M, "one", 0.0)
    assert not breakers.is_unlisted(P, M, "one", UNLISTED_S)
    assert state(breakers, UNLISTED_S) == "closed"


def test_an_open_circuit_stays_open_when_it_is_unlisted_too() -> None:
    breakers = opened()
    breakers.unlist(P, M, "one", 0.0)
    assert breakers.is_open(P, M, 1.0)
    assert state(breakers, 1.0) == "unlisted"


def test_the_latency_is_a_mean_that_forgets() -> None:
    breakers = Breakers()
    assert breakers.latency_ms(P, M) is None
    breakers.success(P, M, ttft_ms=None)
    assert breakers.latency_ms(P, M) is None
    breakers.success(P, M, ttft_ms=100.0)
    breakers.success(P, M, ttft_ms=200.0)
    assert breakers.latency_ms(P, M) == 120.0


def test_what_health_shows() -> None:
    breakers = opened()
    breakers.success(P, "good", ttft_ms=1.0)
    breakers.failure(P, "shaky", 0.0, "once")
    breakers.rest(P, "tired", 20.0)
    assert list(breakers.snapshots(10.0)) == [
        Snapshot(P, M, "open", 3, "failure 2", 20.0),
        Snapshot(P, "shaky", "closed", 1, "once"),
        Snapshot(P, "tired", "resting", 0, None, 10.0),
    ]
    assert state(breakers, FIRST_PROBE_S) == "half_open"

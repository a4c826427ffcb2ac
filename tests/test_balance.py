"""The watch over the balance, as transcripts."""

from __future__ import annotations

from arbstr.core.balance import BalanceWatch


def one(watch: BalanceWatch, cost: int | None, balance: int | None) -> int:
    watch.began("node")
    return watch.ended("node", cost, balance)


def test_what_the_rows_explain_is_no_alarm() -> None:
    watch = BalanceWatch()
    assert [one(watch, 40, 960), one(watch, 60, 900), one(watch, 0, 900)] == [0, 0, 0]
    assert watch.unexplained_msats() == {}


def test_what_no_row_explains_is_told_once() -> None:
    watch = BalanceWatch()
    assert [one(watch, 40, 960), one(watch, 60, 400), one(watch, 10, 390)] == [0, 500, 0]
    assert watch.unexplained_msats() == {"node": 500}


def test_a_msat_of_rounding_a_request_is_no_alarm() -> None:
    watch = BalanceWatch()
    assert [one(watch, 40, 960), one(watch, 60, 899)] == [0, 0]


def test_overlapping_requests_are_not_judged_but_counted() -> None:
    watch = BalanceWatch()
    one(watch, 0, 1000)
    watch.began("node")
    watch.began("node")
    assert watch.ended("node", 100, 700) == 0  # it was billed after the other one
    assert watch.ended("node", 200, 800) == 0
    assert one(watch, 50, 650) == 0


def test_an_unknown_cost_explains_anything() -> None:
    watch = BalanceWatch()
    one(watch, 0, 1000)
    assert one(watch, None, None) == 0
    assert one(watch, 10, 400) == 0
    assert one(watch, 10, 390) == 0


def test_a_balance_that_was_topped_up_begins_anew() -> None:
    watch = BalanceWatch()
    one(watch, 0, 100)
    assert [one(watch, 10, 5000), one(watch, 10, 4990)] == [0, 0]


def test_providers_are_watched_apart() -> None:
    watch = BalanceWatch()
    watch.began("a")
    watch.began("b")
    assert [watch.ended("a", 1, 99), watch.ended("b", 1, 9)] == [0, 0]
    watch.began("a")
    assert watch.ended("a", 1, 50) == 48
    assert watch.unexplained_msats() == {"a": 48}

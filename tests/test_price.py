"""Money is exact: rates are decimals, sums are rounded up once, what is not known is None."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbstr.core.price import (
    Bill,
    Price,
    bill_in_head,
    computed_msats,
    is_overcharge,
    merge_bills,
    rate,
    read_bill,
    sats,
)
from arbstr.core.usage import Usage
from tests import replay


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (1, "1"),
        ("0.15", "0.15"),
        (0.1, "0.1"),
        (9.999999999999999e-05, "0.0001"),
        (0.00039999999999999996, "0.0004"),
        (2.4999999999999998e-05, "0.000025"),
        (Decimal("0.123456789012345"), "0.123456789012345"),
        (0, "0"),
        ("1e-3", "0.001"),
    ],
)
def test_a_rate_is_the_number_that_was_meant(value: float | str | Decimal, exact: str) -> None:
    assert rate(value) == Decimal(exact)


@pytest.mark.parametrize(
    "value", [-1, "-0.1", "nan", "inf", float("nan"), float("inf"), "", "1,5", True, None, [1], {}]
)
def test_no_rate_is_made_of_anything_else(value: object) -> None:
    with pytest.raises(ValueError, match="a rate is"):
        rate(value)


@pytest.mark.parametrize(
    ("price", "usage", "msats"),
    [
        # captures cost_fraction_cheap, chat_ok, cost_big, odd_cached
        (Price(Decimal("0.1"), Decimal("0.4")), Usage(11, output_tokens=9), 5),
        (Price(Decimal(1), Decimal(4)), Usage(11, output_tokens=9), 47),
        (Price(Decimal(1), Decimal(4)), Usage(12_345, output_tokens=6_789), 39_501),
        (Price(Decimal(1), Decimal(4), cached=Decimal("0.1")), Usage(40, 60, None, 10), 86),
        # no rate of their own: cached and written tokens cost what fresh ones cost
        (Price(Decimal(1), Decimal(4)), Usage(40, 60, 50, 10), 190),
        (
            Price(Decimal(1), Decimal(4), Decimal("0.1"), Decimal("1.25")),
            Usage(40, 60, 50, 10),
            149,
        ),
        (Price(Decimal(0), Decimal(0)), Usage(11, output_tokens=9), 0),
        (Price(Decimal(0), Decimal(0), base_fee_msats=Decimal("0.5")), Usage(0, 0, 0, 0), 1),
        (Price(Decimal(1), Decimal(4)), Usage(11), None),
        (Price(Decimal(1), Decimal(4)), Usage(output_tokens=9), None),
    ],
)
def test_a_cost_is_rounded_up_once(price: Price, usage: Usage, msats: int | None) -> None:
    assert computed_msats(price, usage) == msats


_RATES = st.decimals(0, 1000, places=6)
_TOKENS = st.integers(0, 10**9)


@given(_RATES, _RATES, _RATES, _TOKENS, _TOKENS, _TOKENS)
def test_a_cost_is_exact_for_any_numbers(  # noqa: PLR0917
    fresh: Decimal, out: Decimal, cached: Decimal, n: int, k: int, m: int
) -> None:
    exact = Fraction(fresh) * n + Fraction(cached) * k + Fraction(out) * m
    got = computed_msats(Price(fresh, out, cached=cached), Usage(n, k, None, m))
    assert got == ceil(exact)


# --- bills ----------------------------------------------------------------------------------------

COST = {"total_msats": 47}


@pytest.mark.parametrize(
    ("body", "bill"),
    [
        ({"usage": {"cost": COST, "remaining_balance_msats": 9}}, Bill(47, 9)),
        ({"cost": {**COST, "remaining_balance_msats": 9}}, Bill(47, 9)),
        ({"metadata": {"routstr": {"cost": COST, "remaining_balance_msats": 9}}}, Bill(47, 9)),
        ({"metadata": {"routstr": {"cost": {**COST, "remaining_balance_msats": 9}}}}, Bill(47, 9)),
        ({"response": {"usage": {"cost": COST}}}, Bill(47)),
        ({"response": {"metadata": {"routstr": {"cost": COST}}}}, Bill(47)),
        ({"response": {"cost": COST}}, Bill(47)),
        # a bare number in usage.cost is USD; the msats are elsewhere (capture responses_stream)
        (
            {"response": {"usage": {"cost": 4.7e-5, "remaining_balance_msats": 9}}, "cost": COST},
            Bill(47, 9),
        ),
        ({"usage": {"cost": 4.7e-5}}, None),
        # a node that took nothing says so: that is a 0 to be believed
        ({"usage": {"cost": {"total_msats": 0}}}, Bill(0)),
        ({"usage": {"cost": {"total_msats": 47.0}}}, Bill(47)),
        # floored to whole sats, or no count at all
        ({"usage": {"cost_sats": 1}, "cost": {"sats_cost": 1}}, None),
        ({"usage": {"cost": {"total_msats": -1}}}, None),
        ({"usage": {"cost": {"total_msats": "47"}}}, None),
        ({"usage": {"cost": {"total_msats": None}}, "cost": COST}, Bill(47)),
        ({"usage": {"cost": COST, "cost_details": {}}}, Bill(47, upstream_priced=True)),
        ({}, None),
        ({"usage": None, "metadata": "x", "cost": [], "response": 7}, None),
    ],
)
def test_a_bill_is_found_wherever_the_node_puts_it(body: dict[str, Any], bill: Bill | None) -> None:
    assert read_bill(body) == bill


@pytest.mark.parametrize(
    ("header", "bill"),
    [
        (b"47", Bill(47)),
        (b" 0 ", Bill(0)),
        (b"", None),
        (b"-1", None),
        (b"4.7", None),
        (b"9" * 99, None),
    ],
)
def test_a_bill_may_stand_in_the_head_alone(header: bytes, bill: Bill | None) -> None:
    assert bill_in_head(header) == bill


def test_of_two_bills_the_later_word_wins_member_by_member() -> None:
    assert merge_bills(None, None) is None
    assert merge_bills(Bill(1, 2), None) == Bill(1, 2)
    assert merge_bills(None, Bill(1, 2)) == Bill(1, 2)
    assert merge_bills(Bill(1, 2), Bill(3)) == Bill(3, 2)
    assert merge_bills(Bill(1, upstream_priced=True), Bill(None, 4)) == Bill(1, 4, True)


@pytest.mark.parametrize(
    ("billed", "expected", "over"),
    [
        (47, 47, False),
        (48, 47, False),
        (49, 47, True),
        (1, 0, False),
        (None, 47, False),
        (47, None, False),
    ],
)
def test_an_overcharge_is_more_than_rounding(
    billed: int | None, expected: int | None, over: bool
) -> None:
    assert is_overcharge(billed, expected) is over


@pytest.mark.parametrize(
    ("msats", "text"),
    [(None, None), (0, "0"), (412, "0.412"), (47, "0.047"), (5_000_000, "5000"), (11.2, "0.012")],
)
def test_sats_are_told_exactly(msats: float | None, text: str | None) -> None:
    got = sats(msats)
    assert (got is None) == (text is None)
    assert got is None or text is None or Decimal(got) == Decimal(text)


def test_the_captured_head_says_what_the_captured_body_says() -> None:
    capture = replay.load("chat_ok")
    header = dict(capture.answer_fields)[b"x-routstr-cost-msats"]
    bill = bill_in_head(header)
    assert bill is not None
    assert bill.total_msats == capture.charged_msats

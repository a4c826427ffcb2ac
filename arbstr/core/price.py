"""Money: exact rates, what an answer should have cost, and what the node says it cost.

A rate in ``config.toml`` is sats per 1,000 tokens; that is the same number as msats per token, so
rates are kept as msats per token everywhere. ``GET /v1/models`` of a node gives sats per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Literal

import msgspec

from arbstr.core.shapes import mapping
from arbstr.core.usage import Usage, count

type CostSource = Literal["billed", "computed", "unknown"]

MSATS_PER_SAT = 1000
OVERCHARGE_TOLERANCE_MSATS = 1
"""The node rounds up, and charges 1 msat for a free model (capture ``cost_free_model``)."""

_NOISE = Context(prec=12)
"""A node's prices are floats such as 9.999999999999999e-05: twelve digits are what they mean."""
_EXACT = Context(prec=60)
_COUNT_DIGITS = 15


class Price(msgspec.Struct, frozen=True):
    """What a model costs: msats per token, and ``base_fee_msats`` a request.

    ``cached`` and ``cache_write`` are None where the seller names no rate of their own: such tokens
    cost what fresh input costs.
    """

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    base_fee_msats: Decimal = Decimal(0)


def rate(value: object) -> Decimal:
    """Make an exact rate of a number or a decimal string.

    Raises ValueError unless finite and >= 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("a rate is a number")  # noqa: TRY004 - one error type for all bad values
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError("a rate is a number") from None
    if not number.is_finite():
        raise ValueError("a rate is a finite number")
    if number < 0:
        raise ValueError("a rate is not negative")
    return _NOISE.plus(number) if isinstance(value, float) else number


def computed_msats(price: Price, usage: Usage) -> int | None:
    """What `usage` costs at `price`, in msats, rounded up; None where a count is unknown."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = price.input if price.cached is None else price.cached
    write = price.input if price.cache_write is None else price.cache_write
    total = price.base_fee_msats
    for tokens, per_token in (
        (usage.input_tokens, price.input),
        (usage.cached_tokens or 0, cached),
        (usage.cache_write_tokens or 0, write),
        (usage.output_tokens, price.output),
    ):
        if tokens:
            total = _EXACT.fma(tokens, per_token, total)
    return int(total.to_integral_value(rounding=ROUND_CEILING))


class Bill(msgspec.Struct, frozen=True):
    """What the node says of one answer's cost.

    `total_msats`: what it took. `balance_msats`: what is left on the key. `upstream_priced`: the
    price was the upstream's own USD cost, not the token price (capture
    ``cost_usd_reported_by_upstream``).
    """

    total_msats: int | None = None
    balance_msats: int | None = None
    upstream_priced: bool = False


def read_bill(body: Mapping[str, object]) -> Bill | None:
    """Find the cost blocks in a body or in an event's object; None where there is none.

    Looked for: ``usage.cost``, ``cost``, ``metadata.routstr.cost`` (routstr.md, "Where the cost
    is"), then the same under ``response`` for the Responses API. ``cost_sats`` is floored to whole
    sats and never used.
    """
    sources = (body, mapping(body["response"])) if "response" in body else (body,)
    blocks = [block for source in sources for block in _cost_blocks(source)]
    total = _first_count(blocks, "total_msats")
    balance = _first_count(blocks, "remaining_balance_msats")
    if total is None and balance is None:
        return None
    priced = any("cost_details" in mapping(source.get("usage")) for source in sources)
    return Bill(total, balance, upstream_priced=priced)


def _first_count(blocks: Sequence[Mapping[str, object]], name: str) -> int | None:
    for block in blocks:
        if (found := count(block.get(name))) is not None:
            return found
    return None


def _cost_blocks(source: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    usage = mapping(source.get("usage"))
    routstr = mapping(mapping(source.get("metadata")).get("routstr"))
    costs = (usage.get("cost"), source.get("cost"), routstr.get("cost"))
    return (usage, routstr, *map(mapping, costs))


def bill_in_head(cost_msats: bytes) -> Bill | None:
    """The bill that ``x-routstr-cost-msats`` is; None for b"" and for what is no count."""
    text = cost_msats.strip()
    return Bill(int(text)) if text.isdigit() and len(text) <= _COUNT_DIGITS else None


def merge_bills(old: Bill | None, new: Bill | None) -> Bill | None:
    """The later word wins, field by field."""
    if old is None or new is None:
        return new or old
    return Bill(
        old.total_msats if new.total_msats is None else new.total_msats,
        old.balance_msats if new.balance_msats is None else new.balance_msats,
        upstream_priced=old.upstream_priced or new.upstream_priced,
    )


def is_overcharge(billed_msats: int | None, expected_msats: int | None) -> bool:
    """Whether the node billed more than its own price list says, beyond its rounding."""
    if billed_msats is None or expected_msats is None:
        return False
    return billed_msats > expected_msats + OVERCHARGE_TOLERANCE_MSATS


def sats(msats: float | None) -> str | None:
    """Msats as a decimal number of sats, exact to the msat: ``412`` -> ``"0.412"``."""
    if msats is None:
        return None
    whole, rest = divmod(abs(math.ceil(msats)), MSATS_PER_SAT)
    text = f"{whole}.{rest:03}".rstrip("0") if rest else str(whole)
    return f"-{text}" if msats <= -1 else text

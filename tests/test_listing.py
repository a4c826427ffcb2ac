"""A node's model list: prices in msats, exactly, or a reason not to believe it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from arbstr.core.catalog import Model
from arbstr.core.listing import ABSURD_FACTOR, ListingError, read_listing
from arbstr.core.price import Price
from tests import replay

NOW_MS = 1_800_000_000_000


def entry(name: str = "m", **more: object) -> dict[str, Any]:
    sats = {"prompt": 0.001, "completion": 0.004, "request": 0.001, "max_cost": 45.056}
    return {"id": name, "sats_pricing": sats} | more


def read(*entries: dict[str, Any], last: tuple[Model, ...] = ()) -> tuple[Model, ...]:
    body = json.dumps({"data": list(entries)}).encode()
    return read_listing(body, provider="p", now_ms=NOW_MS, last=last)


def test_the_captured_list_is_read_to_the_msat() -> None:
    models = {
        m.id: m
        for m in read_listing(replay.load("models_no_v1").answer, provider="p", now_ms=NOW_MS)
    }
    mid = models["mock-mid"]
    assert mid.price == Price(Decimal(1), Decimal(4))
    assert (mid.context, mid.max_output) == (32_768, 4_096)
    assert (mid.vision, mid.source, mid.listed_ms) == (False, "synced", NOW_MS)
    gemini = models["gemini-2.0-flash"].price
    assert gemini is not None
    assert (gemini.input, gemini.output) == (Decimal("0.1"), Decimal("0.4"))
    assert gemini.cached == Decimal("0.025")
    assert gemini.base_fee_msats == 0  # advertised, and not charged
    assert models["gpt-4o"].vision is True
    assert models["mock-free"].price == Price(Decimal(0), Decimal(0))


def test_what_an_entry_says_is_kept_and_the_rest_is_not_known() -> None:
    (full,) = read(
        entry(
            context_length=1000,
            top_provider={"max_completion_tokens": 100},
            architecture={"input_modalities": ["text", "image"]},
            supported_parameters=["tools", "response_format"],
            alias_ids=["n", 7],
        )
    )
    assert (full.context, full.max_output, full.vision) == (1000, 100, True)
    assert (full.tools, full.json, full.aliases) == (True, True, ("n",))
    assert full.max_cost_msats == Decimal(45056)
    (bare,) = read(entry())
    assert (bare.context, bare.max_output, bare.vision, bare.tools, bare.json) == (None,) * 5


def test_a_cache_rate_of_zero_is_none() -> None:
    sats = {"prompt": 1, "completion": 2, "input_cache_read": 0, "input_cache_write": 0.0}
    (model,) = read(entry(sats_pricing=sats))
    assert model.price == Price(Decimal(1000), Decimal(2000))


@pytest.mark.parametrize(
    "left_out",
    [
        entry("x", enabled=False),
        entry("x", sats_pricing=None),
        {"id": "x"},
        {"sats_pricing": {}},
        entry(""),
        entry("m"),
    ],
)
def test_what_is_not_for_sale_is_left_out(left_out: dict[str, Any]) -> None:
    assert [m.id for m in read(entry("m"), left_out)] == ["m"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"data": []}',
        b'{"data": {}}',
        b'{"data": [{"id": "x"}]}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(ListingError):
        read_listing(body, provider="p", now_ms=NOW_MS)


@pytest.mark.parametrize(
    "sats",
    [
        {"prompt": -1, "completion": 1},
        {"prompt": 1, "completion": "free"},
        {"prompt": 1},
        {"prompt": True, "completion": 1},
        {"prompt": 5000, "completion": 1},
        {},
    ],
)
def test_a_price_that_is_none_refuses_the_whole_list(sats: dict[str, Any]) -> None:
    with pytest.raises(ListingError, match="bad"):
        read(entry("good"), entry("bad", sats_pricing=sats))


def test_prices_that_grow_absurdly_are_not_believed() -> None:
    last = read(entry("a"), entry("b"))
    sats = {"prompt": 0.1, "completion": 0.004 * ABSURD_FACTOR}
    with pytest.raises(ListingError, match="100 times"):
        read(entry("a", sats_pricing=sats), entry("b", sats_pricing=sats), last=last)
    # one of three is that model's business; new ones and falling prices are nobody's
    assert read(
        entry("a", sats_pricing=sats), entry("b"), entry("c"), last=read(*map(entry, "abc"))
    )
    assert read(entry("new", sats_pricing=sats), entry("a"), last=last)
    assert read(entry("a"), last=read(entry("a", sats_pricing=sats)))

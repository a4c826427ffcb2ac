"""A model is found under every spelling of its name, and only there."""

from __future__ import annotations

from decimal import Decimal

import pytest

from arbstr.core.catalog import Catalog, Model, plain_name
from arbstr.core.price import Price

PRICE = Price(Decimal(1), Decimal(4))


def ids(found: tuple[Model, ...]) -> list[str]:
    return [f"{m.provider}/{m.id}" for m in found]


CATALOG = Catalog(
    [
        Model("gpt-4o", "a", PRICE),
        Model("gpt-4o-mini", "a", PRICE, aliases=("small",)),
        Model("claude-sonnet-4.5", "a", PRICE),
        Model("claude-3.5-haiku", "a", PRICE),
        Model("gpt-4o", "b", PRICE),
        Model("openai/gpt-4o-2024-11-20", "b", PRICE),
        Model("llama3:8b", "b", PRICE),
    ]
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt-4o", ["a/gpt-4o", "b/gpt-4o"]),
        ("GPT-4o", ["a/gpt-4o", "b/gpt-4o", "b/openai/gpt-4o-2024-11-20"]),
        ("openai/gpt-4o", ["a/gpt-4o", "b/gpt-4o", "b/openai/gpt-4o-2024-11-20"]),
        ("openai/gpt-4o-2024-11-20", ["b/openai/gpt-4o-2024-11-20"]),
        ("gpt-4o-2024-11-20", ["a/gpt-4o", "b/gpt-4o", "b/openai/gpt-4o-2024-11-20"]),
        ("small", ["a/gpt-4o-mini"]),
        ("SMALL", ["a/gpt-4o-mini"]),
        ("claude-sonnet-4.5", ["a/claude-sonnet-4.5"]),
        ("claude-sonnet-4-5", ["a/claude-sonnet-4.5"]),
        ("claude-sonnet-4-5-20250929", ["a/claude-sonnet-4.5"]),
        ("anthropic/claude-sonnet-4.5", ["a/claude-sonnet-4.5"]),
        ("anthropic/claude-sonnet-4-5-20250929", ["a/claude-sonnet-4.5"]),
        ("Claude-Sonnet-4_5", ["a/claude-sonnet-4.5"]),
        ("claude-3-5-haiku-20241022", ["a/claude-3.5-haiku"]),
        ("openrouter/anthropic/claude-3.5-haiku", ["a/claude-3.5-haiku"]),
        ("llama3-8b", ["b/llama3:8b"]),
        ("claude-sonnet-4", []),
        ("claude-sonnet-45", []),
        ("gpt-4o-minimum", []),
        ("gpt-4o-1106", []),
        ("", []),
    ],
)
def test_names_are_found_in_any_spelling(name: str, found: list[str]) -> None:
    assert ids(CATALOG.find(name)) == found


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("anthropic/Claude-Sonnet-4.5", "claude-sonnet-4-5"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("o1", "o1"),
        ("gpt-4-0613", "gpt-4-0613"),
    ],
)
def test_spellings_fold(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_near_names_help_with_a_slip() -> None:
    assert CATALOG.near("gpt4o-mini")[0] == "gpt-4o-mini"
    assert CATALOG.near("claude-sonet-4.5")[0] == "claude-sonnet-4.5"
    assert CATALOG.near("zzzz") == ()


def test_a_seller_whose_list_is_not_known_may_sell_anything() -> None:
    catalog = Catalog([Model("x", "a")], providers=("a", "b"), open_providers=frozenset({"b"}))
    (model,) = catalog.assumed("whatever")
    assert (model.id, model.provider, model.price, model.source) == (
        "whatever",
        "b",
        None,
        "assumed",
    )
    assert catalog.find("whatever") == ()


def test_rates_for_ranking_are_those_of_the_price() -> None:
    model = Model(
        "m", "p", Price(Decimal(1), Decimal(4), Decimal("0.1"), base_fee_msats=Decimal(5))
    )
    assert (model.input_rate, model.cached_rate, model.cache_write_rate) == (1.0, 0.1, 1.0)
    assert (model.output_rate, model.base_fee) == (4.0, 5.0)
    assert Model("m", "p").input_rate == 0.0

"""A conversation stays where its cache is while that is the cheaper choice."""

from collections.abc import Sequence
from decimal import Decimal

import pytest

from arbstr.core.ask import Ask
from arbstr.core.catalog import Catalog, Model
from arbstr.core.conversation import Conversations, Warm
from arbstr.core.forecast import Forecast
from arbstr.core.policy import Choice, Policies, Rule
from arbstr.core.price import Price
from arbstr.core.route import Conditions, Route, plan

TURNS = 20
SECOND_MS = 1000
RULE = Rule("r")


def turn(n: int, *, start: int = 40_000, growth: int = 4_000) -> Ask:
    """Turn `n` of a conversation: its prompt repeats the turn before and adds `growth` bytes."""
    size = start + n * growth
    return Ask(
        dialect="messages",
        model="arbstr/r",
        prompt_bytes=size,
        prefix_bytes=size - growth if n else 0,
        conversation="c",
    )


def model(name: str, fresh: str, cached: str | None, output: str = "1") -> Model:
    cached_rate = None if cached is None else Decimal(cached)
    return Model(name, "p", Price(Decimal(fresh), Decimal(output), cached=cached_rate))


def learned(models: Sequence[Model], tokens: int) -> Forecast:
    forecast = Forecast()
    for found in models:
        for _ in range(50):
            forecast.learn(
                policy="r",
                model=found.id,
                prompt_bytes=None,
                input_tokens=None,
                output_tokens=tokens,
                at_ms=0,
            )
    return forecast


def decide(
    ask: Ask, models: Sequence[Model], forecast: Forecast, known: Conversations, now_ms: int
) -> Route:
    conditions = Conditions(warm=lambda a: known.warm(a, now_ms))
    choice = Choice(RULE, "model", any_model=True)
    return plan(ask, choice, Catalog(models), Policies((RULE,)), forecast, conditions)


class Seller:
    """Bills as the mock does: what a model has read of a conversation costs its cached rate."""

    def __init__(self) -> None:
        self.read: dict[str, float] = {}
        self.total = 0.0

    def answer(self, found: Model, ask: Ask, output: int) -> int:
        tokens = ask.prompt_bytes / 4
        cached = min(self.read.get(found.id, 0.0), ask.prefix_bytes / 4)
        self.total += (tokens - cached) * found.input_rate + cached * found.cached_rate
        self.total += output * found.output_rate
        self.read[found.id] = tokens
        return round(cached)


def arbstr_total(models: Sequence[Model], first: str, *, growth: int, output: int) -> float:
    """What arbstr spends on a conversation whose first turn `first` has answered."""
    seller, known, forecast = Seller(), Conversations(), learned(models, output)
    for n in range(TURNS):
        ask, now_ms = turn(n, growth=growth), n * 30 * SECOND_MS
        found = decide(ask, models, forecast, known, now_ms).candidates[0].model
        if n == 0:
            found = next(m for m in models if m.id == first)
        cached = seller.answer(found, ask, output)
        known.answered(ask, provider="p", model=found.id, now_ms=now_ms, cached_tokens=cached)
    return seller.total


def staying_total(models: Sequence[Model], name: str, *, growth: int, output: int) -> float:
    seller = Seller()
    for n in range(TURNS):
        found = next(m for m in models if m.id == name)
        seller.answer(found, turn(n, growth=growth), output)
    return seller.total


def cheapest_by_list_total(
    models: Sequence[Model], first: str, *, growth: int, output: int
) -> float:
    """After the first turn, everything to the model with the lowest list prices."""
    seller = Seller()
    cheapest = min(models, key=lambda m: m.input_rate + m.output_rate)
    for n in range(TURNS):
        found = cheapest if n else next(m for m in models if m.id == first)
        seller.answer(found, turn(n, growth=growth), output)
    return seller.total


@pytest.mark.parametrize(
    ("warm", "other", "growth", "output", "better"),
    [
        pytest.param(("3", "0.3"), ("1", None), 4_000, 200, "stay", id="staying wins"),
        pytest.param(("3", "1.5"), ("1", "0.1"), 4_000, 200, "switch", id="switching wins"),
        pytest.param(("1.2", "0.5"), ("1", "0.5"), 4_000, 200, "even", id="even"),
    ],
)
def test_twenty_turns_cost_little_more_than_the_better_of_staying_and_switching(
    warm: tuple[str, str], other: tuple[str, str | None], growth: int, output: int, better: str
) -> None:
    models = [model("warm", *warm), model("other", *other)]
    stay = staying_total(models, "warm", growth=growth, output=output)
    switch = cheapest_by_list_total(models, "warm", growth=growth, output=output)
    ours = arbstr_total(models, "warm", growth=growth, output=output)

    assert ours <= 1.15 * min(stay, switch)
    if better == "even":
        assert stay == pytest.approx(switch, rel=0.1)
    else:
        assert (better == "stay") == (stay < 0.8 * switch)


def test_the_warm_prefix_is_priced_at_the_cached_rate_and_shown() -> None:
    models = [model("warm", "1", "0.1"), model("other", "1", "0.1")]
    known, forecast = Conversations(), learned(models, 100)
    known.answered(turn(0), provider="p", model="warm", now_ms=0)

    first, second = decide(turn(1), models, forecast, known, 1).candidates
    assert (first.model.id, first.note, first.cached_tokens) == ("warm", "warm cache", 10_000)
    assert (second.model.id, second.note, second.cached_tokens) == ("other", None, 0)
    assert first.expected_msats == pytest.approx(10_000 * 0.1 + 1_000 + first.output_tokens)
    assert second.expected_msats == pytest.approx(11_000 + second.output_tokens)
    assert first.turn_msats is not None
    assert second.turn_msats is not None
    assert second.expected_msats is not None
    assert first.turn_msats < second.turn_msats < second.expected_msats


def test_a_dear_warm_model_is_left_when_that_pays_over_the_next_turns() -> None:
    models = [model("warm", "4", "1"), model("other", "2", "0.2")]
    known, forecast = Conversations(), learned(models, 100)
    known.answered(turn(0), provider="p", model="warm", now_ms=0)

    first, second = decide(turn(1), models, forecast, known, 1).candidates
    assert first.model.id == "other"
    assert first.expected_msats is not None
    assert second.expected_msats is not None
    assert first.expected_msats > second.expected_msats  # dearer now, cheaper soon


def test_the_cache_is_cold_after_a_while() -> None:
    known = Conversations({"slow": 3600.0})
    known.answered(turn(0), provider="p", model="m", now_ms=0)

    assert known.warm(turn(1), 300 * SECOND_MS) == Warm("p", "m", 40_000, 4_000.0)
    assert known.warm(turn(1), 300 * SECOND_MS + 1) is None
    known.answered(turn(0), provider="slow", model="m", now_ms=0)
    assert known.warm(turn(1), 3600 * SECOND_MS) is not None


def test_a_failure_lets_the_conversation_go() -> None:
    known = Conversations()
    known.answered(turn(0), provider="p", model="m", now_ms=0)
    known.failed(turn(1), provider="p", model="another")
    assert known.warm(turn(1), 1) is not None

    known.failed(turn(1), provider="p", model="m")
    assert known.warm(turn(1), 1) is None


def test_a_request_outside_of_a_conversation_is_not_remembered() -> None:
    known = Conversations()
    alone = Ask(dialect="chat", model="m", prompt_bytes=4_000, prefix_bytes=4_000)
    known.answered(alone, provider="p", model="m", now_ms=0)

    assert known.warm(alone, 1) is None


def test_a_model_that_was_seen_to_cache_nothing_is_not_warm() -> None:
    known = Conversations()
    for n in range(2):
        known.answered(turn(n), provider="p", model="m", now_ms=n, cached_tokens=0)
    warm = known.warm(turn(2), 2)
    assert warm is not None
    assert (warm.cached_bytes, warm.caches) == (0, False)

    known.answered(turn(2), provider="p", model="other", now_ms=3, cached_tokens=0)
    assert known.warm(turn(3), 3) == Warm("p", "other", 48_000, 4_000.0)


def test_only_so_many_conversations_are_remembered() -> None:
    known = Conversations()
    for n in range(10_001):
        ask = Ask(dialect="chat", model="m", prompt_bytes=9, prefix_bytes=9, conversation=str(n))
        known.answered(ask, provider="p", model="m", now_ms=0)

    oldest, newest = (
        Ask(dialect="chat", model="m", prompt_bytes=9, prefix_bytes=9, conversation=c)
        for c in ("0", "10000")
    )
    assert known.warm(oldest, 1) is None
    assert known.warm(newest, 1) is not None

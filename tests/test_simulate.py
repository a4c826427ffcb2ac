"""What the past would have cost, on a cut of a real trace (tests/data/trace/NOTICE.md)."""

import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from arbstr.core.catalog import Catalog
from arbstr.core.policy import Rule
from arbstr.core.price import Price
from arbstr.core.record import RequestRow
from arbstr.core.simulate import Kind, Simulation, simulate, simulated_models
from arbstr.core.trace import (
    Row,
    ledger_outputs,
    read_ledger,
    read_prices,
    read_trace,
    read_workload,
    trace_outputs,
)

TRACE = Path(__file__).parent / "data" / "trace"
WORKLOAD = read_workload((TRACE / "workload.json").read_bytes())
CATALOG = Catalog(read_prices((TRACE / "prices_usd.json").read_bytes()))
PRICES = b"""{
    "cheap": {"input_usd_per_token": 1e-6, "output_usd_per_token": 2e-6},
    "dear": {"input_usd_per_token": 3e-6, "output_usd_per_token": 1.5e-5,
             "cache_read_usd_per_token": 3e-7, "context_tokens": 2000, "vision": true}
}"""
RULE = Rule("r", allowed_models=("cheap", "dear"))


def trace(seed: int) -> tuple[list[Row], random.Random]:
    lines = [
        (TRACE / name).read_text().splitlines() for name in ("azure_conv.csv", "azure_code.csv")
    ]
    rows = [row for part in lines for row in read_trace(part)]
    chance = random.Random(seed)
    chance.shuffle(rows)
    return rows, chance


def replay(policy: str, seed: int) -> Simulation:
    rows, chance = trace(seed)
    rule = Rule(policy, allowed_models=WORKLOAD.policies[policy])
    models = simulated_models(CATALOG, rule, ())
    outputs = trace_outputs(rows, models, WORKLOAD.output_multiplier, chance=chance)
    return simulate(rows, outputs, models, rule)


def msats(simulation: Simulation, kind: Kind, name: str | None = None) -> int:
    total = simulation.total(kind, name)
    assert total is not None
    return total.msats


def row(tokens: Sequence[int], model: str | None = None, requested: str | None = None) -> Row:
    return Row(tokens[0], tokens[1], 0, model, requested)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("policy", sorted(WORKLOAD.policies))
def test_learning_included_arbstr_is_as_good_as_knowing_each_models_mean(
    policy: str, seed: int
) -> None:
    found = replay(policy, seed)

    known = msats(found, "known means")
    assert msats(found, "arbstr") <= 1.03 * known
    for total in found.totals:
        if total.kind == "ranking" and total.msats > 1.03 * known:
            assert msats(found, "arbstr") < total.msats
    assert msats(found, "clairvoyant") <= min(total.msats for total in found.totals)


def test_a_seed_makes_the_same_run() -> None:
    assert replay("quick", 7) == replay("quick", 7)


def test_each_way_of_choosing_costs_what_it_chose() -> None:
    models = read_prices(PRICES)
    rows = [row((1000, 100)), row((100, 10))]
    outputs = trace_outputs(rows, models, {"cheap": 10, "dear": 1}, chance=Even())
    found = simulate(rows, outputs, models, RULE, requested="dear")

    cheap = [1000 * 1 + 1000 * 2, 100 * 1 + 100 * 2]  # 1 sat = $0.001: $1e-6 is 1 msat
    dear = [1000 * 3 + 100 * 15, 100 * 3 + 10 * 15]
    assert (msats(found, "alone", "cheap"), msats(found, "alone", "dear")) == (
        sum(cheap),
        sum(dear),
    )
    assert msats(found, "requested") == sum(dear)
    assert msats(found, "ranking", "output rate") == sum(cheap)
    assert msats(found, "clairvoyant") == sum(cheap)
    assert found.rows == 2
    assert found.totals[0].requests == (("cheap", 2),)
    assert [learned.samples for learned in found.learned] == [2]


def test_a_model_is_only_chosen_for_what_fits_it() -> None:
    models = read_prices(PRICES)
    rows = [row((5000, 100)), row((100, 100))]
    outputs = trace_outputs(rows, models, {"cheap": 100, "dear": 1}, chance=Even())
    found = simulate(rows, outputs, models, RULE)

    clairvoyant = found.total("clairvoyant")
    assert clairvoyant is not None
    assert clairvoyant.requests == (("cheap", 1), ("dear", 1))


def test_a_row_that_fits_nobody_is_left_out_and_counted() -> None:
    models = read_prices(PRICES)
    rule = Rule("r", allowed_models=("dear",))
    rows = [row((5000, 100)), row((100, 100))]
    models = simulated_models(Catalog(models), rule, ())
    outputs = trace_outputs(rows, models, {}, chance=Even())
    found = simulate(rows, outputs, models, rule)

    assert (found.rows, found.skipped) == (1, 1)
    assert found.assumed == ("dear",)


def test_the_requested_model_may_lie_outside_the_policy() -> None:
    catalog = Catalog(read_prices(PRICES))
    rule = Rule("r", allowed_models=("cheap",))
    models = simulated_models(catalog, rule, {"dear", "unlisted"})
    rows = [row((100, 10), requested="dear"), row((100, 10), requested="arbstr/r")]
    found = simulate(rows, trace_outputs(rows, models, {}, chance=Even()), models, rule)

    assert [m.id for m in models] == ["cheap", "dear"]
    assert msats(found, "requested") == (100 * 3 + 10 * 15) + (100 * 1 + 10 * 2)
    assert [t.name for t in found.totals if t.kind == "alone"] == ["cheap"]


def test_a_policy_without_a_priced_model_cannot_be_simulated() -> None:
    with pytest.raises(ValueError, match="allows no model with a price"):
        simulate([], trace_outputs([], (), {}, chance=Even()), (), RULE)


def test_progress_is_told_to_the_end() -> None:
    models = read_prices(PRICES)
    rows = [row((100, 10))] * 450
    told: list[tuple[int, int]] = []
    outputs = trace_outputs(rows, models, {}, chance=Even())
    simulate(rows, outputs, models, RULE, progress=lambda *done: told.append(done))

    assert told == [(200, 450), (400, 450), (450, 450)]


def test_the_noise_has_mean_one() -> None:
    rows = [row((1, 100))] * 20_000
    outputs = trace_outputs(rows, read_prices(PRICES), {"cheap": 3}, chance=random.Random(1))

    means = [sum(made[n] for made in outputs.rows) / len(rows) for n in range(2)]
    assert means == [pytest.approx(300, rel=0.02), pytest.approx(100, rel=0.02)]
    assert outputs.assumed == ("dear",)


# --- the user's own ledger ------------------------------------------------------------------------


def request(number: int, **changes: object) -> RequestRow:
    values: dict[str, object] = {
        "id": number,
        "instance": "i",
        "started_at": 1000 * number,
        "endpoint": "chat",
        "outcome": "ok",
        "model": "cheap",
        "input_tokens": 100,
        "output_tokens": 10,
    }
    return RequestRow(**(values | changes))  # type: ignore[arg-type]


def test_the_ledgers_answers_are_read_oldest_first() -> None:
    rows = read_ledger(
        [
            request(3, cached_tokens=50, requested_model="dear"),
            request(1, outcome="client_closed"),
            request(2, outcome="error"),
            request(4, input_tokens=None),
            request(5, output_tokens=None),
            request(6, model=None),
        ]
    )

    assert rows == (Row(100, 10, 1000, "cheap"), Row(150, 10, 3000, "cheap", "dear"))


def test_what_another_model_would_have_written_goes_by_what_it_writes_elsewhere() -> None:
    rows = [row((100, 50), "cheap"), row((100, 200), "dear")] * 30
    outputs = ledger_outputs(rows, read_prices(PRICES))

    assert list(outputs.rows[0]) == [50, pytest.approx(200)]
    assert list(outputs.rows[1]) == [pytest.approx(50), 200]
    assert outputs.assumed == ()


def test_a_model_that_never_answered_is_assumed_to_write_the_same() -> None:
    outputs = ledger_outputs([row((100, 50), "cheap")], read_prices(PRICES))

    assert list(outputs.rows[0]) == [50, 50]
    assert outputs.assumed == ("dear",)


# --- files ----------------------------------------------------------------------------------------


def test_prices_are_turned_into_msats() -> None:
    _, dear = read_prices(PRICES, usd_per_sat=Decimal("0.0005"))

    assert dear.price is not None
    assert dear.price == Price(input=Decimal(6), output=Decimal(30), cached=Decimal("0.6"))
    assert (dear.context, dear.vision, dear.tools) == (2000, True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column input_tokens or output_tokens"),
        ("input_tokens,tokens\n1,2", "line 1: no column output_tokens"),
        ("input_tokens,output_tokens\n1,2\n3,four", "line 3: tokens are whole numbers"),
        ("input_tokens,output_tokens\n1", "line 2: tokens are whole numbers"),
        ("input_tokens,output_tokens\n1,-2", "line 2: tokens are not negative"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_trace(text.splitlines())


@pytest.mark.parametrize("document", [b"[]", b"{", b'{"m": {"input_usd_per_token": 1}}'])
def test_bad_prices_are_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_prices(document)


class Even:
    """Chance without chance: the middle of every distribution."""

    def gauss(self, mu: float, sigma: float) -> float:
        return mu + sigma * sigma / 2  # so that the noise is exactly 1

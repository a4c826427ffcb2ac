"""What the past would have cost: arbstr's choices beside those of simpler and of wiser routers.

Each row is a request under one policy. arbstr's choice is the first candidate of `route.plan`, the
same that decides live, with a forecast that starts empty and learns from each answer as it comes.
The others choose among the same candidates, row by row, so that all of them respect the policy and
what fits; *alone* sends everything to one model, whether it fits or not.

The list-price rankings know prices only: the output rate (the Rust arbstr), a blend of both rates
(1:3 is read as one part input to three parts output; the other reading is shown too), and their sum
(the Routstr SDK). *Known means* knows each model's mean output over the whole run, which nobody can
know beforehand; *clairvoyant* knows every answer's length. *Requested* pays for the model that the
client named, and arbstr's choice where it named none.

Left out: caches (all input costs the full rate), daily caps, failures.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.catalog import Catalog, Model
from arbstr.core.conditions import Conditions
from arbstr.core.forecast import BYTES_PER_TOKEN, Forecast, Learned
from arbstr.core.policy import MODEL_PREFIX, Choice, Policies, Rule
from arbstr.core.route import NoModelError, plan
from arbstr.core.shortlist import Refusal, shortlist
from arbstr.core.trace import Outputs, Row

type Kind = Literal["arbstr", "requested", "alone", "ranking", "known means", "clairvoyant"]
type Progress = Callable[[int, int], None]
"""Told the rows done and the rows in all."""

RANKINGS: Mapping[str, Callable[[float, float], float]] = {
    "output rate": lambda _input, output: output,
    "1:3 blend (input + 3 output)": lambda input_, output: (input_ + 3 * output) / 4,
    "3:1 blend (3 input + output)": lambda input_, output: (3 * input_ + output) / 4,
    "sum of rates": lambda input_, output: input_ + output,
}
"""Orders by list price alone: of an input and an output rate, in the same unit."""

_PROGRESS_ROWS = 200
_ROUNDING = 1e-9
"""A cost this little above a whole msat is float noise, not a reason to round up."""


class Total(msgspec.Struct, frozen=True):
    """What one way of choosing costs over all rows, in msats.

    `ratio`: to known means. `requests` by model id, most first.
    """

    kind: Kind
    name: str
    msats: int
    ratio: float
    requests: tuple[tuple[str, int], ...]


class Simulation(msgspec.Struct, frozen=True):
    """The outcome. `skipped`: rows that no allowed model fits, left out of every total.

    `refusals`: models kept out by their output rate or tier. `assumed`:
    models whose verbosity is a guess. `learned`: what arbstr's forecast knew at the end.
    """

    policy: str
    rows: int
    skipped: int
    totals: tuple[Total, ...]
    refusals: tuple[Refusal, ...]
    assumed: tuple[str, ...]
    learned: tuple[Learned, ...]

    def total(self, kind: Kind, name: str | None = None) -> Total | None:
        """The total of this kind and name (None: the first of the kind)."""
        found = (t for t in self.totals if t.kind == kind and name in (None, t.name))
        return next(found, None)


class _Case(msgspec.Struct, frozen=True, gc=False):
    """One row and all that might happen to it; models are indices.

    `candidates`: who may be chosen, the first is arbstr's choice. `requested` None: the client
    named no model, or one that is not listed.
    """

    input_tokens: int
    outputs: Sequence[float]
    costs: Sequence[int]
    candidates: tuple[int, ...]
    requested: int | None


def simulated_models(catalog: Catalog, rule: Rule, requested: Iterable[str]) -> tuple[Model, ...]:
    """The models a simulation needs outputs of: allowed by `rule`, or `requested`; and priced."""
    asked = (model for name in requested for model in catalog.find(name))
    found = {(m.provider, m.id): m for m in (*shortlist(catalog, rule).models, *asked)}
    return tuple(model for model in found.values() if model.price is not None)


def simulate(
    rows: Sequence[Row],
    outputs: Outputs,
    models: Sequence[Model],
    rule: Rule,
    *,
    requested: str | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Replay `rows` under `rule`. Raises ValueError where it allows none of `models`.

    `models` and `outputs`: of `simulated_models`, in its order. `requested`: the model that every
    client asks for; None takes each row's own word.
    """
    player = _Player(models, rule, requested)
    short = shortlist(player.catalog, rule)
    if not short.models:
        raise ValueError(f"policy {rule.name} allows no model with a price")
    cases = []
    for n, (row, written) in enumerate(zip(rows, outputs.rows, strict=True), 1):
        if (case := player.play(row, written)) is not None:
            cases.append(case)
        if progress is not None and (n % _PROGRESS_ROWS == 0 or n == len(rows)):
            progress(n, len(rows))
    allowed = [player.index[m.provider, m.id] for m in short.models]
    return Simulation(
        policy=rule.name,
        rows=len(cases),
        skipped=len(rows) - len(cases),
        totals=_totals(cases, models, allowed),
        refusals=short.refusals,
        assumed=outputs.assumed,
        learned=player.forecast.learned(),
    )


class _Player:
    """arbstr, living through the rows one after the other."""

    def __init__(self, models: Sequence[Model], rule: Rule, requested: str | None) -> None:
        # The order is wanted in full, whether or not a failure would fall back to it.
        self._choice = Choice(msgspec.structs.replace(rule, fallback=True), "model", any_model=True)
        self._models = models
        self._policies = Policies()
        self._conditions = Conditions()
        self._requested = requested
        self.catalog = Catalog(models)
        self.index = {(m.provider, m.id): n for n, m in enumerate(models)}
        self.forecast = Forecast()

    def play(self, row: Row, outputs: Sequence[float]) -> _Case | None:
        """Route one row and learn from its answer; None where no model fits."""
        ask = Ask(
            dialect="chat",
            model=MODEL_PREFIX + self._choice.name if self._choice.name else "auto",
            prompt_bytes=round(row.input_tokens * BYTES_PER_TOKEN),
        )
        try:
            route = plan(
                ask, self._choice, self.catalog, self._policies, self.forecast, self._conditions
            )
        except NoModelError:
            return None
        first = route.candidates[0]
        candidates = tuple(self.index[c.model.provider, c.model.id] for c in route.candidates)
        self.forecast.learn(
            policy=self._choice.name,
            model=first.model.id,
            prompt_bytes=ask.prompt_bytes,
            input_tokens=row.input_tokens,
            output_tokens=round(outputs[candidates[0]]),
            at_ms=row.at_ms,
            expected_output=first.output_tokens,
        )
        costs = array(
            "q",
            (
                math.ceil(_cost(model, row.input_tokens, round(output)) - _ROUNDING)
                for model, output in zip(self._models, outputs, strict=True)
            ),
        )
        return _Case(row.input_tokens, outputs, costs, candidates, self._asked_for(row))

    def _asked_for(self, row: Row) -> int | None:
        asked = self.catalog.find(self._requested or row.requested or "")
        return min((self.index[m.provider, m.id] for m in asked), default=None)


def _cost(model: Model, input_tokens: float, output_tokens: float) -> float:
    """The cost in msats at the full input rate."""
    tokens = input_tokens * model.input_rate + output_tokens * model.output_rate
    return tokens + model.base_fee


def _totals(
    cases: Sequence[_Case], models: Sequence[Model], allowed: Sequence[int]
) -> tuple[Total, ...]:
    def by_rank(rank: Sequence[float]) -> list[int]:
        return [min(case.candidates, key=rank.__getitem__) for case in cases]

    count = max(1, len(cases))
    means = [sum(case.outputs[n] for case in cases) / count for n in range(len(models))]
    ways: list[tuple[Kind, str, list[int]]] = [
        ("arbstr", "arbstr", [case.candidates[0] for case in cases]),
        ("known means", "knows each mean output", [_knowing(c, models, means) for c in cases]),
        ("clairvoyant", "knows every answer", [_clairvoyant(case) for case in cases]),
    ]
    ways += [
        ("ranking", name, by_rank([rank(m.input_rate, m.output_rate) for m in models]))
        for name, rank in RANKINGS.items()
    ]
    if any(case.requested is not None for case in cases):
        asked = [c.candidates[0] if c.requested is None else c.requested for c in cases]
        ways.append(("requested", "the requested model", asked))
    ways += [("alone", models[n].id, [n] * len(cases)) for n in allowed]
    spent = [
        sum(case.costs[n] for case, n in zip(cases, picks, strict=True)) for _, _, picks in ways
    ]
    known = next(msats for msats, way in zip(spent, ways, strict=True) if way[0] == "known means")
    return tuple(
        Total(kind, name, msats, msats / known if known else 1.0, _counted(picks, models))
        for msats, (kind, name, picks) in zip(spent, ways, strict=True)
    )


def _counted(picks: Iterable[int], models: Sequence[Model]) -> tuple[tuple[str, int], ...]:
    return tuple((models[n].id, times) for n, times in Counter(picks).most_common())


def _knowing(case: _Case, models: Sequence[Model], means: Sequence[float]) -> int:
    return min(case.candidates, key=lambda n: _cost(models[n], case.input_tokens, means[n]))


def _clairvoyant(case: _Case) -> int:
    return min(case.candidates, key=case.costs.__getitem__)

"""What a simulation replays: past requests, list prices, and how much each model writes."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from arbstr.core.catalog import Model
from arbstr.core.forecast import Forecast
from arbstr.core.price import Price, rate
from arbstr.core.record import RequestRow
from arbstr.core.usage import Usage

USD_PER_SAT = Decimal("0.001")
SIGMA = 0.35
_MSATS_PER_SAT = 1000
_INPUT, _OUTPUT = "input_tokens", "output_tokens"


class Row(msgspec.Struct, frozen=True, gc=False):
    """One request of the past. `model`: who answered it; None in a trace that does not say.

    `requested`: the model its client named; None where that is no matter.
    """

    input_tokens: int
    output_tokens: int
    at_ms: int
    model: str | None = None
    requested: str | None = None


class Workload(msgspec.Struct, frozen=True):
    """``workload.json``: lists of allowed models by name, and what each model writes.

    `output_multiplier`: a model's output tokens for each output token of the trace.
    """

    policies: dict[str, tuple[str, ...]]
    output_multiplier: dict[str, float]


class Outputs(msgspec.Struct, frozen=True):
    """How many tokens each model would write: for each row, in the order of the models.

    `assumed`: models of which nothing is known, taken to write what the one that answered wrote.
    """

    rows: Sequence[Sequence[float]]
    assumed: tuple[str, ...] = ()


class Chance(Protocol):
    """Where chance comes from: ``random.Random(seed)`` is one."""

    def gauss(self, mu: float, sigma: float) -> float:
        """A normally distributed number."""


class _ListPrice(msgspec.Struct):
    input_usd_per_token: float
    output_usd_per_token: float
    cache_read_usd_per_token: float | None = None
    cache_write_usd_per_token: float | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    vision: bool = False
    tools: bool = False


def read_trace(lines: Iterable[str]) -> tuple[Row, ...]:
    """Read a CSV with columns ``input_tokens`` and ``output_tokens``; others are skipped.

    Rows get a time of a second each. Raises ValueError, naming the line, for anything else.
    """
    reader = csv.DictReader(lines)
    missing = {_INPUT, _OUTPUT} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"line 1: no column {' or '.join(sorted(missing))}")
    rows = []
    for n, record in enumerate(reader):
        try:
            tokens = int(record[_INPUT]), int(record[_OUTPUT])
        except (TypeError, ValueError):
            raise ValueError(f"line {reader.line_num}: tokens are whole numbers") from None
        if min(tokens) < 0:
            raise ValueError(f"line {reader.line_num}: tokens are not negative")
        rows.append(Row(*tokens, at_ms=1000 * n))
    return tuple(rows)


def read_prices(document: bytes | str, *, usd_per_sat: Decimal = USD_PER_SAT) -> tuple[Model, ...]:
    """Read list prices in USD per token, by model. Raises ValueError for anything else."""
    listed = msgspec.json.decode(document, type=dict[str, _ListPrice])
    return tuple(_model(name, price, usd_per_sat) for name, price in listed.items())


def read_workload(document: bytes | str) -> Workload:
    """Read ``workload.json``. Raises ValueError for anything else."""
    return msgspec.json.decode(document, type=Workload)


def read_ledger(requests: Iterable[RequestRow]) -> tuple[Row, ...]:
    """The answered requests of a ledger whose tokens are known, oldest first."""
    rows = (_row(request) for request in requests if request.outcome in ("ok", "client_closed"))
    return tuple(sorted((row for row in rows if row is not None), key=lambda row: row.at_ms))


def trace_outputs(
    rows: Sequence[Row],
    models: Sequence[Model],
    multipliers: Mapping[str, float],
    *,
    chance: Chance,
    sigma: float = SIGMA,
) -> Outputs:
    """Make up what each model writes: the row's output, times the model's multiplier, times noise.

    The noise is drawn for each row and model: log-normal with mean 1 and `sigma`. A model without a
    multiplier has 1 and counts as assumed.
    """
    by = [multipliers.get(model.id, 1.0) for model in models]
    mu = -sigma * sigma / 2  # the mean of exp(gauss(mu, sigma)) is exp(mu + sigma**2 / 2)
    made = [
        array("d", [row.output_tokens * m * math.exp(chance.gauss(mu, sigma)) for m in by])
        for row in rows
    ]
    return Outputs(made, tuple(m.id for m in models if m.id not in multipliers))


def ledger_outputs(rows: Sequence[Row], models: Sequence[Model]) -> Outputs:
    """Estimate what each model would have written in place of the one that answered.

    That one's own output, times the ratio of the two models' learned levels over all `rows`. A
    model that never answered has no level: it is taken to write the same.
    """
    forecast = Forecast()
    for row in rows:
        forecast.learn(
            policy=None,
            model=row.model or "",
            prompt_bytes=None,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            at_ms=row.at_ms,
        )
    levels = [forecast.level(None, model.id) for model in models]
    made = []
    for row in rows:
        own = forecast.level(None, row.model or "")
        ratios = (1.0 if level is None or own is None else level / own for level in levels)
        made.append(array("d", [row.output_tokens * ratio for ratio in ratios]))
    return Outputs(
        made, tuple(m.id for m, level in zip(models, levels, strict=True) if level is None)
    )


def _model(name: str, listed: _ListPrice, usd_per_sat: Decimal) -> Model:
    msats_per_usd = _MSATS_PER_SAT / usd_per_sat
    cached, write = listed.cache_read_usd_per_token, listed.cache_write_usd_per_token
    return Model(
        id=name,
        provider="list",
        price=Price(
            input=rate(listed.input_usd_per_token) * msats_per_usd,
            output=rate(listed.output_usd_per_token) * msats_per_usd,
            cached=None if cached is None else rate(cached) * msats_per_usd,
            cache_write=None if write is None else rate(write) * msats_per_usd,
        ),
        context=listed.context_tokens,
        max_output=listed.max_output_tokens,
        vision=listed.vision,
        tools=listed.tools,
    )


def _row(request: RequestRow) -> Row | None:
    fresh, output = request.input_tokens, request.output_tokens
    prompt = Usage(fresh, request.cached_tokens, request.cache_write_tokens).prompt_tokens
    if prompt is None or not output or request.model is None:
        return None
    return Row(prompt, output, request.started_at, request.model, request.requested_model)

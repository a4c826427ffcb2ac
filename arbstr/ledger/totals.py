"""What ranges of the ledger add up to: from the roll-ups where an hour is whole, else from rows.

A range that begins or ends within an hour has that hour's rows summed, with the same measures; rows
in flight are in no roll-up and are summed too. Where retention has deleted the rows of an hour that
a range cuts, that hour is left out.
"""

# ruff: noqa: S608 - the statements are put together from names and numbers of our own

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from arbstr.core.record import Outcome
from arbstr.ledger import rollup
from arbstr.ledger.rollup import HOUR_MS, MEASURES, TIMES
from arbstr.ledger.tables import FAILED, IN_FLIGHT, OK, OUTCOMES

type Key = int | None
type Column = Literal["model", "provider", "policy", "client", "hour"]

_ROLLUPS = "rollups"
_IN_TIME = "request_rows r INDEXED BY request_rows_time"
_FLYING = "request_rows r INDEXED BY request_rows_in_flight"


class Filters(msgspec.Struct, frozen=True):
    """Which requests: those for which all of it holds; None asks nothing.

    `since_ms` (inclusive) and `until_ms` (exclusive): UTC ms of `started_at`. `failed`: ended as
    ``error``, ``refused`` or ``interrupted``.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    model: str | None = None
    provider: str | None = None
    policy: str | None = None
    client: str | None = None
    outcome: Outcome | None = None
    failed: bool = False


class Totals(msgspec.Struct, frozen=True):
    """What requests add up to.

    `total` and the outcomes, `streaming`, `billed`, `computed`, `unknown` (by `cost_source`, of
    those that were sent and have ended), `overcharged` and `upstream_priced` count requests.
    `cost_msats` sums the known costs, `billed_msats` and `computed_cost_msats` by their source;
    `expected_msats`: what the billed ones should have cost; `saved_msats`: against the model asked
    for, where both costs are known. Tokens are sums of what is known; `input_tokens` are fresh
    ones. Times are good to 5 %, and those of ``ok`` requests unless an outcome is asked for.
    """

    total: int = 0
    ok: int = 0
    error: int = 0
    refused: int = 0
    interrupted: int = 0
    client_closed: int = 0
    in_flight: int = 0
    streaming: int = 0
    cost_msats: int = 0
    billed: int = 0
    computed: int = 0
    unknown: int = 0
    billed_msats: int = 0
    computed_cost_msats: int = 0
    expected_msats: int = 0
    saved_msats: int = 0
    overcharged: int = 0
    overcharge_msats: int = 0
    upstream_priced: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    attempts: int = 0
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None


class Part(msgspec.Struct, frozen=True):
    """One SELECT of a sum: whether it reads the roll-ups, its conditions and their parameters."""

    rolled: bool
    source: str
    where: tuple[str, ...]
    values: tuple[int, ...]


class Sum:
    """Sums of `names` (of `MEASURES`), requests by outcome, and histograms, while they grow."""

    def __init__(self, names: Sequence[str]) -> None:
        self.numbers = dict.fromkeys((*names, *OUTCOMES), 0)
        self.times: dict[str, Counter[int]] = {name: Counter() for name in TIMES}

    def grow(self, numbers: Sequence[float], texts: Sequence[str | None]) -> None:
        """Add a row of `select`."""
        for name, number in zip(self.numbers, numbers, strict=True):
            self.numbers[name] += int(number)
        for counts, text in zip(self.times.values(), texts, strict=False):
            counts.update(rollup.count(text or ""))

    def totals(self, lows: Sequence[int]) -> Totals:
        """All of it; `lows` as in `rollup.percentile`."""
        numbers = dict(self.numbers)
        total = numbers.pop("requests")
        ttft, latency = self.times["ttft"], self.times["latency"]
        return Totals(
            total=total,
            ttft_p50_ms=rollup.percentile(ttft, lows, 0.5),
            ttft_p95_ms=rollup.percentile(ttft, lows, 0.95),
            latency_p50_ms=rollup.percentile(latency, lows, 0.5),
            latency_p95_ms=rollup.percentile(latency, lows, 0.95),
            **numbers,
        )


def summed(
    connection: sqlite3.Connection,
    filters: Filters,
    numbers: Mapping[str, int],
    by: Column | None = None,
    *,
    names: Sequence[str] = tuple(MEASURES),
    times: bool = True,
) -> dict[Key, Sum]:
    """The sums of `names` over `filters`, by the number of `by` (None: one sum).

    `numbers`: the numbers of the texts in `filters`, by column. Raises sqlite3.Error. Call it in a
    transaction: a row must not move from one part to another between them.
    """
    sums: dict[Key, Sum] = {}
    any_outcome = filters.outcome is None and not filters.failed
    for part in parts(filters, numbers):
        sql = select(part, by, names, of_ok=any_outcome, times=times)
        for key, *values in connection.execute(sql, part.values):
            cut = len(names) + len(OUTCOMES)
            sums.setdefault(key, Sum(names)).grow(values[:cut], values[cut:])
    return sums


def parts(filters: Filters, numbers: Mapping[str, int]) -> Iterator[Part]:
    """What has to be read for `filters`: whole hours, what is in flight in them, the cut hours."""
    since, until = filters.since_ms, filters.until_ms
    first = None if since is None else -(-since // HOUR_MS)
    end = None if until is None else until // HOUR_MS
    where = (*(f"{{0}}{column} = ?" for column in numbers), *_outcomes(filters))
    values = tuple(numbers.values())
    if first is not None and end is not None and first >= end:
        yield _part(_IN_TIME, where, values, (since, until))
        return
    yield _part(_ROLLUPS, where, values, (first, end))
    first_ms, end_ms = (None if hour is None else hour * HOUR_MS for hour in (first, end))
    flying = (*where, f"r.outcome = {IN_FLIGHT}")
    yield _part(_FLYING, flying, values, (first_ms, end_ms))
    if since != first_ms:
        yield _part(_IN_TIME, where, values, (since, first_ms))
    if until != end_ms:
        yield _part(_IN_TIME, where, values, (end_ms, until))


def select(part: Part, by: Column | None, names: Sequence[str], *, of_ok: bool, times: bool) -> str:
    """The SELECT of `part`: the key, `names`, requests by outcome, and with `times` the histograms.

    `of_ok`: only those of ``ok`` requests. Numbers come as `total`: an upstream that claims absurd
    numbers of tokens cannot make a sum overflow; they are exact up to 2**53.
    """
    key: str
    if part.rolled:
        key = by or "NULL"
        sums = [f"total({name})" for name in names]
        sums += [f"total(CASE WHEN outcome = {n} THEN requests END)" for n in OUTCOMES.values()]
        texts = list(TIMES)
    else:
        key = "NULL" if by is None else f"r.started_at / {HOUR_MS}" if by == "hour" else f"r.{by}"
        sums = [f"total({MEASURES[name]})" for name in names]
        sums += [f"total(r.outcome = {n})" for n in OUTCOMES.values()]
        texts = [rollup.letter(sql) for sql in TIMES.values()]
    if times:
        sums += [
            f"group_concat({f'CASE WHEN outcome = {OK} THEN {text} END' if of_ok else text}, '')"
            for text in texts
        ]
    where = f" WHERE {' AND '.join(part.where)}" if part.where else ""
    group = "" if by is None else " GROUP BY 1"
    return f"SELECT {key}, {', '.join(sums)} FROM {part.source}{where}{group}"


def _part(
    source: str, where: tuple[str, ...], values: tuple[int, ...], ends: tuple[Key, Key]
) -> Part:
    rolled = source == _ROLLUPS
    column, prefix = ("hour", "") if rolled else ("r.started_at", "r.")
    compared = zip((">=", "<"), ends, strict=True)
    bounds = [(f"{column} {sign} ?", at) for sign, at in compared if at is not None]
    return Part(
        rolled,
        source,
        (*(text.format(prefix) for text in where), *(text for text, _ in bounds)),
        (*values, *(at for _, at in bounds)),
    )


def _outcomes(filters: Filters) -> Iterator[str]:
    if filters.outcome is not None:
        yield f"{{0}}outcome = {OUTCOMES[filters.outcome]}"
    if filters.failed:
        yield f"{{0}}outcome IN ({', '.join(map(str, FAILED))})"

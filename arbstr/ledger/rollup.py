"""Hourly sums, kept exact by the transactions that change the rows.

One row of ``rollups`` is the sum of all ended requests of one hour (of `started_at`, UTC) that
have model, provider, policy, client and outcome in common. Whatever changes ended rows takes them
out with `subtract` before and puts them back with `add` after, in the same transaction; a row in
flight is in no sum, and a row that retention deletes stays in its sum. So at every moment::

    rollups = sums of the ended rows + sums of the rows deleted by retention

`MEASURES` says once what is summed: the writer sums the rows it has just written with it, the
reader the rows of hours that a range cuts.

A histogram is a text. One observation is one letter: the one that ``buckets`` gives to its duration
(whole ms up to 11, above that steps of a tenth: within 5 % of the middle). To add histograms is to
concatenate them, which SQL can do. The letter of bucket ``b`` is ``chr(65 + b + 256 * page)``: page
0 counts 1, page 1 takes one away, and pages 2, 3, 4 ... count 4, 16, 64 ...: `pack` writes a text
that has grown long in as few letters as say the same.
"""

# ruff: noqa: S608 - the statements are put together from names and numbers of our own

from __future__ import annotations

import bisect
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from arbstr.ledger.tables import BILLED, COMPUTED, IN_FLIGHT, REFUSED, UNKNOWN

HOUR_MS = 3_600_000

KEY = ("hour", "model", "provider", "policy", "client", "outcome")

_OVER_MSATS = f"""CASE WHEN r.upstream_priced = 0 AND r.cost_msats > r.computed_msats + 1 THEN
 coalesce((SELECT CASE WHEN a.cost_source = {BILLED} AND a.cost_msats > r.computed_msats + 1
   THEN a.cost_msats - r.computed_msats ELSE 0 END
   FROM attempt_rows a WHERE a.request_id = r.id AND a.n = r.attempts),
  CASE WHEN r.cost_source = {BILLED} THEN r.cost_msats - r.computed_msats ELSE 0 END)
 ELSE 0 END"""
"""By how much the answer was billed above its price (1 msat is rounding), for the attempt that
answered alone: what an earlier one cost is no overcharge."""

MEASURES: Mapping[str, str] = {
    "requests": "1",
    "streaming": "r.stream",
    "cost_msats": "r.cost_msats",
    # A refused request was never sent, so nobody had a cost to say.
    "billed": f"r.cost_source = {BILLED} AND r.outcome <> {REFUSED}",
    "computed": f"r.cost_source = {COMPUTED} AND r.outcome <> {REFUSED}",
    "unknown": f"r.cost_source = {UNKNOWN} AND r.outcome NOT IN ({REFUSED}, {IN_FLIGHT})",
    "billed_msats": f"CASE WHEN r.cost_source = {BILLED} THEN r.cost_msats END",
    "computed_cost_msats": f"CASE WHEN r.cost_source = {COMPUTED} THEN r.cost_msats END",
    "expected_msats": f"CASE WHEN r.cost_source = {BILLED} THEN r.computed_msats END",
    "saved_msats": "r.baseline_msats - r.cost_msats",
    "overcharged": f"{_OVER_MSATS} > 0",
    "overcharge_msats": _OVER_MSATS,
    "upstream_priced": "r.upstream_priced",
    "input_tokens": "r.input_tokens",
    "cached_tokens": "r.cached_tokens",
    "cache_write_tokens": "r.cache_write_tokens",
    "output_tokens": "r.output_tokens",
    "reasoning_tokens": "r.reasoning_tokens",
    "attempts": "r.attempts",
}
"""What is summed, by column of ``rollups``: SQL over ``request_rows r``, NULL for unknown."""

TIMES: Mapping[str, str] = {"ttft": "r.ttft_ms", "latency": "r.latency_ms"}
"""The histograms, by column of ``rollups``: where their observations come from."""

_FIRST = 65
_PAGE = 256
_CHUNK = 8192
_YIELD_S = 50e-6
"""Long enough for another thread to get the lock: after `sleep(0)` this one has it back first."""
_SHORT = 32
"""Letters, of which packing would save too few."""


def letter(duration: str, shown: str = "b.letter") -> str:
    """SQL for the letter of a duration in ms, NULL for NULL; `shown`: what to make of it."""
    return f"(SELECT {shown} FROM buckets b WHERE b.low <= {duration} ORDER BY b.low DESC LIMIT 1)"


def _moving(sign: str, shown: str) -> str:
    """SQL that adds one ended request to its row of ``rollups``, or takes it away."""
    sums = ", ".join(f"{sign}coalesce({sql}, 0)" for sql in MEASURES.values())
    texts = ", ".join(f"coalesce({letter(sql, shown)}, '')" for sql in TIMES.values())
    columns = ", ".join((*KEY, *MEASURES, *TIMES))
    grown = ", ".join(
        [f"{name} = {name} + excluded.{name}" for name in MEASURES]
        + [f"{name} = {name} || excluded.{name}" for name in TIMES]
    )
    return (
        f"INSERT INTO rollups ({columns}) SELECT r.started_at / {HOUR_MS}, r.model, r.provider,"
        f" r.policy, r.client, r.outcome, {sums}, {texts} FROM request_rows r"
        f" WHERE r.id = ? AND r.outcome <> {IN_FLIGHT}"
        f" ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {grown}"
    )


_ADD = _moving("", "b.letter")
_SUBTRACT = _moving("-", f"char(unicode(b.letter) + {_PAGE})")
_GROWN = (
    f"SELECT {', '.join(KEY)}, ttft, latency FROM rollups"
    f" WHERE hour = ? AND max(length(ttft), length(latency)) > {_SHORT}"
)
_PACKED = (
    f"UPDATE rollups SET ttft = ?, latency = ? WHERE {' AND '.join(f'{name} = ?' for name in KEY)}"
)


def add(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Put those of the requests `ids` that have ended into the sums. Raises sqlite3.Error."""
    connection.executemany(_ADD, [(request_id,) for request_id in ids])


def subtract(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Take those of the requests `ids` that have ended out of the sums. Raises sqlite3.Error."""
    connection.executemany(_SUBTRACT, [(request_id,) for request_id in ids])


def pack_hour(connection: sqlite3.Connection, hour: int) -> None:
    """Shorten the histograms of an hour, all but the shortest. Raises sqlite3.Error."""
    for *key, ttft, latency in connection.execute(_GROWN, (hour,)).fetchall():
        connection.execute(_PACKED, (pack(count(ttft)), pack(count(latency)), *key))


def count(text: str) -> Counter[int]:
    """How many observations each bucket of a histogram has, by the bucket's number.

    A month's text has a letter a request. It is counted in chunks, and other threads are let in
    between, so that an event loop is not kept waiting for the interpreter's lock.
    """
    letters: Counter[str] = Counter()
    for start in range(0, len(text), _CHUNK):
        letters.update(text[start : start + _CHUNK])
        if start:
            time.sleep(_YIELD_S)
    counts: Counter[int] = Counter()
    for char, times in letters.items():
        page, offset = divmod(ord(char), _PAGE)
        counts[offset - _FIRST] += times * (-1 if page == 1 else 4 ** max(0, page - 1))
    return counts


def pack(counts: Mapping[int, int]) -> str:
    """A short text that counts the same: base 4, so at most three letters a digit and bucket."""
    letters: list[str] = []
    for bucket, times in sorted(counts.items()):
        if times < 0:
            letters.append(chr(_FIRST + bucket + _PAGE) * -times)
        page, left = 0, max(0, times)
        while left:
            left, digit = divmod(left, 4)
            letters.append(chr(_FIRST + bucket + _PAGE * page) * digit)
            page = page + 1 if page else 2
    return "".join(letters)


def percentile(counts: Mapping[int, int], lows: Sequence[int], share: float) -> float | None:
    """The duration, in ms, that `share` of the observations do not exceed; within 5 %.

    `lows`: the lowest duration of each bucket, in order. None without observations. The rank is the
    nearest one; the value is the middle of its bucket, on the scale of ratios.
    """
    buckets = sorted(bucket for bucket, times in counts.items() if times > 0)
    if not buckets:
        return None
    total, sums = 0, []
    for bucket in buckets:
        total += counts[bucket]
        sums.append(total)
    bucket = buckets[bisect.bisect_left(sums, share * total)]
    low = lows[bucket]
    high = lows[bucket + 1] - 1 if bucket + 1 < len(lows) else low
    return float((low * high) ** 0.5)

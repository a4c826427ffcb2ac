"""Requests and their attempts as rows, and what each change of a row does to the hourly sums.

A row goes in when its request goes up, and again when that ends; a cost may come late. Belongs to
the writer's thread; every method is called in a transaction and raises sqlite3.Error.
"""

# ruff: noqa: S608 - the statements are put together from names and numbers of our own

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence

from arbstr.core.record import LateCost, RequestRow
from arbstr.ledger import rollup
from arbstr.ledger.items import Finish
from arbstr.ledger.names import Names
from arbstr.ledger.tables import (
    ATTEMPT_COLUMNS,
    BILLED,
    COMPUTED,
    IN_FLIGHT,
    OUTCOMES,
    REQUEST_COLUMNS,
    UNKNOWN,
    pack_attempt,
    pack_request,
)

_PACK_ROWS = 128
"""So seldom are histograms packed, and so often that a row of ``rollups`` stays within a quarter of
its page: what is longer goes to pages of its own, which are freed and taken anew with each write.
"""


def _insert(table: str, columns: Sequence[str], conflict: str) -> str:
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT {conflict}"


_NEW = ", ".join(f"{name} = excluded.{name}" for name in REQUEST_COLUMNS if name != "id")
_BEGIN = _insert("request_rows", REQUEST_COLUMNS, "(id) DO NOTHING")
_FINISH_AGAIN = _insert("request_rows", REQUEST_COLUMNS, f"(id) DO UPDATE SET {_NEW}")
_FINISH = f"{_FINISH_AGAIN} WHERE request_rows.outcome = {IN_FLIGHT}"
"""Changes no row that has ended: the sums must let go of it first."""
_ATTEMPT = _insert(
    "attempt_rows",
    ATTEMPT_COLUMNS,
    "(request_id, n) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in ATTEMPT_COLUMNS[2:]),
)
_ENDED = (
    "SELECT id, started_at FROM request_rows"
    f" WHERE id IN (SELECT value FROM json_each(?)) AND outcome <> {IN_FLIGHT}"
)
_LATE_ATTEMPT = (
    "UPDATE attempt_rows SET input_tokens = coalesce(?, input_tokens),"
    " output_tokens = coalesce(?, output_tokens), cost_msats = coalesce(?, cost_msats),"
    " cost_source = coalesce(?, cost_source) WHERE request_id = ? AND n = ?"
)
# Who says what a request cost: the attempt that answered if it says anything, else any that does.
_LATE_REQUEST = (
    "UPDATE request_rows AS r SET balance_msats = coalesce(?, balance_msats),"
    " (cost_msats, cost_source) = (SELECT sum(a.cost_msats), coalesce("
    "  max(CASE WHEN a.n = r.attempts AND a.cost_msats IS NOT NULL"
    f"  AND a.outcome <> {OUTCOMES['error']} THEN a.cost_source END),"
    f" min(CASE WHEN a.cost_msats IS NOT NULL THEN a.cost_source END), {UNKNOWN})"
    " FROM attempt_rows a WHERE a.request_id = r.id)"
    " WHERE r.id = ?"
    " AND EXISTS (SELECT 1 FROM attempt_rows a WHERE a.request_id = r.id AND a.n = ?)"
)
assert BILLED < COMPUTED < UNKNOWN  # noqa: S101 - what `min` above rests on


class Rows:
    """The rows of requests in an open ledger."""

    def __init__(self, connection: sqlite3.Connection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._grown: list[int] = []

    def begin(self, rows: Iterable[RequestRow]) -> None:
        """Write the rows of requests that go up."""
        number = self._names.number
        self._connection.executemany(_BEGIN, [pack_request(row, number) for row in rows])

    def settle(self, ended: Mapping[int, Finish], late: Sequence[LateCost]) -> list[LateCost]:
        """Write the ends (by id) and the late costs; returns those whose request has not ended yet.

        Rows that had ended before are in the sums as they were, and are taken out of them first:
        those of late costs, and those that end again (finished twice, interrupted by a process that
        took this one for dead, or tried again after a failure that had not undone them).
        """
        again = self._finish(ended.values())
        before = self._ended({cost.request_id for cost in late} - ended.keys()) if late else {}
        if again or before:
            rollup.subtract(self._connection, [*(item.row.id for item in again), *before])
            self._finish_again(again)
        self._attempts(ended.values())
        early = []
        for cost in late:
            if cost.request_id in before or cost.request_id in ended:
                self._late(cost)
            else:
                early.append(cost)
        rollup.add(self._connection, [*ended, *before])
        self._grow([item.row.started_at for item in ended.values()])
        self._grow(before.values())
        return early

    def _finish(self, items: Iterable[Finish]) -> list[Finish]:
        """Write rows that end; returns those that had ended before: they are as they were."""
        execute, number = self._connection.execute, self._names.number
        return [
            item for item in items if not execute(_FINISH, pack_request(item.row, number)).rowcount
        ]

    def _finish_again(self, items: Sequence[Finish]) -> None:
        """Write rows over those that had ended; their old attempts are no longer true."""
        self._connection.executemany(
            "DELETE FROM attempt_rows WHERE request_id = ?", [(item.row.id,) for item in items]
        )
        self._connection.executemany(
            _FINISH_AGAIN, [pack_request(item.row, self._names.number) for item in items]
        )

    def _attempts(self, items: Iterable[Finish]) -> None:
        number = self._names.number
        self._connection.executemany(
            _ATTEMPT,
            [pack_attempt(item.row.id, tried, number) for item in items for tried in item.attempts],
        )

    def _ended(self, ids: Collection[int]) -> dict[int, int]:
        """Those of the requests `ids` that have ended, and when they had started (UTC ms)."""
        return dict(self._connection.execute(_ENDED, (json.dumps(list(ids)),)))

    def _late(self, cost: LateCost) -> None:
        known = cost.cost_msats is not None
        source = self._names.number(cost.cost_source) if known else None
        key = (cost.request_id, cost.n)
        counts = (cost.input_tokens, cost.output_tokens)
        self._connection.execute(_LATE_ATTEMPT, (*counts, cost.cost_msats, source, *key))
        self._connection.execute(_LATE_REQUEST, (cost.balance_msats, *key))

    def _grow(self, started_at: Iterable[int]) -> None:
        """Requests that had started then (UTC ms) were added to their hours: now and then, pack."""
        self._grown += [at_ms // rollup.HOUR_MS for at_ms in started_at]
        if len(self._grown) >= _PACK_ROWS:
            for hour in set(self._grown):
                rollup.pack_hour(self._connection, hour)
            self._grown.clear()

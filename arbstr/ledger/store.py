"""One open ledger: what is written into it, a transaction at a time.

Belongs to the writer's thread. Every method raises sqlite3.Error or OSError; what it was about to
write is then not written, in whole.
"""

# ruff: noqa: S608 - the statements are put together from names and numbers of our own

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from arbstr.core.record import AttemptRow, LateCost, PriceRow, RequestRow
from arbstr.ledger import database, instances, migrations, rollup
from arbstr.ledger.names import Names
from arbstr.ledger.prices import write_prices
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

_EARLY_MAX = 1000
_CHECKPOINT_PAGES = 4000
_PACK_ROWS = 128
"""So seldom are histograms packed, and so often that a row of ``rollups`` stays within a quarter of
its page: what is longer goes to pages of its own, which are freed and taken anew with each write.
"""


class Begin(msgspec.Struct, frozen=True):
    """A request goes up."""

    row: RequestRow


class Finish(msgspec.Struct, frozen=True):
    """A request has ended. `done` is called once that is written."""

    row: RequestRow
    attempts: tuple[AttemptRow, ...] = ()
    done: Callable[[], None] | None = None


class Late(msgspec.Struct, frozen=True):
    """The cost of an attempt came after its request's end."""

    cost: LateCost


class Prices(msgspec.Struct, frozen=True):
    """What a sync found."""

    rows: tuple[PriceRow, ...]


type Item = Begin | Finish | Late | Prices


def _insert(table: str, columns: Sequence[str], conflict: str) -> str:
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT {conflict}"


_NEW = ", ".join(f"{name} = excluded.{name}" for name in REQUEST_COLUMNS if name != "id")
_BEGIN = _insert("request_rows", REQUEST_COLUMNS, "(id) DO NOTHING")
_FINISH = _insert(
    "request_rows",
    REQUEST_COLUMNS,
    f"(id) DO UPDATE SET {_NEW} WHERE request_rows.outcome = {IN_FLIGHT}",
)
_FINISH_AGAIN = _insert("request_rows", REQUEST_COLUMNS, f"(id) DO UPDATE SET {_NEW}")
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
_OLDEST = (
    "SELECT id FROM request_rows INDEXED BY request_rows_time"
    f" WHERE started_at < ? AND outcome <> {IN_FLIGHT} ORDER BY started_at LIMIT ?"
)


class Store:
    """The ledger at `path`, opened, made or brought up to date.

    Raises sqlite3.Error, OSError, and LedgerError for a file that is not ours to write.
    """

    def __init__(self, path: Path, instance: str, now_ms: int) -> None:
        self._path = path
        self._instance = instance
        self._early: OrderedDict[int, list[LateCost]] = OrderedDict()
        self._grown: list[int] = []
        with database.opening(path):
            database.create(path)
            opened = database.file_id(path)
            self._database = database.connect(path)
            try:
                self._connection = database.raw(self._database)
                self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
                migrations.migrate(self._connection, now_ms)
                self._names = Names(self._connection)
                with self._transaction():
                    instances.register(self._connection, path, instance, now_ms)
            except BaseException:
                database.let_go(self._database, moved=False)
                raise
        self._file = opened

    @property
    def is_there(self) -> bool:
        """Whether the file that is open is the one that `path` names."""
        return database.file_id(self._path) == self._file

    def check_there(self) -> None:
        """Raise FileNotFoundError where `is_there` is not so: what was written went nowhere."""
        if not self.is_there:
            raise FileNotFoundError("the file was deleted, moved or replaced")

    def is_sound(self) -> bool:
        """Whether SQLite finds the file whole. Reads all of it."""
        return database.is_sound(self._connection)

    def write(self, items: Sequence[Item]) -> None:
        """Write `items` in one transaction. A begin whose finish is among them is one write."""
        ended = {item.row.id: item for item in items if isinstance(item, Finish)}
        begun = [i.row for i in items if isinstance(i, Begin) and i.row.id not in ended]
        late = [cost for request_id in ended for cost in self._early.get(request_id, ())]
        late += [item.cost for item in items if isinstance(item, Late)]
        with self._transaction():
            if begun:
                self._connection.executemany(
                    _BEGIN, [pack_request(row, self._names.number) for row in begun]
                )
            early = self._settle(ended, late) if ended or late else []
            for item in items:
                if isinstance(item, Prices):
                    write_prices(self._connection, item.rows)
        for request_id in ended:
            self._early.pop(request_id, None)
        for cost in early:
            self._early.setdefault(cost.request_id, []).append(cost)
        while len(self._early) > _EARLY_MAX:
            self._early.popitem(last=False)

    def retain(self, before_ms: int, limit: int) -> int:
        """Delete at most `limit` ended requests from before `before_ms`; returns how many.

        Their sums stay.
        """
        with self._transaction():
            ids = [row_id for (row_id,) in self._connection.execute(_OLDEST, (before_ms, limit))]
            for table, key in (("attempt_rows", "request_id"), ("request_rows", "id")):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))",
                    (json.dumps(ids),),
                )
        return len(ids)

    def checkpoint(self) -> None:
        """Move what is in the WAL into the file, as far as no reader is in the way."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def end(self, now_ms: int) -> None:
        """Write down that this instance ends."""
        with self._transaction():
            instances.end(self._connection, self._instance, now_ms)

    def close(self) -> None:
        """Close the file, whatever state it is in. Raises nothing."""
        try:
            moved = not self.is_there
        except OSError:
            moved = True
        database.let_go(self._database, moved=moved)

    def _settle(self, ended: Mapping[int, Finish], late: Sequence[LateCost]) -> list[LateCost]:
        """Write the ends and the late costs; returns those whose request has not ended yet.

        Rows that had ended before are in the sums as they were, and are taken out of them first:
        those of late costs, and those that end again (finished twice, interrupted by a process that
        took this one for dead, or tried again after a failure that did not undo them).
        """
        connection, number = self._connection, self._names.number
        again = [
            row_id
            for row_id, item in ended.items()
            if not connection.execute(_FINISH, pack_request(item.row, number)).rowcount
        ]
        before = self._ended_before({cost.request_id for cost in late} - ended.keys())
        rollup.subtract(connection, [*again, *before])
        if again:
            self._finish_again([ended[row_id] for row_id in again])
        connection.executemany(
            _ATTEMPT,
            [
                pack_attempt(row_id, attempt, number)
                for row_id, item in ended.items()
                for attempt in item.attempts
            ],
        )
        early = []
        for cost in late:
            if cost.request_id in before or cost.request_id in ended:
                self._late(cost)
            else:
                early.append(cost)
        rollup.add(connection, [*ended, *before])
        self._pack_grown([*(item.row.started_at for item in ended.values()), *before.values()])
        return early

    def _ended_before(self, ids: Iterable[int]) -> dict[int, int]:
        """Those of the requests `ids` that have ended, and when they had started (UTC ms)."""
        if not ids:
            return {}
        return dict(self._connection.execute(_ENDED, (json.dumps(list(ids)),)))

    def _finish_again(self, items: Sequence[Finish]) -> None:
        """Write rows over those that had ended; their old attempts are no longer true."""
        self._connection.executemany(
            "DELETE FROM attempt_rows WHERE request_id = ?", [(item.row.id,) for item in items]
        )
        self._connection.executemany(
            _FINISH_AGAIN, [pack_request(item.row, self._names.number) for item in items]
        )

    def _pack_grown(self, started_at: Iterable[int]) -> None:
        """Pack the histograms of hours that have grown: requests of `started_at` (UTC ms) more."""
        self._grown += [at_ms // rollup.HOUR_MS for at_ms in started_at]
        if len(self._grown) >= _PACK_ROWS:
            for hour in set(self._grown):
                rollup.pack_hour(self._connection, hour)
            self._grown.clear()

    def _late(self, cost: LateCost) -> None:
        known = cost.cost_msats is not None
        source = self._names.number(cost.cost_source) if known else None
        key = (cost.request_id, cost.n)
        counts = (cost.input_tokens, cost.output_tokens)
        self._connection.execute(_LATE_ATTEMPT, (*counts, cost.cost_msats, source, *key))
        self._connection.execute(_LATE_REQUEST, (cost.balance_msats, *key))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._names.forget()
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise
        self._names.keep()

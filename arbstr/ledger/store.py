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
_FINISH = _insert("request_rows", REQUEST_COLUMNS, f"(id) DO UPDATE SET {_NEW}")
_ATTEMPT = _insert(
    "attempt_rows",
    ATTEMPT_COLUMNS,
    "(request_id, n) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in ATTEMPT_COLUMNS[2:]),
)
_ENDED = (
    "SELECT id FROM request_rows"
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

    def _settle(self, ended: Mapping[int, Finish], late: Iterable[LateCost]) -> list[LateCost]:
        """Write the ends and the late costs; returns those whose request has not ended yet."""
        connection, number = self._connection, self._names.number
        touched = json.dumps([*ended, *{cost.request_id for cost in late} - ended.keys()])
        before = {row_id for (row_id,) in connection.execute(_ENDED, (touched,))}
        if before:
            rollup.subtract(connection, before)
            connection.executemany(
                "DELETE FROM attempt_rows WHERE request_id = ?",
                [(row_id,) for row_id in before & ended.keys()],
            )
        connection.executemany(_FINISH, [pack_request(item.row, number) for item in ended.values()])
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
        rollup.add(connection, before | ended.keys())
        return early

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

"""One open ledger: what is written into it, a transaction at a time.

Belongs to the writer's thread. Every method raises sqlite3.Error or OSError; what it was about to
write is then not written, in whole.
"""

# ruff: noqa: S608 - the statements are put together from names and numbers of our own

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from arbstr.core.record import LateCost, RequestRow
from arbstr.ledger import database, instances, migrations
from arbstr.ledger.items import Begin, Finish, Item, Late, Prices
from arbstr.ledger.names import Names
from arbstr.ledger.prices import write_prices
from arbstr.ledger.rows import Rows
from arbstr.ledger.tables import IN_FLIGHT
from arbstr.ledger.transaction import Transaction

_EARLY_MAX = 1000
_CHECKPOINT_PAGES = 4000
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
                names = Names(self._connection)
                self._rows = Rows(self._connection, names)
                self._transaction = Transaction(self._connection, names)
                with self._transaction:
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
        begun: list[RequestRow] = []
        ended: dict[int, Finish] = {}
        late: list[LateCost] = []
        prices: list[Prices] = []
        for item in items:
            if isinstance(item, Finish):
                ended[item.row.id] = item
            elif isinstance(item, Begin):
                begun.append(item.row)
            elif isinstance(item, Late):
                late.append(item.cost)
            else:
                prices.append(item)
        begun = [row for row in begun if row.id not in ended]
        if self._early:
            late = [c for row_id in ended for c in self._early.get(row_id, ())] + late
        with self._transaction:
            if begun:
                self._rows.begin(begun)
            early = self._rows.settle(ended, late) if ended or late else []
            for found in prices:
                write_prices(self._connection, found.rows)
        if self._early or early:
            self._remember(early, ended)

    def retain(self, before_ms: int, limit: int) -> int:
        """Delete at most `limit` ended requests from before `before_ms`; returns how many.

        Their sums stay.
        """
        with self._transaction:
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
        with self._transaction:
            instances.end(self._connection, self._instance, now_ms)

    def close(self) -> None:
        """Close the file, whatever state it is in. Raises nothing."""
        try:
            moved = not self.is_there
        except OSError:
            moved = True
        database.let_go(self._database, moved=moved)

    def _remember(self, early: Iterable[LateCost], ended: Iterable[int]) -> None:
        """Keep costs that came before their request's end; those of `ended` are written."""
        for request_id in ended:
            self._early.pop(request_id, None)
        for cost in early:
            self._early.setdefault(cost.request_id, []).append(cost)
        while len(self._early) > _EARLY_MAX:
            self._early.popitem(last=False)

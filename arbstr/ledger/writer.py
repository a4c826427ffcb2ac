"""The writer: one thread that owns the connection, and a queue that nobody waits at.

Whatever has queued up is one transaction. Rows stay in the queue until they are committed, so a
failed write needs no undoing: the same rows are written again, later. What happens on a failure:

==================================  ==============================================================
locked by another process           again every fraction of a second, for as long as it takes
full, read-only, cannot be opened   close, wait 0.05 to 2 s, open, again
deleted, moved, replaced            open or make the file at the path, again
corrupt                             look at all of it; set aside if it is, begin a new one, again
a row that no table takes           every row of its batch alone; that row is lost, and counted
more rows wait than the bound       the newest is lost, and counted; its request goes on
==================================  ==============================================================
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from arbstr.core.record import AttemptRow, LateCost, PriceRow, RequestRow
from arbstr.ledger import database
from arbstr.ledger.bell import Bell
from arbstr.ledger.database import LedgerError
from arbstr.ledger.instances import LiveFile
from arbstr.ledger.items import Begin, Finish, Item, Late, Prices
from arbstr.ledger.recovery import open_or_replace
from arbstr.ledger.store import Store

__all__ = ["LedgerError", "LedgerHealth", "Writer"]

logger = logging.getLogger(__name__)

BATCH_ITEMS = 500
"""A transaction's most: about 30 ms, so that a long queue still answers its first requests soon."""
DAY_MS = 86_400_000
_START_S = 2.0
_UPKEEP_S = 5.0
_RETAIN_ROWS = 200
_RETAIN_PAUSE_S = 0.02
_BUSY_PAUSE_S = 0.05
_PAUSE_S = (0.05, 2.0)
_PATIENCE_S = 1.0
"""Another process's short transaction is nothing to tell anybody."""
_GIVE_UP_S = 1.0
_NAP_S = 0.02
"""How long a first row may wait for its last one: where both have come, one write does."""
_GATHER_S = 0.001
"""How long the end of a request waits for the ends of others that are under way: the interpreter's
lock changes hands several times for each transaction, which costs more than its rows do. (Longer
brings no more of them together: while the loop has work, the lock is not to be had anyway.)"""
_AWAKE_S = 1.0
"""For how long after a write the thread only naps: a first row then need not wake it."""


class LedgerHealth(msgspec.Struct, frozen=True):
    """How the ledger is.

    `queued`: rows that wait to be written; the oldest has for `lag_ms`. `lost`: rows that never
    will be. `last_error`: why nothing can be written now; None, and `ok`, when that is over.
    `last_commit_ms`: UTC ms.
    """

    path: Path
    queued: int
    lost: int
    last_error: str | None
    last_commit_ms: int | None
    lag_ms: int
    ok: bool


class _Waiting(msgspec.Struct, frozen=True):
    since_ms: int
    item: Item


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Writer:
    """Writes the ledger at `path` for the process that calls itself `instance`.

    `retention_days`: ended requests older than that are deleted, 0 keeps all. `capacity_rows`: how
    many rows wait in memory at most. `now_ms`: UTC ms.
    """

    def __init__(
        self,
        path: Path,
        *,
        instance: str,
        retention_days: int = 0,
        capacity_rows: int = 100_000,
        now_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        self._path = path
        self._instance = instance
        self._retention_ms = retention_days * DAY_MS
        self._capacity = capacity_rows
        self._now_ms = now_ms
        self._live = LiveFile(path, instance)
        self._thread = threading.Thread(target=self._run, name="arbstr-ledger", daemon=True)
        # Kept on one side, and only looked at on the other: what is under way, by the callers;
        # whether a first row must ring, by the thread.
        self._begun: set[int] = set()
        self._asleep = False
        # Shared with the callers, changed under the lock:
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._lost = 0
        self._closing = False
        self._error: str | None = None
        self._last_commit_ms: int | None = None
        # Signals to and from the thread:
        self._bell = Bell()
        self._ready = threading.Event()
        self._give_up = threading.Event()
        self._refused: LedgerError | None = None
        # The thread's own:
        self._store: Store | None = None
        self._failing_since_s: float | None = None
        self._pause_s = _PAUSE_S[0]
        self._damages = 0
        self._alone = 0
        self._upkeep_at_s = 0.0
        self._awake_until_s = 0.0

    def start(self) -> None:
        """Open the ledger, or make it, and start writing. Raises LedgerError if it is not ours.

        Returns after 2 s at the latest; where the file cannot be opened yet, rows wait.
        """
        self._thread.start()
        self._ready.wait(_START_S)
        if self._refused is not None:
            self._thread.join()
            raise self._refused

    def begin(self, row: RequestRow) -> None:
        """Queue the first row of a request that goes up."""
        self._begun.add(row.id)
        self._put(Begin(row))

    def finish(
        self,
        row: RequestRow,
        attempts: tuple[AttemptRow, ...],
        done: Callable[[], None] | None = None,
    ) -> None:
        """Queue the final row. `done` is called on the writer's thread once it is committed."""
        self._begun.discard(row.id)
        self._put(Finish(row, attempts, done))

    def late(self, cost: LateCost) -> None:
        """Queue a cost that came after its request's end (or before it: then it waits for that)."""
        self._put(Late(cost))

    def prices(self, rows: Sequence[PriceRow]) -> None:
        """Queue what a sync found; a price that has not changed makes no row."""
        self._put(Prices(tuple(rows)))

    def health(self) -> LedgerHealth:
        """How it is now. Never blocks on the disk."""
        with self._lock:
            oldest = self._waiting[0].since_ms if self._waiting else None
            return LedgerHealth(
                path=self._path,
                queued=len(self._waiting),
                lost=self._lost,
                last_error=self._error,
                last_commit_ms=self._last_commit_ms,
                lag_ms=0 if oldest is None else max(0, self._now_ms() - oldest),
                ok=self._error is None,
            )

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what waits, and stop. False if something could not be written in time."""
        with self._lock:
            self._closing = True
        self._bell.ring()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            self._give_up.set()
            self._thread.join(_GIVE_UP_S)
        with self._lock:
            return not self._waiting

    def _put(self, item: Item) -> None:
        waiting = _Waiting(self._now_ms(), item)
        with self._lock:
            taken = len(self._waiting) < self._capacity and not self._closing
            if taken:
                self._waiting.append(waiting)
        if not taken:
            self._refuse(item)
        elif self._asleep or not isinstance(item, Begin):
            self._bell.ring()

    def _refuse(self, item: Item) -> None:
        """There is no room, or no time, for `item`."""
        if isinstance(item, Begin | Prices):
            return  # the end of the request, and the next sync, say the same again
        with self._lock:
            self._lost += 1
            first = self._lost == 1
        if first:
            why = "the ledger is closed" if self._closing else "too many rows wait"
            logger.error("ledger: %s: rows are lost: %s", self._path, why)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        self._open_first()
        while self._refused is None and not self._give_up.is_set():
            batch = self._take()
            if batch:
                self._write(batch)
            elif self._closing:
                break
            if not self._waiting and time.monotonic() >= self._upkeep_at_s:
                self._upkeep()
        self._shut()

    def _open_first(self) -> None:
        while not self._ready.is_set():
            try:
                self._opened()
            except LedgerError as error:
                self._refused = error
            except Exception as error:  # noqa: BLE001 - whatever it is, traffic goes on
                self._failed(error)
                if database.is_busy(error) and not self._closing and not self._give_up.is_set():
                    continue
            self._ready.set()

    def _take(self) -> list[_Waiting]:
        self._bell.wait(self._may_sleep_s())
        self._asleep = False
        if self._waiting and self._begun and not self._closing:
            time.sleep(_GATHER_S)
        with self._lock:
            return list(itertools.islice(self._waiting, 1 if self._alone else BATCH_ITEMS))

    def _may_sleep_s(self) -> float:
        """For how long nothing is to be done. A first row rings only if that is more than a nap."""
        now_s = time.monotonic()
        with self._lock:
            if self._waiting or self._closing:
                return 0.0
            self._asleep = now_s >= self._awake_until_s
        pause_s = max(0.0, self._upkeep_at_s - now_s)
        return pause_s if self._asleep else min(pause_s, _NAP_S)

    def _write(self, batch: list[_Waiting]) -> None:
        try:
            store = self._opened()
        except Exception as error:  # noqa: BLE001 - rows wait, whatever it is
            self._failed(error)
            return
        try:
            store.write([waiting.item for waiting in batch])
            store.check_there()
        except Exception as error:
            if not database.is_row_fault(error):
                self._failed(error)
            elif len(batch) > 1:
                self._alone = len(batch)
            else:
                logger.exception("ledger: a row cannot be stored, and is lost")
                self._leave(batch, lost=True)
            return
        self._leave(batch)
        self._worked()
        for waiting in batch:
            if isinstance(waiting.item, Finish) and waiting.item.done is not None:
                self._tell(waiting.item.done)

    def _leave(self, batch: list[_Waiting], *, lost: bool = False) -> None:
        """Take `batch` out of the queue."""
        self._alone = max(0, self._alone - len(batch))
        with self._lock:
            for _ in batch:
                self._waiting.popleft()
            self._lost += len(batch) if lost else 0

    def _tell(self, done: Callable[[], None]) -> None:
        try:
            done()
        except Exception:  # its caller's bug is not the next row's fate
            logger.exception("ledger: what was to be called after a commit failed")

    def _upkeep(self) -> None:
        """One small step of what can wait: nothing that queues up meanwhile waits long."""
        deleted = 0
        try:
            store = self._opened()
            if self._retention_ms:
                deleted = store.retain(self._now_ms() - self._retention_ms, _RETAIN_ROWS)
            if deleted < _RETAIN_ROWS:
                store.checkpoint()
        except Exception as error:  # noqa: BLE001 - it is tried again
            self._failed(error)
            self._upkeep_at_s = time.monotonic() + self._pause_s
            return
        self._worked(committed=deleted > 0)
        more = deleted == _RETAIN_ROWS
        self._upkeep_at_s = time.monotonic() + (_RETAIN_PAUSE_S if more else _UPKEEP_S)

    def _opened(self) -> Store:
        if self._store is not None and not self._store.is_there:
            self._drop_store()
        if self._store is None:
            self._live.hold()
            self._store = open_or_replace(
                self._path, self._instance, self._now_ms(), damages=self._damages
            )
        return self._store

    def _failed(self, error: Exception) -> None:
        """Remember why, let go of what may be at fault, and wait a little."""
        now_s = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        busy = database.is_busy(error)
        if not busy or now_s - self._failing_since_s >= _PATIENCE_S:
            line = f"{self._path}: {error}"
            with self._lock:
                known, self._error = self._error, line
            if known is None:
                logger.warning("ledger: %s (rows wait in memory)", line)
        if busy:
            self._give_up.wait(_BUSY_PAUSE_S)
            return
        self._damages += database.is_damage(error)
        self._drop_store()
        self._give_up.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _PAUSE_S[1])

    def _worked(self, *, committed: bool = True) -> None:
        self._failing_since_s = None
        self._pause_s = _PAUSE_S[0]
        with self._lock:
            known, self._error = self._error, None
            if committed:
                self._awake_until_s = time.monotonic() + _AWAKE_S
                self._last_commit_ms = self._now_ms()
                self._damages = 0
        if known is not None:
            logger.warning("ledger: %s is written again", self._path)

    def _drop_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _shut(self) -> None:
        if self._store is not None and not self._give_up.is_set():
            try:
                self._store.end(self._now_ms())
            except (sqlite3.Error, OSError) as error:
                logger.warning("ledger: %s: %s (the next start tidies up)", self._path, error)
        self._drop_store()
        self._live.release()

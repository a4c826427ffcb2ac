"""Which arbstr processes live: each holds a lock on a file of its own beside the database.

A process id would be reused and a heartbeat would stop with the laptop; the lock of a process is
gone at the moment it is, by whatever signal.
"""

# ruff: noqa: S608 - the statements are put together from numbers of our own

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

from arbstr.ledger import rollup
from arbstr.ledger.database import FileId, file_id, lock
from arbstr.ledger.tables import IN_FLIGHT, INTERRUPTED

_SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def live_file(path: Path, instance: str) -> Path:
    """Where the instance `instance` of the database `path` holds its lock."""
    return path.with_name(f"{path.name}-live-{instance}")


class LiveFile:
    """The lock of this instance. `instance`: letters, digits and ``._-``, at most 64 of them."""

    def __init__(self, path: Path, instance: str) -> None:
        if not _SAFE.fullmatch(instance):
            raise ValueError("an instance is named by 1 to 64 letters, digits, dots or dashes")
        self._path = live_file(path, instance)
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Take the lock, or make sure that the file still is the one we hold. Raises OSError."""
        if self._descriptor is not None:
            held = os.fstat(self._descriptor)
            if file_id(self._path) == FileId(held.st_dev, held.st_ino):
                return
            os.close(self._descriptor)
            self._descriptor = None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        if not lock(descriptor):
            os.close(descriptor)
            raise BlockingIOError(f"{self._path.name} is held: that instance runs already")
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the lock and its file go."""
        if self._descriptor is None:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def register(connection: sqlite3.Connection, path: Path, instance: str, now_ms: int) -> None:
    """Write down that `instance` runs, and end every other one that nobody runs any more."""
    connection.execute(
        "INSERT INTO instances (name, pid, started_at, ended_at) VALUES (?, ?, ?, NULL)"
        " ON CONFLICT (name) DO UPDATE SET ended_at = NULL",
        (instance, os.getpid(), now_ms),
    )
    for (name,) in connection.execute(
        "SELECT name FROM instances WHERE ended_at IS NULL AND name <> ?", (instance,)
    ).fetchall():
        if not _runs(live_file(path, name)):
            end(connection, name, now_ms)


def end(connection: sqlite3.Connection, instance: str, now_ms: int) -> None:
    """Write down that `instance` has ended: what it had in flight was interrupted."""
    found = connection.execute(
        f"SELECT id FROM request_rows WHERE outcome = {IN_FLIGHT}"
        " AND instance = (SELECT id FROM names WHERE text = ?)",
        (instance,),
    )
    ids = [request_id for (request_id,) in found]
    connection.executemany(
        f"UPDATE request_rows SET outcome = {INTERRUPTED} WHERE id = ?",
        [(request_id,) for request_id in ids],
    )
    rollup.add(connection, ids)
    connection.execute("UPDATE instances SET ended_at = ? WHERE name = ?", (now_ms, instance))


def _runs(path: Path) -> bool:
    """Whether somebody holds the lock file `path`. One that nobody holds is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # another user's: not ours to judge
    try:
        free = lock(descriptor)
        if free:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return not free

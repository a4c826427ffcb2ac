"""A read-only connection of its own, opened when it is first needed.

The file may not be there yet: then there is nothing in it. It may be replaced while it is open:
then the new one is read.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
from peewee import SqliteDatabase

from arbstr.ledger import database
from arbstr.ledger.database import LedgerError
from arbstr.ledger.migrations import MIGRATIONS, schema_version


class Snapshot(msgspec.Struct, frozen=True):
    """The ledger at one moment. Methods raise sqlite3.Error."""

    database: SqliteDatabase
    connection: sqlite3.Connection
    texts: dict[int, str]
    """Texts never change, so they are remembered for as long as the file is."""

    def text(self, number: int) -> str | None:
        """The text of `number`; None for 0."""
        if number and number not in self.texts:
            found = self.connection.execute(
                "SELECT id, text FROM names WHERE id > ?", (max(self.texts, default=0),)
            )
            self.texts.update(found.fetchall())
        return self.texts.get(number)

    def number(self, text: str) -> int:
        """The number of `text`; -1, which no row has, for one that never came up."""
        found = self.connection.execute("SELECT id FROM names WHERE text = ?", (text,)).fetchone()
        return -1 if found is None else int(found[0])

    def lows(self) -> list[int]:
        """The lowest duration of each bucket of a histogram, ms, in order."""
        return [low for (low,) in self.connection.execute("SELECT low FROM buckets ORDER BY low")]


class Source:
    """The ledger at `path`, to read. For one thread at a time; which one does not matter."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: SqliteDatabase | None = None
        self._file: database.FileId | None = None
        self._texts: dict[int, str] = {}

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            try:
                moved = database.file_id(self._path) != self._file
            except OSError:
                moved = True
            database.let_go(self._database, moved=moved)
            self._database = None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot | None]:
        """Read from one moment; None where there is nothing yet. Raises LedgerError, one line."""
        try:
            opened = self._opened()
            if opened is None:
                yield None
                return
            connection = database.raw(opened)
            connection.execute("BEGIN")
            try:
                yield Snapshot(opened, connection, self._texts)
            finally:
                connection.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise LedgerError(f"{self._path}: {error}") from error

    def _opened(self) -> SqliteDatabase | None:
        there = database.file_id(self._path)
        if there != self._file:
            self.close()
        if there is None:
            return None
        if self._database is None:
            self._database, self._file = database.connect_to_read(self._path), there
            self._texts.clear()
        version = schema_version(database.raw(self._database))
        if 0 < version < len(MIGRATIONS):
            raise LedgerError(
                f"{self._path}: made by an older arbstr: start this one once to bring it up to date"
            )
        return self._database if version else None

"""All or nothing: what the writer's thread changes in one go."""

from __future__ import annotations

import contextlib
import sqlite3
from types import TracebackType

from arbstr.ledger.names import Names


class Transaction:
    """To be used in ``with``, over and over: IMMEDIATE, committed at the end of the block.

    Whatever is raised in the block, or by the commit, rolls back, and goes on up. (A generator
    under `contextlib.contextmanager` would cost as much each time as writing a row.)
    """

    def __init__(self, connection: sqlite3.Connection, names: Names) -> None:
        self._connection = connection
        self._names = names

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._undo()
            return
        try:
            self._connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        self._names.keep()

    def _undo(self) -> None:
        self._names.forget()
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

"""The numbers of repeated texts, as the writer's transactions give them."""

from __future__ import annotations

import sqlite3

from arbstr.ledger.tables import storable

_MAX = 20_000


class Names:
    """Text to number, remembered. A number is only good once the transaction that gave it is."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._numbers: dict[str, int] = {}
        self._fresh: list[str] = []

    def number(self, text: str | None) -> int:
        """The number of `text`, given to it if it has none; 0 for None. Raises sqlite3.Error."""
        if text is None:
            return 0
        number = self._numbers.get(text)
        return self._look_up(text) if number is None else number

    def keep(self) -> None:
        """The transaction was committed."""
        self._fresh.clear()
        if len(self._numbers) > _MAX:
            self._numbers.clear()

    def forget(self) -> None:
        """The transaction was rolled back: what it gave out may be given to another text."""
        for text in self._fresh:
            del self._numbers[text]
        self._fresh.clear()

    def _look_up(self, text: str) -> int:
        name = storable(text)
        self._connection.execute("INSERT OR IGNORE INTO names (text) VALUES (?)", (name,))
        row = self._connection.execute("SELECT id FROM names WHERE text = ?", (name,)).fetchone()
        number = int(row[0])
        self._numbers[text] = number
        self._fresh.append(text)
        return number

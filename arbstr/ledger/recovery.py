"""Opening the ledger when the file may be damaged."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from arbstr.ledger import database
from arbstr.ledger.store import Store

logger = logging.getLogger(__name__)


def open_or_replace(path: Path, instance: str, now_ms: int, *, damages: int) -> Store:
    """Open the ledger; one that is corrupt is set aside under a new name, and a new one begun.

    `damages`: how often in a row SQLite has called the file corrupt. Once, and all of it is looked
    at: it may have been replaced under our hands. Twice, and no look is needed. Raises
    sqlite3.Error, OSError and LedgerError for what has other reasons.
    """
    opened = database.file_id(path)
    store = _sound(path, instance, now_ms, look=damages > 0) if damages < 2 else None
    if store is not None:
        return store
    if opened is not None:
        with database.opening(path):
            aside = database.set_aside(path, opened, now_ms)
        if aside is not None:
            logger.warning("ledger: %s is corrupt; it is now %s", path, aside.name)
    return Store(path, instance, now_ms)


def _sound(path: Path, instance: str, now_ms: int, *, look: bool) -> Store | None:
    """The ledger, opened; None if that, or a `look` at all of it, shows that it is corrupt."""
    store: Store | None = None
    try:
        store = Store(path, instance, now_ms)
        if not look or store.is_sound():
            return store
    except sqlite3.Error as error:
        if not database.is_damage(error):
            raise
    if store is not None:
        store.close()
    return None

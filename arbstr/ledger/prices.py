"""The price history: a row whenever a price changes, and when it was last seen unchanged."""

# ruff: noqa: S608 - the statements are put together from names of our own

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from arbstr.core.record import PriceRow
from arbstr.ledger.tables import PRICE_COLUMNS

_RATES = ("input_rate", "output_rate", "cached_rate", "cache_write_rate", "base_fee_msats")
_LATEST = (
    f"SELECT at_ms, {', '.join(_RATES)} FROM prices"
    " WHERE provider = ? AND model = ? ORDER BY at_ms DESC LIMIT 1"
)
_INSERT = (
    f"INSERT OR REPLACE INTO prices ({', '.join(PRICE_COLUMNS)})"
    f" VALUES ({', '.join('?' * len(PRICE_COLUMNS))})"
)
_SEEN = (
    "UPDATE prices SET seen_ms = max(seen_ms, ?), raw = coalesce(?, raw)"
    " WHERE provider = ? AND model = ? AND at_ms = ?"
)
_OLD = "UPDATE prices SET raw = NULL WHERE provider = ? AND model = ? AND at_ms < ?"


def write_prices(connection: sqlite3.Connection, rows: Sequence[PriceRow]) -> None:
    """Write what a sync found. Raises sqlite3.Error.

    A price older than the latest known is ignored.
    """
    for row in rows:
        seen_ms = row.at_ms if row.seen_ms is None else row.seen_ms
        key = (row.provider, row.model)
        rates = tuple(getattr(row, name) for name in _RATES)
        latest = connection.execute(_LATEST, key).fetchone()
        if latest is not None and latest[1:] == rates:
            connection.execute(_SEEN, (seen_ms, row.raw, *key, latest[0]))
        elif latest is None or latest[0] <= row.at_ms:
            new = msgspec.structs.replace(row, seen_ms=seen_ms)
            connection.execute(_INSERT, msgspec.structs.astuple(new))
            connection.execute(_OLD, (*key, row.at_ms))

"""How the schema came to be: one step a version, append-only.

A step that has been released is never edited: each is written out in full here and shares no name
with `tables`, so that it makes the same tables for ever. A step runs in one transaction with its
record in ``migrations`` and with ``user_version``: a file is at one version, wholly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

APPLICATION_ID = 0x61726273
"""``arbs``: says in the file's header whose it is (sqlite.org, "PRAGMA application_id")."""


class Migration(msgspec.Struct, frozen=True):
    """One step: what it is for, and its statements, each ended by a semicolon."""

    what: str
    sql: str


_V1 = """
CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
INSERT INTO names (id, text) VALUES
  (1, 'ok'), (2, 'error'), (3, 'refused'), (4, 'interrupted'), (5, 'client_closed'),
  (6, 'in_flight'), (7, 'billed'), (8, 'computed'), (9, 'unknown');

CREATE TABLE request_rows (
  id INTEGER PRIMARY KEY,
  instance INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  endpoint INTEGER NOT NULL,
  outcome INTEGER NOT NULL,
  client INTEGER NOT NULL,
  requested_model INTEGER NOT NULL,
  policy INTEGER NOT NULL,
  policy_source INTEGER NOT NULL,
  model INTEGER NOT NULL,
  provider INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  status INTEGER,
  error_code INTEGER NOT NULL,
  error_message TEXT,
  attempts INTEGER NOT NULL,
  input_tokens INTEGER,
  cached_tokens INTEGER,
  cache_write_tokens INTEGER,
  output_tokens INTEGER,
  reasoning_tokens INTEGER,
  estimated_msats INTEGER,
  cost_msats INTEGER,
  cost_source INTEGER NOT NULL,
  computed_msats INTEGER,
  baseline_msats INTEGER,
  balance_msats INTEGER,
  upstream_priced INTEGER NOT NULL,
  ttft_ms INTEGER,
  latency_ms INTEGER,
  prompt_bytes INTEGER
);
-- in the order of time, and wide enough to answer every filter without the table
CREATE INDEX request_rows_time
  ON request_rows (started_at, model, provider, policy, client, outcome);
CREATE INDEX request_rows_in_flight ON request_rows (instance) WHERE outcome = 6;

CREATE TABLE attempt_rows (
  request_id INTEGER NOT NULL,
  n INTEGER NOT NULL,
  provider INTEGER NOT NULL,
  model INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  outcome INTEGER NOT NULL,
  status INTEGER,
  error_code INTEGER NOT NULL,
  input_tokens INTEGER,
  output_tokens INTEGER,
  cost_msats INTEGER,
  cost_source INTEGER NOT NULL,
  ttft_ms INTEGER,
  latency_ms INTEGER,
  PRIMARY KEY (request_id, n)
) WITHOUT ROWID;

CREATE TABLE prices (
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  input_rate TEXT NOT NULL,
  output_rate TEXT NOT NULL,
  cached_rate TEXT,
  cache_write_rate TEXT,
  base_fee_msats TEXT NOT NULL,
  raw BLOB,
  seen_ms INTEGER NOT NULL,
  PRIMARY KEY (provider, model, at_ms)
);

CREATE TABLE instances (
  name TEXT PRIMARY KEY,
  pid INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER
);

-- durations from `low` ms to the next row's: whole numbers, then steps of a tenth, up to a day
CREATE TABLE buckets (low INTEGER PRIMARY KEY, letter TEXT NOT NULL);
INSERT INTO buckets
  WITH RECURSIVE step (i, low) AS (
    SELECT 0, 0
    UNION ALL SELECT i + 1, max(low + 1, (low * 11 + 9) / 10) FROM step WHERE low < 86400000
  )
  SELECT low, char(65 + i) FROM step;

CREATE TABLE rollups (
  hour INTEGER NOT NULL,
  model INTEGER NOT NULL,
  provider INTEGER NOT NULL,
  policy INTEGER NOT NULL,
  client INTEGER NOT NULL,
  outcome INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  streaming INTEGER NOT NULL,
  cost_msats INTEGER NOT NULL,
  billed INTEGER NOT NULL,
  computed INTEGER NOT NULL,
  unknown INTEGER NOT NULL,
  billed_msats INTEGER NOT NULL,
  computed_cost_msats INTEGER NOT NULL,
  expected_msats INTEGER NOT NULL,
  saved_msats INTEGER NOT NULL,
  overcharged INTEGER NOT NULL,
  overcharge_msats INTEGER NOT NULL,
  upstream_priced INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  ttft TEXT NOT NULL,
  latency TEXT NOT NULL,
  PRIMARY KEY (hour, model, provider, policy, client, outcome)
) WITHOUT ROWID;
CREATE INDEX rollups_long ON rollups (hour) WHERE length(ttft) > 2048 OR length(latency) > 2048;

CREATE VIEW requests AS SELECT
  id,
  (SELECT text FROM names WHERE id = instance) AS instance,
  started_at,
  (SELECT text FROM names WHERE id = client) AS client,
  (SELECT text FROM names WHERE id = endpoint) AS endpoint,
  (SELECT text FROM names WHERE id = requested_model) AS requested_model,
  (SELECT text FROM names WHERE id = policy) AS policy,
  (SELECT text FROM names WHERE id = policy_source) AS policy_source,
  (SELECT text FROM names WHERE id = model) AS model,
  (SELECT text FROM names WHERE id = provider) AS provider,
  stream,
  (SELECT text FROM names WHERE id = outcome) AS outcome,
  status,
  (SELECT text FROM names WHERE id = error_code) AS error_code,
  error_message, attempts,
  input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
  estimated_msats, cost_msats,
  (SELECT text FROM names WHERE id = cost_source) AS cost_source,
  computed_msats, baseline_msats, balance_msats, upstream_priced, ttft_ms, latency_ms,
  prompt_bytes
FROM request_rows;

CREATE VIEW attempts AS SELECT
  request_id, n,
  (SELECT text FROM names WHERE id = provider) AS provider,
  (SELECT text FROM names WHERE id = model) AS model,
  started_at,
  (SELECT text FROM names WHERE id = outcome) AS outcome,
  status,
  (SELECT text FROM names WHERE id = error_code) AS error_code,
  input_tokens, output_tokens, cost_msats,
  (SELECT text FROM names WHERE id = cost_source) AS cost_source,
  ttft_ms, latency_ms
FROM attempt_rows;
"""

MIGRATIONS: tuple[Migration, ...] = (
    Migration("requests, attempts, prices, instances, hourly roll-ups", _V1),
    Migration("no index of long histograms: none grows long", "DROP INDEX rollups_long;\n"),
)


def schema_version(connection: sqlite3.Connection) -> int:
    """The version a file is at; 0 for a new one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(
    connection: sqlite3.Connection, now_ms: int, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Bring the file up to the last of `migrations`. Raises sqlite3.Error; a failed step is undone.

    `connection` is in autocommit mode (``isolation_level=None``). Another process may be doing the
    same: each step looks again once it has the write lock.
    """
    while schema_version(connection) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if (version := schema_version(connection)) < len(migrations):
                _step(connection, version + 1, migrations[version], now_ms)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _step(connection: sqlite3.Connection, version: int, migration: Migration, now_ms: int) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations"
        " (version INTEGER PRIMARY KEY, what TEXT NOT NULL, applied_at INTEGER NOT NULL)"
    )
    for statement in migration.sql.split(";\n"):  # executescript() would commit first
        connection.execute(statement)
    connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (version, migration.what, now_ms))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")

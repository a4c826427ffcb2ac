"""Every schema there ever was becomes today's, rows and all; tomorrow's is refused."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from arbstr.ledger import migrations, tables
from arbstr.ledger.migrations import MIGRATIONS, Migration
from arbstr.ledger.queries import Filters, LedgerError, Reader
from arbstr.ledger.writer import Writer
from tests.ledger_kit import NOON_MS, assert_sound, execute, finish, reading, row, writing

ROWS_OF_V1 = """
INSERT INTO names (id, text) VALUES (10, 'old'), (11, '/v1/chat/completions'), (12, 'gpt-4o');
INSERT INTO request_rows VALUES
  (1, 10, 1767268800000, 11, 1, 0, 12, 0, 0, 12, 0, 1, 200, 0, NULL, 1, 10, NULL, NULL, 20, NULL,
   30, 40, 7, 40, 50, NULL, 0, 600, 700, NULL),
  (2, 10, 1767268801000, 11, 6, 0, 12, 0, 0, 12, 0, 1, NULL, 0, NULL, 0, NULL, NULL, NULL, NULL,
   NULL, 30, NULL, 9, NULL, NULL, NULL, 0, NULL, NULL, NULL);
INSERT INTO attempt_rows VALUES
  (1, 1, 0, 12, 1767268800000, 1, 200, 0, 10, 20, 40, 7, 600, 700);
INSERT INTO rollups VALUES
  (490908, 12, 0, 0, 0, 1, 1, 1, 40, 1, 0, 0, 40, 0, 40, 10, 0, 0, 0, 10, 0, 0, 20, 0, 1, 'e', 'f');
INSERT INTO prices VALUES
  ('routstr', 'gpt-4o', 1767268800000, '0.5', '2', NULL, NULL, '0', x'7b7d', 1767268800000);
INSERT INTO instances VALUES ('old', 1, 1767268800000, NULL);
"""
ROWS = (ROWS_OF_V1, ROWS_OF_V1)
"""By version: rows as that arbstr left them, written out."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def make(path: Path, version: int) -> None:
    """A ledger as the arbstr of schema `version` left it."""
    with opened(path) as connection:
        migrations.migrate(connection, NOON_MS, MIGRATIONS[:version])
        connection.executescript(ROWS[version - 1])


def schema(path: Path) -> list[tuple[object, ...]]:
    return execute(path, "SELECT type, name, sql FROM sqlite_master ORDER BY type, name")


def test_every_version_has_its_rows() -> None:
    assert len(ROWS) == len(MIGRATIONS)


def test_a_blank_ledger_has_a_record_of_each_step(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path):
        pass
    found = execute(path, "SELECT version, what FROM migrations")
    assert found == [(n, m.what) for n, m in enumerate(MIGRATIONS, 1)]
    assert execute(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_an_older_ledger_keeps_its_rows(tmp_path: Path, version: int) -> None:
    path, blank = tmp_path / "a.db", tmp_path / "blank.db"
    make(path, version)
    with writing(path) as writer, reading(path) as reader:
        finish(writer, row(5))
        totals = reader.totals(Filters())
        assert (totals.total, totals.ok, totals.interrupted) == (3, 2, 1)
        assert totals.cost_msats == 40 + 412
        found = reader.request(1)
        assert found is not None
        assert (found[0].model, found[0].cost_msats, found[1][0].model) == ("gpt-4o", 40, "gpt-4o")
        assert [p.raw for p in reader.prices()] == [b"{}"]
    with writing(blank):
        pass
    assert schema(path) == schema(blank)
    assert_sound(path)


NEXT = Migration("a column more", "ALTER TABLE request_rows ADD COLUMN mood TEXT;\n")
BROKEN = Migration("no good", "CREATE TABLE half (id);\nCREATE TABLE half (id);\n")


def test_a_later_step_finds_the_rows_of_the_earlier(tmp_path: Path) -> None:
    make(tmp_path / "a.db", len(MIGRATIONS))
    with opened(tmp_path / "a.db") as connection:
        for _ in range(2):  # the second time there is nothing to do
            migrations.migrate(connection, NOON_MS, (*MIGRATIONS, NEXT))
    found = execute(tmp_path / "a.db", "SELECT id, mood FROM request_rows")
    assert found == [(1, None), (2, None)]
    last = execute(tmp_path / "a.db", "SELECT version, what FROM migrations")[-1]
    assert last == (len(MIGRATIONS) + 1, "a column more")


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    make(tmp_path / "a.db", len(MIGRATIONS))
    before = schema(tmp_path / "a.db")
    with opened(tmp_path / "a.db") as connection, pytest.raises(sqlite3.OperationalError):
        migrations.migrate(connection, NOON_MS, (*MIGRATIONS, BROKEN))
    assert schema(tmp_path / "a.db") == before
    assert execute(tmp_path / "a.db", "PRAGMA user_version") == [(len(MIGRATIONS),)]


def newer(path: Path) -> None:
    with opened(path) as connection:
        migrations.migrate(connection, NOON_MS, (*MIGRATIONS, NEXT))


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    newer(path)
    before = path.read_bytes()
    expected = rf"a\.db: made by a newer arbstr \(schema {len(MIGRATIONS) + 1}, this one knows"
    with pytest.raises(LedgerError, match=expected):
        Writer(path, instance="here").start()
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"a.db", "a.db-lock"}


def test_a_newer_ledger_is_not_read_either(tmp_path: Path) -> None:
    newer(tmp_path / "a.db")
    with reading(tmp_path / "a.db") as reader, pytest.raises(LedgerError, match="newer arbstr"):
        reader.totals(Filters())


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE requests (id INTEGER PRIMARY KEY, cost REAL)")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"a\.db: holds the tables of another program"):
        Writer(path, instance="here").start()
    with reading(path) as reader, pytest.raises(LedgerError, match="another program"):
        reader.totals(Filters())
    assert path.read_bytes() == before


def test_an_older_ledger_is_read_once_it_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    make(path, len(MIGRATIONS))
    # As an arbstr would see it that has one step more.
    monkeypatch.setattr("arbstr.ledger.reading.MIGRATIONS", (*MIGRATIONS, NEXT))
    with reading(path) as reader, pytest.raises(LedgerError, match="older arbstr: start this one"):
        reader.totals(Filters())


@pytest.mark.parametrize(
    "model",
    [tables.Name, tables.Request, tables.Attempt, tables.Price],
    ids=lambda model: model.__name__,
)
def test_the_models_are_the_tables(tmp_path: Path, model: type) -> None:
    Reader(tmp_path / "a.db").close()
    with writing(tmp_path / "a.db"):
        pass
    meta = model._meta  # type: ignore[attr-defined]
    found = execute(tmp_path / "a.db", f"PRAGMA table_info({meta.table_name})")
    assert [name for _, name, *_ in found] == list(meta.columns)
    columns = {
        "request_rows": tables.REQUEST_COLUMNS,
        "attempt_rows": tables.ATTEMPT_COLUMNS,
        "prices": tables.PRICE_COLUMNS,
    }
    assert tuple(meta.columns) == columns.get(meta.table_name, ("id", "text"))
    nullable = {str(name) for _, name, _, not_null, _, key in found if not (not_null or key)}
    assert nullable == {name for name, field in meta.columns.items() if field.null}

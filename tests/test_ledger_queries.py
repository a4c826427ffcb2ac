"""What can be asked of the ledger, and that the answers come by way of the indexes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from arbstr.core.record import RequestRow
from arbstr.ledger.queries import Filters, Reader, Totals
from tests.ledger_kit import (
    DAY_MS,
    HOUR_MS,
    NOON_MS,
    begun,
    execute,
    fill,
    finish,
    reading,
    row,
    tried,
    wait_for,
    writing,
)

MIXED = (
    row(1, model="gpt-4o", cost_msats=100, client=None),
    row(2, model="gpt-5", cost_msats=900, policy=None, started_at=NOON_MS + HOUR_MS),
    row(3, model=None, provider=None, cost_msats=0, cost_source="computed", outcome="refused"),
    row(4, model="gpt-4o", cost_msats=None, cost_source="unknown", outcome="error", status=502),
    row(5, model="gpt-5", cost_msats=300, started_at=NOON_MS + DAY_MS, client="curl/8.5"),
    row(6, model="Claude", cost_msats=200, outcome="client_closed", stream=False),
)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    fill(tmp_path / "a.db", *MIXED)
    with reading(tmp_path / "a.db") as found:
        yield found


def numbers(rows: tuple[RequestRow, ...]) -> list[int]:
    return [r.id & 0xFF for r in rows]


# --- a file that is not there ---------------------------------------------------------------------


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    with reading(tmp_path / "a.db") as reader:
        assert reader.totals(Filters()) == Totals()
        assert reader.groups(Filters(), "day") == ()
        assert reader.requests(Filters()) == ((), 0)
        assert reader.request(1) is None
        assert reader.attempts([1]) == {}
        assert reader.newer(0, 10) == ()
        assert reader.in_flight() == ()
        assert reader.prices() == ()
        assert list(reader.export(Filters())) == []
        assert list(reader.answers(0, 10)) == []
        assert reader.spent_msats(0) == 0
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_an_empty_ledger(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    with reading(tmp_path / "a.db") as reader:
        assert reader.totals(Filters()) == Totals()


def test_a_ledger_that_comes_later_is_read(tmp_path: Path) -> None:
    with reading(tmp_path / "a.db") as reader:
        assert reader.totals(Filters()).total == 0
        fill(tmp_path / "a.db", row(1))
        assert reader.totals(Filters()).total == 1


def test_texts_of_a_file_that_was_replaced_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path, row(1, model="one"))
    with reading(path) as reader:
        assert reader.requests(Filters())[0][0].model == "one"
        path.unlink()
        fill(path, row(1, model="other"))
        assert reader.requests(Filters())[0][0].model == "other"


# --- totals and groups ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), [1, 2, 3, 4, 5, 6]),
        (Filters(model="gpt-4o"), [1, 4]),
        (Filters(model="unheard of"), []),
        (Filters(provider="routstr"), [1, 2, 4, 5, 6]),
        (Filters(policy="code"), [1, 3, 4, 5, 6]),
        (Filters(client="curl/8.5"), [5]),
        (Filters(outcome="error"), [4]),
        (Filters(failed=True), [3, 4]),
        (Filters(failed=True, model="gpt-4o"), [4]),
        (Filters(since_ms=NOON_MS + HOUR_MS), [2, 5]),
        (Filters(until_ms=NOON_MS + HOUR_MS), [1, 3, 4, 6]),
        (Filters(since_ms=NOON_MS + 1, until_ms=NOON_MS + 4000), [3, 4]),
        (Filters(since_ms=NOON_MS + 5000, until_ms=NOON_MS + DAY_MS), [2, 6]),
        (Filters(since_ms=NOON_MS + 1000, until_ms=NOON_MS), []),
    ],
)
def test_filters_pick_the_same_rows_everywhere(
    reader: Reader, filters: Filters, expected: list[int]
) -> None:
    rows, count = reader.requests(filters, sort="id", descending=False)
    assert sorted(numbers(rows)) == expected
    assert count == reader.totals(filters).total == len(expected)
    assert sorted(numbers(tuple(reader.export(filters)))) == expected
    costs = [r.cost_msats for r in rows if r.cost_msats is not None]
    assert reader.totals(filters).cost_msats == sum(costs)


def test_groups_begin_with_the_dearest(reader: Reader) -> None:
    found = [
        (name, totals.total, totals.cost_msats)
        for name, totals in reader.groups(Filters(), "model")
    ]
    assert found == [("gpt-5", 2, 1200), ("Claude", 1, 200), ("gpt-4o", 2, 100), (None, 1, 0)]


def test_those_without_are_a_group(reader: Reader) -> None:
    found = {name: totals.total for name, totals in reader.groups(Filters(), "policy")}
    assert found == {"code": 5, None: 1}


def test_hours_are_in_their_order(reader: Reader) -> None:
    found = [(hour, totals.total) for hour, totals in reader.groups(Filters(), "hour")]
    assert found == [("2026-01-01 12:00", 4), ("2026-01-01 13:00", 1), ("2026-01-02 12:00", 1)]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", [("2026-01-01", 5), ("2026-01-02", 1)]),
        ("Pacific/Auckland", [("2026-01-02", 5), ("2026-01-03", 1)]),  # UTC+13
        ("Asia/Kolkata", [("2026-01-01", 5), ("2026-01-02", 1)]),  # midnight within an hour of UTC
    ],
)
def test_days_begin_at_local_midnight(
    reader: Reader, zone: str, expected: list[tuple[str, int]]
) -> None:
    found = [
        (day, totals.total) for day, totals in reader.groups(Filters(), "day", tz=ZoneInfo(zone))
    ]
    assert found == expected


def test_midnight_may_cut_an_hour(tmp_path: Path) -> None:
    """In India, at UTC+5:30, a day begins at 18:30 UTC."""
    cut_ms = NOON_MS + 6 * HOUR_MS + HOUR_MS // 2
    fill(tmp_path / "a.db", row(1, started_at=cut_ms - 1), row(2, started_at=cut_ms))
    with reading(tmp_path / "a.db") as reader:
        found = reader.groups(Filters(), "day", tz=ZoneInfo("Asia/Kolkata"))
    assert [(day, totals.total) for day, totals in found] == [("2026-01-01", 1), ("2026-01-02", 1)]


def test_a_day_of_a_range_is_cut_by_the_range(reader: Reader) -> None:
    f = Filters(since_ms=NOON_MS + 1, until_ms=NOON_MS + DAY_MS)
    assert [(d, t.total) for d, t in reader.groups(f, "day")] == [("2026-01-01", 4)]


def test_rows_in_flight_are_in_the_totals(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer, reading(tmp_path / "a.db") as reader:
        writer.begin(begun(row(1)))
        finish(writer, row(2, stream=False))
        totals = reader.totals(Filters())
        assert (totals.total, totals.in_flight, totals.streaming) == (2, 1, 1)
        assert (totals.billed, totals.unknown) == (1, 0)
        assert [(d, t.in_flight) for d, t in reader.groups(Filters(), "day")] == [("2026-01-01", 1)]


def test_a_refused_request_has_no_say_in_where_costs_come_from(reader: Reader) -> None:
    totals = reader.totals(Filters())
    assert (totals.refused, totals.billed, totals.computed, totals.unknown) == (1, 4, 0, 1)


def test_times_are_those_of_good_answers_unless_others_are_asked_for(tmp_path: Path) -> None:
    fill(
        tmp_path / "a.db",
        row(1, latency_ms=5),
        row(2, latency_ms=7, outcome="error"),
        row(3, latency_ms=9, outcome="refused"),
    )
    with reading(tmp_path / "a.db") as reader:
        assert reader.totals(Filters()).latency_p95_ms == 5
        assert reader.totals(Filters(outcome="error")).latency_p95_ms == 7
        assert reader.totals(Filters(failed=True)).latency_p95_ms == 9


def test_what_was_spent_is_summed_from_a_moment_on(reader: Reader) -> None:
    assert reader.spent_msats(0) == 1500
    assert reader.spent_msats(NOON_MS + 5000) == 1400
    assert reader.spent_msats(0, "code") == 600
    assert reader.spent_msats(0, "never used") == 0


# --- rows -----------------------------------------------------------------------------------------


def test_the_newest_come_first(reader: Reader) -> None:
    assert numbers(reader.requests(Filters())[0]) == [5, 2, 6, 4, 3, 1]


def test_pages_follow_one_another(reader: Reader) -> None:
    first, count = reader.requests(Filters(), limit=4)
    second, again = reader.requests(Filters(), limit=4, offset=4)
    assert numbers(first + second) == [5, 2, 6, 4, 3, 1]
    assert count == again == 6


@pytest.mark.parametrize(
    ("sort", "descending", "expected"),
    [
        ("cost_msats", True, [2, 5, 6, 1, 3, 4]),  # the unknown cost is last
        ("cost_msats", False, [3, 1, 6, 5, 2, 4]),
        ("model", False, [6, 1, 4, 2, 5, 3]),  # as people sort names, and last who has none
        ("model", True, [5, 2, 4, 1, 6, 3]),
        ("id", False, [1, 3, 4, 6, 2, 5]),
        ("outcome", False, [6, 4, 1, 2, 5, 3]),
    ],
)
def test_any_column_sorts(reader: Reader, sort: str, descending: bool, expected: list[int]) -> None:
    assert numbers(reader.requests(Filters(), sort=sort, descending=descending)[0]) == expected


def test_a_column_that_is_none_is_refused(reader: Reader) -> None:
    with pytest.raises(ValueError, match="no column 'id; DROP TABLE names'"):
        reader.requests(Filters(), sort="id; DROP TABLE names")


def test_attempts_of_many_requests(tmp_path: Path) -> None:
    first, second = row(1), row(2)
    with writing(tmp_path / "a.db") as writer, reading(tmp_path / "a.db") as reader:
        finish(writer, first, tried(first, 2), tried(first, 1))
        finish(writer, second)
        found = reader.attempts([first.id, second.id, 7])
    assert found == {first.id: (tried(first, 1), tried(first, 2))}


def test_newer_ones_have_ended_and_come_in_order(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer, reading(tmp_path / "a.db") as reader:
        writer.begin(begun(row(2)))
        for n in (4, 1, 3):
            finish(writer, row(n))
        assert numbers(reader.newer(0, 10)) == [1, 3, 4]
        assert numbers(reader.newer(row(1).id, 1)) == [3]
        assert reader.in_flight() == (row(2).id,)
        finish(writer, row(2))
        found = reader.request(row(2).id)
        assert found is not None
        assert found[0] == row(2)


def test_an_export_is_whole_however_long(tmp_path: Path) -> None:
    rows = [row(n, started_at=NOON_MS + n // 3) for n in range(1, 4500)]
    fill(tmp_path / "a.db", *rows)
    with reading(tmp_path / "a.db") as reader:
        assert list(reader.export(Filters())) == rows


def test_answers_are_good_ones_oldest_first(tmp_path: Path) -> None:
    fill(
        tmp_path / "a.db",
        *(row(n) for n in range(1, 6)),
        row(6, outcome="error"),
        row(7, output_tokens=None),
    )
    with reading(tmp_path / "a.db") as reader:
        assert numbers(tuple(reader.answers(0, 3))) == [3, 4, 5]
        assert numbers(tuple(reader.answers(row(5).started_at, 3))) == [5]


# --- by way of the indexes ------------------------------------------------------------------------

QUESTIONS: dict[str, Callable[[Reader], object]] = {
    "totals": lambda r: r.totals(Filters(since_ms=NOON_MS + 1, until_ms=NOON_MS + DAY_MS + 1)),
    "one model": lambda r: r.totals(Filters(since_ms=NOON_MS, model="gpt-4o")),
    "by model": lambda r: r.groups(Filters(since_ms=NOON_MS + 1), "model"),
    "by day": lambda r: r.groups(Filters(since_ms=NOON_MS + 1), "day"),
    "newest": lambda r: r.requests(Filters()),
    "failed": lambda r: r.requests(Filters(failed=True, model="gpt-4o")),
    "a page by cost": lambda r: r.requests(Filters(since_ms=NOON_MS), sort="cost_msats"),
    "one": lambda r: r.request(1),
    "attempts": lambda r: r.attempts([1, 2]),
    "newer": lambda r: r.newer(1, 10),
    "in flight": lambda r: r.in_flight(),
    "export": lambda r: list(r.export(Filters(model="gpt-4o"))),
    "answers": lambda r: list(r.answers(NOON_MS, 10)),
    "spent": lambda r: r.spent_msats(NOON_MS),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_no_question_reads_all_rows(reader: Reader, question: Callable[[Reader], object]) -> None:
    asked: list[str] = []
    reader.totals(Filters())
    database = reader._source._database
    assert database is not None
    connection: sqlite3.Connection = database.connection()  # type: ignore[no-untyped-call]
    connection.set_trace_callback(asked.append)
    question(reader)
    connection.set_trace_callback(None)
    for sql in asked:
        if "request_rows" in sql or "attempt_rows" in sql:
            plan = [str(step[3]) for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
            scans = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
            assert [s for s in scans if "json_each" not in s] == [], (sql, plan)


def test_roll_ups_are_found_by_their_hour(tmp_path: Path) -> None:
    fill(tmp_path / "a.db", row(1))
    sql = "EXPLAIN QUERY PLAN SELECT total(requests) FROM rollups WHERE hour >= 1 AND hour < 9"
    ((_, _, _, step),) = execute(tmp_path / "a.db", sql)
    assert "SEARCH rollups USING PRIMARY KEY (hour>? AND hour<?)" in str(step)


def test_a_row_is_small_on_disk(tmp_path: Path) -> None:
    """Under 250 bytes with its indexes; measured at 1,000,000 rows by scripts/make_ledger.py."""
    path = tmp_path / "a.db"
    with writing(path) as writer:
        for n in range(1, 5000):
            full = row(n)
            writer.begin(begun(full))
            writer.finish(full, (tried(full),))
        finish(writer, row(5000))
    (pages,), (size,) = execute(path, "PRAGMA page_count"), execute(path, "PRAGMA page_size")
    bytes_a_request = int(str(pages[0])) * int(str(size[0])) / 5000
    assert bytes_a_request < 250  # its attempt included


def test_rows_past_retention_are_deleted_in_the_quiet(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path, *(row(n) for n in range(1, 700)), row(700, started_at=NOON_MS + 9 * DAY_MS))
    with reading(path) as reader:
        before = reader.totals(Filters())
        now_ms = NOON_MS + 10 * DAY_MS
        with writing(path, instance="there", retention_days=7, now_ms=lambda: now_ms) as writer:
            wait_for(lambda: len(reader.newer(0, 1000)) == 1)
            assert writer.health().ok
        assert reader.totals(Filters()) == before

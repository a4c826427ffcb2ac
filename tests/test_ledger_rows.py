"""What is written is what is read: rows, attempts, late costs, prices."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import msgspec
import pytest

from arbstr.core.record import AttemptRow, LateCost, PriceRow, RequestRow
from arbstr.ledger.queries import Filters
from arbstr.ledger.writer import Writer
from tests.ledger_kit import (
    LIMIT_S,
    NOON_MS,
    begun,
    execute,
    finish,
    reading,
    row,
    tried,
    writing,
)

DESIGN_REQUESTS = [
    "id",
    "instance",
    "started_at",
    "client",
    "endpoint",
    "requested_model",
    "policy",
    "policy_source",
    "model",
    "provider",
    "stream",
    "outcome",
    "status",
    "error_code",
    "error_message",
    "attempts",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "estimated_msats",
    "cost_msats",
    "cost_source",
    "computed_msats",
    "baseline_msats",
    "balance_msats",
    "upstream_priced",
    "ttft_ms",
    "latency_ms",
    "prompt_bytes",
]
DESIGN_ATTEMPTS = [
    "request_id",
    "n",
    "provider",
    "model",
    "started_at",
    "outcome",
    "status",
    "error_code",
    "input_tokens",
    "output_tokens",
    "cost_msats",
    "cost_source",
    "ttft_ms",
    "latency_ms",
]
PRICE = PriceRow("routstr", "gpt-4o", NOON_MS, "0.5", "2", None, None, "0", b'{"id":"gpt-4o"}')


def read(path: Path, request_id: int) -> tuple[RequestRow, tuple[AttemptRow, ...]]:
    with reading(path) as reader:
        found = reader.request(request_id)
    assert found is not None
    return found


def test_a_row_comes_back_as_it_went_in(tmp_path: Path) -> None:
    full = row()
    with writing(tmp_path / "a.db") as writer:
        finish(writer, full, tried(full))
        assert read(tmp_path / "a.db", full.id) == (full, (tried(full),))


def test_what_nobody_knows_comes_back_as_none(tmp_path: Path) -> None:
    bare = RequestRow(id=1, instance="here", started_at=NOON_MS, endpoint="/x", outcome="error")
    with writing(tmp_path / "a.db") as writer:
        finish(writer, bare)
        assert read(tmp_path / "a.db", 1) == (bare, ())


def test_flags_come_back_as_booleans(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer:
        finish(writer, row(upstream_priced=True))
        found, _ = read(tmp_path / "a.db", row().id)
    assert msgspec.to_builtins(found)["upstream_priced"] is True


@pytest.mark.parametrize(
    ("view", "columns"), [("requests", DESIGN_REQUESTS), ("attempts", DESIGN_ATTEMPTS)]
)
def test_people_read_the_design_s_columns(tmp_path: Path, view: str, columns: list[str]) -> None:
    with writing(tmp_path / "a.db") as writer:
        finish(writer, row(), tried(row()))
    names = [name for _, name, *_ in execute(tmp_path / "a.db", f"PRAGMA table_info({view})")]
    assert names == columns


def test_the_view_spells_names_out(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer:
        finish(writer, row(policy=None))
    sql = "SELECT instance, model, policy, outcome, cost_source FROM requests"
    found = execute(tmp_path / "a.db", sql)
    assert found == [("here", "deepseek-chat", None, "ok", "billed")]


def test_the_files_are_the_user_s_alone(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer:
        finish(writer, row())
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == dict.fromkeys(
        ("a.db", "a.db-wal", "a.db-shm", "a.db-lock", "a.db-live-here"), 0o600
    )


def test_done_is_called_after_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        seen: list[object] = []
        called = threading.Event()

        def done() -> None:
            seen.extend(execute(path, "SELECT id FROM request_rows"))
            called.set()

        writer.finish(row(), (), done)
        assert called.wait(LIMIT_S)
    assert seen == [(row().id,)]


def test_a_callback_that_raises_does_not_stop_the_writer(tmp_path: Path) -> None:
    def broken() -> None:
        raise RuntimeError

    with writing(tmp_path / "a.db") as writer:
        writer.finish(row(1), (), broken)
        finish(writer, row(2))
        assert writer.health().lost == 0


def test_a_request_in_flight_is_seen_before_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        writer.begin(begun(row(1)))
        finish(writer, row(2))  # queued later, so the first is written too
        with reading(path) as reader:
            assert reader.in_flight() == (row(1).id,)
            finish(writer, row(1))
            assert reader.in_flight() == ()


def test_a_begin_that_comes_after_its_end_changes_nothing(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer:
        finish(writer, row(1))
        writer.begin(begun(row(1)))
        finish(writer, row(2))
        assert read(tmp_path / "a.db", row(1).id)[0].outcome == "ok"


def test_what_is_finished_twice_is_what_was_said_last(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    last = row(cost_msats=7, outcome="interrupted", model="gpt-4o")
    with writing(path) as writer:
        finish(writer, row(), tried(row()), tried(row(), 2))
        finish(writer, last, tried(last))
        assert read(path, row().id) == (last, (tried(last),))
        with reading(path) as reader:
            totals = reader.totals(Filters())
    assert (totals.total, totals.interrupted, totals.cost_msats) == (1, 1, 7)


LATE = LateCost(row().id, 1, 900, 50, 88, "billed", 4_000_000)
FIRST = tried(row(), 1, outcome="error", cost_msats=None, cost_source="unknown")
BOTH = (FIRST, tried(row(), 2))


def test_a_late_cost_lands_on_its_attempt_and_in_the_sum(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        finish(writer, row(attempts=2), *BOTH)
        writer.late(LATE)
        finish(writer, row(2))
        found, attempts = read(path, row().id)
        with reading(path) as reader:
            totals = reader.totals(Filters(until_ms=row(2).started_at))
    assert (found.cost_msats, found.cost_source, found.balance_msats) == (500, "billed", 4_000_000)
    assert (attempts[0].cost_msats, attempts[0].output_tokens) == (88, 50)
    assert attempts[1] == BOTH[1]
    assert totals.cost_msats == 500


def test_a_late_cost_that_comes_early_waits_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        writer.begin(begun(row()))
        writer.late(LATE)
        finish(writer, row(2))
        finish(writer, row(attempts=2), *BOTH)
        assert read(path, row().id)[0].cost_msats == 500


def test_the_answer_s_attempt_says_where_the_cost_comes_from(tmp_path: Path) -> None:
    computed = row(attempts=2, cost_source="computed")
    with writing(tmp_path / "a.db") as writer:
        finish(writer, computed, FIRST, tried(computed, 2))
        writer.late(LATE)
        finish(writer, row(2))
        found, _ = read(tmp_path / "a.db", row().id)
    assert (found.cost_msats, found.cost_source) == (500, "computed")


def test_a_late_cost_is_all_that_is_known_of_a_failure(tmp_path: Path) -> None:
    failed = row(outcome="error", attempts=1, cost_msats=None, cost_source="unknown")
    with writing(tmp_path / "a.db") as writer:
        finish(writer, failed, FIRST)
        writer.late(LATE)
        finish(writer, row(2))
        found, _ = read(tmp_path / "a.db", failed.id)
    assert (found.cost_msats, found.cost_source) == (88, "billed")


def test_a_late_word_without_a_cost_takes_none_away(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer:
        finish(writer, row(), tried(row()))
        writer.late(LateCost(row().id, 1, None, None, None, "unknown"))
        finish(writer, row(2))
        assert read(tmp_path / "a.db", row().id) == (row(), (tried(row()),))


@pytest.mark.parametrize("bad", [{"cost_msats": 1 << 80}, {"provider": object()}, {"status": []}])
def test_a_row_that_no_table_takes_is_lost_alone(tmp_path: Path, bad: dict[str, object]) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        for n in range(1, 6):
            writer.finish(row(n, **(bad if n == 3 else {})), ())
        finish(writer, row(6))
        health = writer.health()
    assert (health.lost, health.ok) == (1, True)
    assert execute(path, "SELECT count(*) FROM requests") == [(5,)]


def test_text_that_is_no_unicode_is_spelled_out(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer:
        finish(writer, row(error_message="a \ud800 b", client="c \udfff"))
        found, _ = read(tmp_path / "a.db", row().id)
    assert (found.error_message, found.client) == ("a \\ud800 b", "c \\udfff")


def test_more_rows_than_may_wait_are_lost_and_counted(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a.db", instance="here", capacity_rows=3)  # not started: all waits
    for n in range(1, 6):
        writer.begin(begun(row(n)))
        writer.finish(row(n), ())
    health = writer.health()
    assert (health.queued, health.lost) == (3, 4)
    assert writer.close() is False


def test_the_oldest_row_says_how_far_behind_it_is(tmp_path: Path) -> None:
    now = iter((1000, 2500, 4000))
    writer = Writer(tmp_path / "a.db", instance="here", now_ms=lambda: next(now))
    writer.finish(row(1), ())
    writer.finish(row(2), ())
    assert writer.health().lag_ms == 3000


def test_prices_are_kept_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    dearer = msgspec.structs.replace(PRICE, at_ms=NOON_MS + 5, output_rate="3", raw=b"dearer")
    same = msgspec.structs.replace(PRICE, at_ms=NOON_MS + 3)
    other = msgspec.structs.replace(PRICE, model="gpt-5")
    with writing(path) as writer:
        for rows in ([PRICE, other], [same], [dearer], [PRICE]):
            writer.prices(rows)
        finish(writer, row())
        with reading(path) as reader:
            found = reader.prices()
    assert [(p.model, p.at_ms, p.output_rate, p.raw) for p in found] == [
        ("gpt-4o", NOON_MS + 5, "3", b"dearer"),
        ("gpt-5", NOON_MS, "2", PRICE.raw),
    ]
    history = execute(path, "SELECT at_ms, seen_ms, raw FROM prices WHERE model = 'gpt-4o'")
    assert history == [(NOON_MS, NOON_MS + 3, None), (NOON_MS + 5, NOON_MS + 5, b"dearer")]


def test_a_price_that_stays_tells_when_it_was_last_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        writer.prices([PRICE])
        writer.prices([msgspec.structs.replace(PRICE, at_ms=NOON_MS + 9, raw=b"newer")])
        finish(writer, row())
        with reading(path) as reader:
            (found,) = reader.prices()
    assert (found.at_ms, found.seen_ms, found.raw) == (NOON_MS, NOON_MS + 9, b"newer")

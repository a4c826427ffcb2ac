"""Processes that die, and processes that share a ledger."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from arbstr.ledger.items import Begin
from arbstr.ledger.queries import Filters
from arbstr.ledger.store import Store
from tests.ledger_kit import (
    NOON_MS,
    assert_sound,
    begun,
    execute,
    fill,
    finish,
    reading,
    row,
    writing,
)

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("ARBSTR_KILLS", "8"))
"""How often a writer is killed under load; 50 for the long run."""

LOAD = """
import os, sys, threading
from pathlib import Path
from arbstr.ledger.writer import Writer
from tests.ledger_kit import begun, row, tried

path, instance, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
writer = Writer(path, instance=instance)
writer.start()
room = threading.Semaphore(40)

def told(full):
    def done():
        os.write(1, b"%d\\n" % full.id)  # the client has its answer
        room.release()
    return done

for n in range(first, first + 100_000):
    full = row(n, instance=instance)
    room.acquire()
    writer.begin(begun(full))
    writer.finish(full, (tried(full),), told(full))
    if n % 7 == 0:
        writer.begin(begun(row(n + 500_000, instance=instance)))  # this one will never end
"""


def start_load(path: Path, instance: str, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOAD, str(path), instance, str(first)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_whoever_was_told_has_a_row_whenever_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    dice = random.Random(KILLS)
    told: set[int] = set()
    for kill in range(KILLS):
        with start_load(path, f"i{kill}", 1 + kill * 1_000_000) as process:
            assert process.stdout is not None
            for _ in range(dice.randrange(1, 1500)):
                told.add(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            told.update(int(line) for line in process.stdout if line.endswith("\n"))
        with reading(path) as reader:  # before anybody has put the WAL in order
            assert reader.totals(Filters()).ok >= len(told)
        assert_sound(path)
        assert told <= {i for (i,) in execute(path, "SELECT id FROM requests WHERE outcome = 'ok'")}
    fill(path, row(1 << 24))
    with reading(path) as reader:
        totals = reader.totals(Filters())
    sql = "SELECT outcome, count(*) FROM requests GROUP BY outcome ORDER BY outcome"
    assert execute(path, sql) == [("interrupted", totals.interrupted), ("ok", totals.ok)]
    assert not list(tmp_path.glob("*-live-*"))


def in_flight(path: Path) -> list[tuple[object, ...]]:
    sql = "SELECT instance, outcome FROM requests WHERE outcome <> 'ok' ORDER BY instance"
    return sorted(set(execute(path, sql)), key=str)


def test_a_start_leaves_the_rows_of_those_who_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with start_load(path, "killed", 1) as process, writing(path, instance="runs") as writer:
        assert process.stdout is not None
        for _ in range(100):
            process.stdout.readline()
        writer.begin(begun(row(1 << 24, instance="runs")))
        finish(writer, row((1 << 24) + 1, instance="runs"))
        fill(path, row((1 << 24) + 2))  # a third starts, and ends
        assert in_flight(path) == [("killed", "in_flight"), ("runs", "in_flight")]
        process.kill()
        process.wait()
        fill(path, row((1 << 24) + 3))
        assert in_flight(path) == [("killed", "interrupted"), ("runs", "in_flight")]
        finish(writer, row(1 << 24, instance="runs"))
    assert in_flight(path) == [("killed", "interrupted")]
    assert_sound(path)


def test_what_is_in_flight_at_the_end_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        writer.begin(begun(row(1)))
    assert in_flight(path) == [("here", "interrupted")]
    ((ended,),) = execute(path, "SELECT ended_at IS NOT NULL FROM instances")
    assert ended


def test_an_end_that_comes_after_all_replaces_the_interruption(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = Store(path, "here", NOON_MS)  # holds no lock: taken for dead
    store.write([Begin(begun(row(1)))])
    store.close()
    with writing(path, instance="there") as writer, reading(path) as reader:
        assert reader.totals(Filters()).interrupted == 1
        finish(writer, row(1))
        totals = reader.totals(Filters())
    assert (totals.total, totals.ok, totals.cost_msats) == (1, 1, 412)


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with start_load(path, "other", 1) as process, writing(path) as writer:
        assert process.stdout is not None
        mine = [row(n) for n in range(1 << 24, (1 << 24) + 500)]
        for full in mine:
            writer.finish(full, ())
        told = {int(process.stdout.readline()) for _ in range(500)}
        finish(writer, row(1 << 25))
        process.kill()
    found = {i for (i,) in execute(path, "SELECT id FROM requests WHERE outcome = 'ok'")}
    assert found >= told | {full.id for full in mine}
    assert_sound(path)

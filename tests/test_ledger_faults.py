"""Whatever becomes of the file: traffic goes on, nothing written is lost, what waits is written."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arbstr.ledger.queries import Filters, LedgerError
from arbstr.ledger.recovery import open_or_replace
from arbstr.ledger.writer import Writer
from tests.ledger_kit import (
    LIMIT_S,
    NOON_MS,
    assert_sound,
    begun,
    execute,
    fill,
    finish,
    reading,
    row,
    wait_for,
    writing,
)

ROOT = Path(__file__).resolve().parent.parent


def ids(path: Path) -> list[object]:
    return [i for (i,) in execute(path, "SELECT id FROM request_rows ORDER BY id")]


def corrupt_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if ".corrupt-" in p.name and "-wal" not in p.name)


def from_outside(script: str, *args: object) -> str:
    """Run `script` in a process of its own: what it closes drops none of our locks."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes for as long as this lasts."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


# --- locked ---------------------------------------------------------------------------------------


def test_a_locked_ledger_is_written_when_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        finish(writer, row(1))
        written = threading.Event()
        with locked(path):
            writer.finish(row(2), (), written.set)
            wait_for(lambda: not writer.health().ok)
            health = writer.health()
            assert (health.queued, health.lost) == (1, 0)
            assert health.last_error is not None
            assert "locked" in health.last_error
            assert not written.is_set()
        assert written.wait(LIMIT_S)
        wait_for(lambda: writer.health().ok)
        assert writer.health().queued == 0
    assert ids(path) == [row(1).id, row(2).id]
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 2  # when it began, and when it was over: not a line a try


def test_a_ledger_that_is_locked_at_start_is_opened_later(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path, row(1))
    with locked(path):
        writer = Writer(path, instance="there")
        writer.start()
        writer.begin(begun(row(2)))
        writer.finish(row(2), ())
        wait_for(lambda: not writer.health().ok)
    assert writer.close(LIMIT_S)
    assert ids(path) == [row(1).id, row(2).id]


def test_what_cannot_be_written_before_the_end_is_admitted(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    writer = Writer(path, instance="here")
    writer.start()
    finish(writer, row(1))
    with locked(path):
        writer.finish(row(2), ())
        assert writer.close(0.2) is False
    assert ids(path) == [row(1).id]


# --- full and read-only ---------------------------------------------------------------------------

FULL = """
import resource, sys, threading
from pathlib import Path
from tests.ledger_kit import finish, row, wait_for, writing

path = Path(sys.argv[1])
with writing(path) as writer:
    finish(writer, row(1))
    small = path.with_name("a.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (small, resource.RLIM_INFINITY))
    for n in range(2, 4000):
        writer.finish(row(n), ())
    wait_for(lambda: not writer.health().ok)
    print(writer.health().last_error)
    assert writer.health().queued > 0 and writer.health().lost == 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    finish(writer, row(4000))
    wait_for(lambda: writer.health().ok)
"""


def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    said = from_outside(FULL, tmp_path / "a.db")
    assert "full" in said or "I/O" in said
    assert len(ids(tmp_path / "a.db")) == 4000
    assert_sound(tmp_path / "a.db")


READ_ONLY = """
import os, sys, tempfile
from pathlib import Path
from tests.ledger_kit import finish, reading, row, wait_for, writing
from arbstr.ledger.queries import Filters

def use(folder):
    path = folder / "a.db"
    with writing(path) as writer:
        finish(writer, row(1))
    path.chmod(0o400)
    folder.chmod(0o500)
    with writing(path, instance="there") as writer:
        writer.finish(row(2), ())
        if os.geteuid():
            wait_for(lambda: not writer.health().ok)
            print(writer.health().last_error)
        folder.chmod(0o700)
        path.chmod(0o600)
        finish(writer, row(3))
        wait_for(lambda: writer.health().ok)
    with reading(path) as reader:
        assert reader.totals(Filters()).total == 3

with tempfile.TemporaryDirectory() as folder:
    if os.getuid() == 0:  # root may write everything: load all that is needed, then be somebody
        with tempfile.TemporaryDirectory() as other:
            use(Path(other))
        os.chown(folder, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    use(Path(folder))
    os.seteuid(os.getuid())
"""


def test_a_read_only_file_is_written_when_it_no_longer_is() -> None:
    assert "a.db" in from_outside(READ_ONLY)


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    fill(tmp_path / "x" / "y" / "a.db", row(1))
    assert ids(tmp_path / "x" / "y" / "a.db") == [row(1).id]


def test_a_path_that_can_be_no_file_does_not_stop_traffic(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = Writer(tmp_path / "file" / "a.db", instance="here")
    writer.start()
    writer.finish(row(1), ())
    wait_for(lambda: not writer.health().ok)
    assert writer.close(0.1) is False


# --- deleted, moved, replaced ---------------------------------------------------------------------


def test_a_deleted_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer, reading(path) as reader:
        writer.begin(begun(row(2)))
        finish(writer, row(1))
        assert reader.totals(Filters()).total == 2
        path.unlink()
        assert reader.totals(Filters()).total == 0
        finish(writer, row(2))
        finish(writer, row(3))
        assert reader.totals(Filters()).ok == 2
    assert ids(path) == [row(2).id, row(3).id]
    assert_sound(path)


def test_all_of_it_may_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.db"
    with writing(path) as writer:
        finish(writer, row(1))
        shutil.rmtree(path.parent)
        finish(writer, row(2))
        finish(writer, row(3))
        assert (path.parent / "a.db-live-here").exists()
    assert ids(path) == [row(2).id, row(3).id]
    assert_sound(path)


def test_a_moved_file_keeps_what_was_written(tmp_path: Path) -> None:
    path, moved = tmp_path / "a.db", tmp_path / "b.db"
    with writing(path) as writer:
        finish(writer, row(1))
        path.rename(moved)
        finish(writer, row(2))
    assert ids(path) == [row(2).id]
    assert ids(moved) == [row(1).id]
    assert_sound(moved)


def test_two_writers_both_follow_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as one, writing(path, instance="there") as other:
        finish(one, row(1))
        finish(other, row(2, instance="there"))
        path.unlink()
        for n in range(3, 23, 2):
            finish(one, row(n))
            finish(other, row(n + 1, instance="there"))
    assert len(ids(path)) == 20
    assert_sound(path)


# --- corrupt --------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is no database" * 1000)
    fill(path, row(1))
    assert ids(path) == [row(1).id]
    (aside,) = corrupt_files(tmp_path)
    assert aside.read_bytes() == b"this is no database" * 1000


def test_a_cut_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path, *(row(n) for n in range(1, 200)))
    size = path.stat().st_size
    os.truncate(path, size // 2 // 4096 * 4096)
    fill(path, row(500))
    assert ids(path) == [row(500).id]
    assert [p.stat().st_size for p in corrupt_files(tmp_path)] == [size // 2 // 4096 * 4096]


def test_files_set_aside_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for n in range(3):
        path.write_bytes(b"%d is no database" % n * 100)
        with writing(path, now_ms=lambda: 1_700_000_000_000) as writer:
            finish(writer, row(1))
    names = [p.name for p in corrupt_files(tmp_path)]
    assert [p.read_bytes()[:1] for p in corrupt_files(tmp_path)] == [b"0", b"1", b"2"]
    assert [name[-2:] for name in names[1:]] == ["-1", "-2"]


SPOIL = """
import os, sys
for name in sys.argv[1:]:
    with open(name, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(b"spoilt. " * (size // 8))
"""


def test_a_file_that_is_spoilt_while_it_is_open_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path, *(row(n) for n in range(1, 2000)))
    with writing(path, instance="there") as writer:
        finish(writer, row(3000))
        from_outside(SPOIL, path, f"{path}-wal", f"{path}-shm")
        for n in range(3001, 3010):  # old pages too: their rows are written again
            finish(writer, row(n - 3000, id=row(n - 3000).id))
            finish(writer, row(n))
        assert writer.health().ok
    assert_sound(path)
    assert len(corrupt_files(tmp_path)) == 1
    assert set(ids(path)) >= {row(n).id for n in range(3002, 3010)}


@pytest.mark.parametrize(
    ("spoilt", "damages", "kept"),
    [
        (False, 1, True),  # looked at, and found whole
        (True, 1, False),
        (False, 2, False),  # twice in a row: what a look does not find is there all the same
    ],
)
def test_a_file_that_was_called_corrupt_is_looked_at(
    tmp_path: Path, spoilt: bool, damages: int, kept: bool
) -> None:
    path = tmp_path / "a.db"
    fill(path, *(row(n) for n in range(1, 2000)))
    if spoilt:
        ((page,),) = execute(path, "SELECT rootpage FROM sqlite_master WHERE name = 'request_rows'")
        with path.open("r+b") as file:
            file.seek((int(str(page)) - 1) * 4096)
            file.write(b"spoilt" * 100)
    open_or_replace(path, "there", NOON_MS, damages=damages).close()
    assert (len(ids(path)) == 1999) is kept
    assert len(corrupt_files(tmp_path)) == (not kept)


def test_the_reader_says_which_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is no database" * 1000)
    with reading(path) as reader, pytest.raises(LedgerError, match=r"a\.db: .*not a database"):
        reader.totals(Filters())

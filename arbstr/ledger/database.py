"""The ledger's file: made, opened, told from other files, and set aside when it is damaged.

Files beside the database ``NAME``: SQLite's own ``NAME-wal`` and ``NAME-shm``; ``NAME-lock``,
held while a process opens, makes or sets aside the file; ``NAME-live-INSTANCE``, held for as long
as that instance runs (`instances`). All are made 0600.

A file may be deleted, moved or replaced while it is open. SQLite does not notice: it writes on into
a file that has no name any more, and deletes the new file's WAL by its name when it closes the old
one. So the owner compares `FileId` around each commit, and `let_go` closes such a connection.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from peewee import PeeweeException, SqliteDatabase

from arbstr.ledger.migrations import APPLICATION_ID, MIGRATIONS, schema_version

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BUSY_S = 0.1
"""How long SQLite itself waits for a lock; the writer's loop waits longer, and can be stopped."""
READ_BUSY_S = 2.0
_WAL_BYTES = 16 << 20
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_ROW_FAULTS = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)


class LedgerError(Exception):
    """The ledger cannot be used as it is: one line that names the file."""


class FileId(msgspec.Struct, frozen=True):
    """Which file a name stands for: two equal ones are the same file."""

    device: int
    inode: int


def file_id(path: Path) -> FileId | None:
    """The file that `path` names now; None where there is none. Opens nothing.

    (To open and close a database by hand would drop SQLite's locks on it: POSIX locks go with the
    first descriptor that is closed; sqlite.org, "How To Corrupt", 2.2.)
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return FileId(stat.st_dev, stat.st_ino)


def create(path: Path) -> None:
    """Make an empty file, 0600, unless there is one. SQLite gives -wal and -shm the same mode."""
    if path.exists():
        return
    for ending in ("-wal", "-shm"):  # left over from a file that was deleted: no part of this one
        _beside(path, ending).unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def connect(path: Path) -> SqliteDatabase:
    """Open an existing file to write. Raises sqlite3.Error, and LedgerError for one not of ours.

    The database belongs to one thread at a time and is in autocommit mode: transactions are begun
    by hand, so that they begin IMMEDIATE.
    """
    database = _open(path, "rw", BUSY_S)
    connection = raw(database)
    try:
        refuse_strangers(path, connection)
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    except BaseException:
        database.close()
        raise
    return database


def connect_to_read(path: Path) -> SqliteDatabase:
    """Open an existing file to read. Raises sqlite3.Error, and LedgerError for one not of ours."""
    database = _open(path, "ro", READ_BUSY_S)
    try:
        refuse_strangers(path, raw(database))
    except BaseException:
        database.close()
        raise
    return database


def raw(database: SqliteDatabase) -> sqlite3.Connection:
    """The connection below peewee: its errors are sqlite3's own, with their codes."""
    connection = database.connection()  # type: ignore[no-untyped-call] # its stubs say nothing
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - tells mypy, peewee cannot
    return connection


def refuse_strangers(path: Path, connection: sqlite3.Connection) -> None:
    """Raise LedgerError for a newer arbstr's ledger, and for a database that is no ledger."""
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"{path}: made by a newer arbstr (schema {version}, this one knows {len(MIGRATIONS)}):"
            " update arbstr, or name another file in [database] path"
        )
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and owner != APPLICATION_ID:
        raise LedgerError(
            f"{path}: holds the tables of another program: name another file in [database] path"
        )


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether SQLite finds the file's structure whole. Reads all of it. Raises sqlite3.Error."""
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return bool(verdict == "ok")


def is_damage(error: BaseException) -> bool:
    """Whether `error` says that the file is corrupt, or no database."""
    return isinstance(error, sqlite3.Error) and _code(error) in _CORRUPT


def is_busy(error: BaseException) -> bool:
    """Whether `error` says that somebody else holds a lock."""
    return isinstance(error, sqlite3.Error) and _code(error) in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }


def is_row_fault(error: BaseException) -> bool:
    """Whether `error` is a row's own fault: no disk and no time will make it fit."""
    if isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError):
        return True
    if isinstance(error, sqlite3.Error):
        return _code(error) in _ROW_FAULTS
    return not isinstance(error, OSError)


def set_aside(path: Path, damaged: FileId, now_ms: int) -> Path | None:
    """Rename a damaged file, and its WAL with it; never over another one. Raises OSError.

    Returns the new name; None where `path` is not that file any more: somebody else was first.
    """
    if file_id(path) != damaged:
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now_ms / 1000))
    base = f"{path.name}.corrupt-{stamp}"
    names = (path.with_name(f"{base}-{n}" if n else base) for n in range(1 << 30))
    target = next(name for name in names if not name.exists())
    path.rename(target)
    wal = _beside(path, "-wal")
    if wal.exists():
        wal.rename(_beside(target, "-wal"))
    _beside(path, "-shm").unlink(missing_ok=True)
    return target


def let_go(database: SqliteDatabase, *, moved: bool) -> None:
    """Close. Of a file that is not at its path any more (`moved`) the WAL's name is not touched."""
    with contextlib.suppress(sqlite3.Error):
        connection = raw(database)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if moved:
            # What is still in the WAL goes into the file, wherever that is now.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)  # noqa: FBT003
    database.close()


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Hold ``NAME-lock``: only one process makes or sets aside the file. Raises OSError if held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_beside(path, "-lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if not lock(descriptor):
            raise BlockingIOError(f"{path.name}-lock is held: another arbstr is opening the ledger")
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Take the whole file for as long as `descriptor` is open; False where another one has it.

    The lock goes with the process, however that ends, which no recorded process id can promise.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _open(path: Path, mode: str, busy_s: float) -> SqliteDatabase:
    database = SqliteDatabase(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_s,
        thread_safe=False,
        check_same_thread=False,
        autoconnect=False,
    )
    try:
        database.connect()
    except PeeweeException as error:
        raise sqlite3.OperationalError(str(error)) from error
    return database


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _code(error: sqlite3.Error) -> int:
    """The primary result code: the low byte (sqlite.org, "Result and Error Codes")."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF

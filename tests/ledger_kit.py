"""What the tests of the ledger itself share: rows, a writer and a reader, waiting with a limit."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from arbstr.core.record import AttemptRow, RequestRow
from arbstr.ledger.queries import Reader
from arbstr.ledger.writer import Writer

NOON_MS = 1_767_268_800_000
"""2026-01-01 12:00 UTC."""
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
LIMIT_S = 30.0

ROW = RequestRow(
    id=(NOON_MS << 20) | 1,
    instance="here",
    started_at=NOON_MS,
    endpoint="/v1/chat/completions",
    outcome="ok",
    client="OpenAI/Python 1.109.1",
    requested_model="gpt-4o",
    policy="code",
    policy_source="keyword",
    model="deepseek-chat",
    provider="routstr",
    stream=True,
    status=200,
    attempts=1,
    input_tokens=1000,
    cached_tokens=200,
    output_tokens=300,
    reasoning_tokens=100,
    estimated_msats=450,
    cost_msats=412,
    cost_source="billed",
    computed_msats=411,
    baseline_msats=900,
    balance_msats=5_000_000,
    ttft_ms=640,
    latency_ms=5210,
    prompt_bytes=4200,
)


def row(n: int = 1, /, **changes: object) -> RequestRow:
    """`ROW` as the `n`-th request, a second after the one before, with `changes`."""
    started_at = changes.get("started_at", NOON_MS + (n - 1) * 1000)
    assert isinstance(started_at, int)
    values = {"id": (started_at << 20) | n, "started_at": started_at, **changes}
    return msgspec.structs.replace(ROW, **values)


def begun(full: RequestRow) -> RequestRow:
    """`full` as it was queued when its first attempt started."""
    names = ("id", "instance", "started_at", "endpoint", "client", "requested_model", "policy")
    more = ("policy_source", "model", "provider", "stream", "estimated_msats")
    return RequestRow(outcome="in_flight", **{name: getattr(full, name) for name in names + more})


def tried(full: RequestRow, n: int = 1, /, **changes: object) -> AttemptRow:
    """The attempt that answered `full`, with `changes`."""
    attempt = AttemptRow(
        n=n,
        provider=full.provider or "",
        model=full.model or "",
        started_at=full.started_at,
        outcome=full.outcome,
        status=full.status,
        error_code=full.error_code,
        input_tokens=full.input_tokens,
        output_tokens=full.output_tokens,
        cost_msats=full.cost_msats,
        cost_source=full.cost_source,
        ttft_ms=full.ttft_ms,
        latency_ms=full.latency_ms,
    )
    return msgspec.structs.replace(attempt, **changes)


@contextlib.contextmanager
def writing(
    path: Path,
    *,
    instance: str = "here",
    retention_days: int = 0,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> Iterator[Writer]:
    """A writer that has started, closed in the end; everything must be written then."""
    writer = Writer(path, instance=instance, retention_days=retention_days, now_ms=now_ms)
    writer.start()
    try:
        yield writer
    finally:
        assert writer.close(LIMIT_S)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """A reader, closed in the end."""
    reader = Reader(path)
    try:
        yield reader
    finally:
        reader.close()


def finish(writer: Writer, full: RequestRow, *attempts: AttemptRow) -> None:
    """Write `full` and wait until it is committed."""
    written = threading.Event()
    writer.finish(full, attempts, written.set)
    assert written.wait(LIMIT_S), writer.health()


def fill(path: Path, *rows: RequestRow) -> None:
    """A ledger with `rows`."""
    with writing(path) as writer:
        for full in rows:
            writer.finish(full, ())


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds; fail after a long time."""
    until_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until_s, "it never came"
        time.sleep(0.005)


def execute(path: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """Run one statement on the file, from outside."""
    with contextlib.closing(sqlite3.connect(path, timeout=LIMIT_S)) as connection, connection:
        return connection.execute(sql, values).fetchall()


def assert_sound(path: Path) -> None:
    """SQLite finds nothing wrong with the file."""
    assert execute(path, "PRAGMA integrity_check") == [("ok",)]

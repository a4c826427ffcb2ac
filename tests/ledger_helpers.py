"""Real ledgers for tests of what reads them: rows made here, written by the writer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from arbstr.core.record import AttemptRow, PriceRow, RequestRow
from arbstr.ledger.writer import Writer

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

type Finished = tuple[RequestRow, tuple[AttemptRow, ...]]


def answered(
    at_ms: int,
    model: str | None = "deepseek-chat",
    /,
    *,
    n: int = 0,
    cost_msats: int | None = 412,
    **others: object,
) -> Finished:
    """One request that `model` answered at the first try. `n` tells apart those of one moment."""
    values: dict[str, object] = {
        "id": (at_ms << 20) + n,
        "instance": "test",
        "started_at": at_ms,
        "endpoint": "/v1/chat/completions",
        "outcome": "ok",
        "client": "OpenAI/Python 3.54.0",
        "requested_model": "gpt-4o",
        "policy": "code",
        "policy_source": "keyword",
        "model": model,
        "provider": "routstr",
        "status": 200,
        "attempts": 1,
        "input_tokens": 1000,
        "cached_tokens": 200,
        "output_tokens": 300,
        "estimated_msats": 400,
        "cost_msats": cost_msats,
        "cost_source": "unknown" if cost_msats is None else "billed",
        "computed_msats": cost_msats,
        "baseline_msats": None if cost_msats is None else 4 * cost_msats,
        "ttft_ms": 410,
        "latency_ms": 2300,
        "prompt_bytes": 4800,
    }
    row = RequestRow(**{**values, **others})  # type: ignore[arg-type]
    attempt = AttemptRow(
        n=row.attempts or 1,
        provider=row.provider or "routstr",
        model=row.model or "deepseek-chat",
        started_at=row.started_at,
        outcome=row.outcome,
        status=row.status,
        error_code=row.error_code,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_msats=row.cost_msats,
        cost_source=row.cost_source,
        ttft_ms=row.ttft_ms,
        latency_ms=row.latency_ms,
    )
    return row, (attempt,)


def after_a_failure(finished: Finished, model: str, status: int) -> Finished:
    """The same, but `model` had failed with `status` before."""
    row, (attempt,) = finished
    failed = AttemptRow(
        n=1,
        provider="routstr",
        model=model,
        started_at=row.started_at,
        outcome="error",
        status=status,
        error_code="upstream_error",
        latency_ms=35,
    )
    last = AttemptRow(**{**{f: getattr(attempt, f) for f in attempt.__struct_fields__}, "n": 2})
    fields = {f: getattr(row, f) for f in row.__struct_fields__}
    return RequestRow(**{**fields, "attempts": 2}), (failed, last)


def write(
    path: Path,
    finished: Iterable[Finished] = (),
    *,
    prices: Sequence[PriceRow] = (),
    instance: str = "test",
) -> None:
    """Put all of it into the ledger at `path`, as an arbstr that has ended since."""
    writer = Writer(path, instance=instance)
    writer.start()
    for row, attempts in finished:
        writer.finish(row, attempts)
    writer.prices(prices)
    assert writer.close()


@contextlib.contextmanager
def running(path: Path, instance: str = "running") -> Iterator[Callable[[Finished], None]]:
    """An arbstr that runs: what it is given is written when the call returns.

    A row that is ``in_flight`` begins, any other ends.
    """
    writer = Writer(path, instance=instance)
    writer.start()

    def put(finished: Finished) -> None:
        row, attempts = finished
        if row.outcome == "in_flight":
            writer.begin(row)
            # Rows are written in their order: once another one is, this one is too.
            row, attempts = answered(0, "before all time")
        written = threading.Event()
        writer.finish(row, attempts, written.set)
        assert written.wait(20)

    yield put
    assert writer.close()

"""Make a ledger with many rows, to see how large it is and how fast it answers.

    python scripts/make_ledger.py big.db --rows 1000000 --days 90 --measure

The rows look like those of a person who works with four programs: their user agents, policies and
models go together, most requests come by day, sizes and times are log-normal. They go in by the
writer's own transactions, so roll-ups and indexes are what they would be.
"""

from __future__ import annotations

import argparse
import math
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from arbstr.core.record import AttemptRow, Outcome, RequestRow
from arbstr.ledger.items import Begin, Finish, Item
from arbstr.ledger.queries import Filters, Reader
from arbstr.ledger.store import Store

DAY_MS = 86_400_000
BATCH_ROWS = 5000
INSTANCES = 60
"""As if arbstr had been started that often."""


class Program(msgspec.Struct, frozen=True):
    """A client: how it calls itself, what it asks for, and what it is given."""

    client: str
    endpoint: str
    policy: str | None
    source: str
    models: tuple[str, ...]
    prompt_tokens: int
    share: int


CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
PROGRAMS = (
    Program(
        "claude-cli/2.0.14 (external, cli)",
        MESSAGES,
        "code",
        "header",
        ("claude-sonnet-4.5", "deepseek-chat", "gpt-5-mini"),
        30_000,
        50,
    ),
    Program(
        "opencode/0.5.1 ai-sdk/provider-utils/3.0.9 runtime/bun/1.2.21",
        CHAT,
        "code",
        "keyword",
        ("deepseek-chat", "gpt-5-mini", "qwen3-coder"),
        12_000,
        25,
    ),
    Program("OpenAI/Python 1.109.1", CHAT, "quick", "default", ("gpt-4o-mini",), 900, 20),
    Program("Mozilla/5.0 OpenWebUI", CHAT, None, "none", ("gpt-4o", "llama-3.3-70b"), 2500, 5),
)
PROVIDERS = ("routstr", "privateprovider")
ENDS: tuple[tuple[Outcome, int], ...] = (
    ("ok", 950),
    ("error", 20),
    ("refused", 8),
    ("client_closed", 14),
    ("interrupted", 8),
)


def rows(count: int, days: int, until_ms: int, dice: random.Random) -> Iterator[Finish]:
    """`count` requests over the `days` days before `until_ms`, in the order of time."""
    starts = sorted(_moment(days, until_ms, dice) for _ in range(count))
    shares = [program.share for program in PROGRAMS]
    for start_ms in starts:
        (program,) = dice.choices(PROGRAMS, shares)
        age = (until_ms - start_ms) / (days * DAY_MS)
        yield _row(program, start_ms, f"{round(age * INSTANCES):012x}", dice)


def _moment(days: int, until_ms: int, dice: random.Random) -> int:
    """A moment, five times as likely by day as by night."""
    while True:
        ms = until_ms - dice.randrange(1, days * DAY_MS)
        if 7 <= ms // 3_600_000 % 24 < 23 or dice.random() < 0.2:
            return ms


def _row(program: Program, start_ms: int, instance: str, dice: random.Random) -> Finish:
    outcome = dice.choices([end for end, _ in ENDS], [share for _, share in ENDS])[0]
    row = RequestRow(
        id=(start_ms << 20) | dice.getrandbits(20),
        instance=instance,
        started_at=start_ms,
        endpoint=program.endpoint,
        outcome=outcome,
        client=program.client,
        requested_model=program.models[0],
        policy=program.policy,
        policy_source=program.source,
        stream=dice.random() < 0.8,
    )
    if outcome == "refused":
        message = "no allowed model can take 210000 tokens"
        return Finish(
            msgspec.structs.replace(
                row,
                status=400,
                error_code="context_length_exceeded",
                error_message=message,
                cost_msats=0,
                cost_source="computed",
                latency_ms=1,
            )
        )
    return _sent(row, program, dice)


def _sent(row: RequestRow, program: Program, dice: random.Random) -> Finish:
    output = _about(400, 1.1, dice)
    prompt = _about(program.prompt_tokens, 0.9, dice)
    cached = round(prompt * 0.8) if program.prompt_tokens > 5000 else 0
    cost = round((prompt - 0.9 * cached) * 0.3 + output * 1.2) + 1
    ttft = _about(900, 0.6, dice)
    whole = row.outcome != "error"
    row = msgspec.structs.replace(
        row,
        model=dice.choices(program.models, range(len(program.models), 0, -1))[0],
        provider=PROVIDERS[dice.random() < 0.2],
        status=200 if whole else 502,
        error_code=None if whole else "upstream_error",
        error_message=None if whole else "the upstream answered 500: internal server error",
        attempts=1 + (dice.random() < 0.06),
        input_tokens=prompt - cached if whole else None,
        cached_tokens=cached if whole else None,
        output_tokens=output if whole else None,
        reasoning_tokens=output // 3 if whole and dice.random() < 0.3 else None,
        estimated_msats=round(cost * dice.uniform(0.5, 1.5)),
        cost_msats=cost if whole else None,
        cost_source="billed" if whole else "unknown",
        computed_msats=cost - dice.randrange(2) if whole else None,
        baseline_msats=2 * cost if whole else None,
        balance_msats=5_000_000 + dice.randrange(4_000_000),
        ttft_ms=ttft if whole else None,
        latency_ms=ttft + output * 15,
        prompt_bytes=prompt * 4,
    )
    tries = tuple(_attempt(row, n) for n in range(1, row.attempts + 1))
    return Finish(row, tries)


def _attempt(row: RequestRow, n: int) -> AttemptRow:
    last = n == row.attempts
    return AttemptRow(
        n=n,
        provider=row.provider or "",
        model=row.model or "",
        started_at=row.started_at,
        outcome=row.outcome if last else "error",
        status=row.status if last else 503,
        error_code=row.error_code if last else "upstream_error",
        input_tokens=row.input_tokens if last else None,
        output_tokens=row.output_tokens if last else None,
        cost_msats=row.cost_msats if last else None,
        cost_source=row.cost_source if last else "unknown",
        ttft_ms=row.ttft_ms if last else None,
        latency_ms=row.latency_ms,
    )


def _about(median: int, spread: float, dice: random.Random) -> int:
    return max(1, round(median * math.exp(dice.gauss(0, spread))))


def make(path: Path, found: Iterator[Finish], *, in_flight: bool) -> int:
    """Write `found` into a new ledger; returns how many rows.

    `in_flight`: each row is written twice, as traffic does it, first as one in flight.
    """
    store = Store(path, "make_ledger", time.time_ns() // 1_000_000)
    written = 0
    batch: list[Finish] = []
    size = 4 if in_flight else BATCH_ROWS
    for item in found:
        batch.append(item)
        if len(batch) == size:
            written += _write(store, batch, in_flight=in_flight)
    written += _write(store, batch, in_flight=in_flight)
    store.end(time.time_ns() // 1_000_000)
    store.close()
    return written


def _write(store: Store, batch: list[Finish], *, in_flight: bool) -> int:
    begun: list[Item] = [Begin(_begun(item.row)) for item in batch if in_flight]
    if begun:
        store.write(begun)
    store.write(batch)
    count = len(batch)
    batch.clear()
    return count


def _begun(row: RequestRow) -> RequestRow:
    names = ("id", "instance", "started_at", "endpoint", "client", "requested_model", "policy")
    more = ("policy_source", "model", "provider", "stream", "estimated_msats")
    return RequestRow(outcome="in_flight", **{name: getattr(row, name) for name in names + more})


def measure(path: Path, until_ms: int) -> None:
    """Print the size of a row, and how long the questions of `arbstr costs` take."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    (count,) = connection.execute("SELECT count(*) FROM request_rows").fetchone()
    for what, table in (
        ("requests, indexes included", "request_rows"),
        ("attempts", "attempt_rows"),
        ("roll-ups", "rollups"),
    ):
        try:
            (size,) = connection.execute(
                "SELECT sum(pgsize) FROM dbstat WHERE name IN"
                " (SELECT name FROM sqlite_master WHERE tbl_name = ?)",
                (table,),
            ).fetchone()
        except sqlite3.OperationalError:  # this SQLite has no dbstat
            size = path.stat().st_size
            print("(no dbstat in this SQLite: what follows is the whole file)")
        print(f"{what:35} {size / count:8.1f} bytes a request")
    reader = Reader(path)
    month = Filters(since_ms=until_ms - 30 * DAY_MS)
    _timed("bare SELECT count(*) of 90 days", lambda: _scan(connection))
    _timed("totals, 30 days", lambda: reader.totals(month))
    _timed("by model, 30 days", lambda: reader.groups(month, "model"))
    _timed("by client, 30 days", lambda: reader.groups(month, "client"))
    _timed("by day, 30 days", lambda: reader.groups(month, "day"))
    model = msgspec.structs.replace(month, model="deepseek-chat")
    _timed("totals of one model, 30 days", lambda: reader.totals(model))
    _timed("totals of everything", lambda: reader.totals(Filters()))
    _timed("newest 20 requests", lambda: reader.requests(Filters()))
    _timed("newest 20 failed", lambda: reader.requests(Filters(failed=True)))
    _timed("dearest 20 of 30 days", lambda: reader.requests(month, sort="cost_msats"))
    _timed("spent in 24 hours", lambda: reader.spent_msats(until_ms - DAY_MS))
    reader.close()
    connection.close()


def _scan(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM request_rows NOT INDEXED WHERE +latency_ms").fetchone()


def _timed(what: str, ask: Callable[[], object]) -> None:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    print(f"{what:35} {sorted(took)[2] * 1000:8.1f} ms (first {took[0] * 1000:.1f})")


def main() -> None:
    """Make it, and say how long that took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in-flight", action="store_true", help="write each row twice: slow")
    parser.add_argument(
        "--measure", action="store_true", help="print size and speed, of one made before too"
    )
    args = parser.parse_args()
    until_ms = time.time_ns() // 1_000_000
    if not args.path.exists():
        began = time.perf_counter()
        dice = random.Random(args.seed)  # noqa: S311 - no secret comes of it
        found = rows(args.rows, args.days, until_ms, dice)
        written = make(args.path, found, in_flight=args.in_flight)
        print(f"{written:,} rows in {time.perf_counter() - began:.1f} s")
    elif not args.measure:
        parser.error(f"{args.path} is there already")
    if args.measure:
        measure(args.path, until_ms)


if __name__ == "__main__":
    main()

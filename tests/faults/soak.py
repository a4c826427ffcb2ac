"""The soak: many clients, random faults, every answer and every msat accounted for."""

from __future__ import annotations

import asyncio
import collections
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.answers import text_of
from tests.faults.client import Client
from tests.faults.model import Candidate, Case, Seen
from tests.faults.proxy import GROUPS, Proxy
from tests.faults.rawclient import RawClient
from tests.faults.stage import Stage
from tests.faults.suite import opened

MODELS = 4
LEAVE_SHARE = 0.04
HUNG_S = 45.0
SETTLE_S = 15.0
MANY = 50
LEAST_A_SECOND = 5000 / 120
"""Of so many clients; fewer may take their time."""
OUTCOMES = {"answer": "ok", "cut": "interrupted", "error": "error"}


@dataclass(slots=True)
class Report:
    """What became of it.

    `seen`: how often clients saw what. `told`: what they saw, by the id they were told. `faces`: of
    the ledger. `wrong`: answers that should not have been. `problems`: why it is not ok.
    """

    seconds: float
    seen: collections.Counter[str] = field(default_factory=collections.Counter)
    told: dict[str, str] = field(default_factory=dict)
    faces: collections.Counter[str] = field(default_factory=collections.Counter)
    problems: list[str] = field(default_factory=list)
    wrong: int = 0

    def lines(self) -> Iterator[tuple[str, object]]:
        """For the table."""
        yield "seconds", round(self.seconds)
        yield "requests", self.seen.total()
        yield "wrong answers", self.wrong
        yield "hung clients", self.seen["hung"]
        yield from sorted(self.seen.items())
        yield from sorted(self.faces.items())
        yield "problems", len(self.problems)


async def play(seconds: float, clients: int, seed: int, folder: Path) -> Report:
    """`clients` at a time for `seconds`, each on a connection of its own."""
    report = Report(seconds)
    candidates = tuple(Candidate(f"chaos={seed}", ("up", "other")[n % 2]) for n in range(MODELS))
    case = Case("soak", "soak", "soak", candidates, (), stream=True)
    async with opened(folder) as stage, stage.proxy(GROUPS["soak"], [case]) as proxy:
        until = time.monotonic() + seconds
        users = (_User(stage, proxy, case, report, seed * 1000 + n) for n in range(clients))
        await asyncio.gather(*(user.go_on(until) for user in users))
        await _settled(stage, proxy, report)
        _accounts(stage, proxy, report)
        code = await proxy.stop()
        report.problems += [] if code == 0 else [f"the exit code was {code}"]
        report.problems += [f"log: {line}" for line in proxy.complaints()[:20]]
        report.problems += stage.upstream.unexpected[:20]
    if clients >= MANY and report.seen.total() < LEAST_A_SECOND * seconds:
        report.problems.append(f"only {report.seen.total()} requests in {seconds:g} s")
    return report


class _User:
    """One client that asks, one request after the other, and now and then leaves in the middle."""

    def __init__(self, stage: Stage, proxy: Proxy, case: Case, report: Report, seed: int) -> None:
        self._stage = stage
        self._proxy = proxy
        self._case = case
        self._report = report
        self._random = random.Random(seed)
        self._n = 0

    async def go_on(self, until: float) -> None:
        """Until the time is over."""
        async with self._stage.client(self._proxy, patience_s=HUNG_S) as client:
            while time.monotonic() < until:
                self._n += 1
                if self._random.random() < LEAVE_SHARE:
                    await self._leave()
                else:
                    await self._ask(client)

    def _nonce(self) -> str:
        return f"soak{self._n}x{secrets.token_hex(6)}"

    async def _ask(self, client: Client) -> None:
        nonce, stream = self._nonce(), self._random.random() < 0.6
        seen = await client.ask(
            self._case.model(0),
            f"Say something. nonce={nonce}",
            stream=stream,
            headers={"x-arbstr-policy": self._case.id},
            on_text=self._stage.upstream.seen(nonce).set,
        )
        self._stage.upstream.seen(nonce).set()
        self._report.seen[seen.kind] += 1
        self._report.told[seen.headers.get("x-arbstr-request-id", nonce)] = seen.kind
        if (wrong := _wrong(seen, nonce, stream=stream)) is not None:
            self._report.wrong += 1
            self._report.problems.append(f"{nonce}: {wrong}")

    async def _leave(self) -> None:
        """A stream that is dropped as soon as its head is there."""
        nonce = self._nonce()
        async with RawClient(self._proxy.port) as client:
            headers = {"x-arbstr-policy": self._case.id}
            content = f"Say something. nonce={nonce}"
            await client.ask(self._case.model(0), content, stream=True, headers=headers)
            async with asyncio.timeout(HUNG_S):
                await client.read_until(b"\r\n\r\n")
        self._stage.upstream.seen(nonce).set()
        self._report.seen["left"] += 1


def _wrong(seen: Seen, nonce: str, *, stream: bool) -> str | None:
    """Why an answer must not be: another's text, a cut that nobody spoke of, no end."""
    right = text_of(nonce)
    if seen.kind in ("hung", "broken"):
        return f"{seen.kind}: {seen.error} {seen.message[:200]}"
    if seen.kind == "answer":
        if seen.text != right:
            return f"a wrong answer: {seen.text[:100]!r}"
        return "no [DONE]" if stream and b"data: [DONE]" not in seen.wire else None
    if not right.startswith(seen.text):
        return f"a wrong text before the error: {seen.text[:100]!r}"
    return "[DONE] after an error" if b"[DONE]" in seen.wire else None


async def _settled(stage: Stage, proxy: Proxy, report: Report) -> None:
    """Wait until the ledger and the upstream agree, or for as long as late costs may take."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        cost = sum(_msats(row["cost_msats"]) for row in proxy.rows("requests", "1"))
        flying = proxy.rows("requests", "outcome = 'in_flight'")
        if cost == _billed(stage) and not flying:
            return
        await asyncio.sleep(0.2)
    report.problems.append(f"after {SETTLE_S:g} s the ledger still did not agree with the upstream")


def _accounts(stage: Stage, proxy: Proxy, report: Report) -> None:
    """Requests are rows, tries are attempts, bills are costs."""
    requests, attempts = proxy.rows("requests", "1"), proxy.rows("attempts", "1")
    for row in requests:
        report.faces[f"row: {row['outcome']}"] += 1
        told = report.told.get(str(row["id"]))
        if told is not None and OUTCOMES.get(told) != row["outcome"]:
            report.problems.append(f"row {row['id']}: {row['outcome']}, the client saw {told}")
    billed = _billed(stage)
    pairs = {
        "requests sent and rows": (report.seen.total(), len(requests)),
        "tries and attempt rows": (len(stage.upstream.tries), len(attempts)),
        "msats billed and in requests": (billed, sum(_msats(r["cost_msats"]) for r in requests)),
        "msats billed and in attempts": (billed, sum(_msats(r["cost_msats"]) for r in attempts)),
    }
    for name, (one, other) in pairs.items():
        report.faces[name] = one
        if one != other:
            report.problems.append(f"{name}: {one:,} and {other:,}")


def _billed(stage: Stage) -> int:
    return sum(turn.billed_msats or 0 for turn in stage.upstream.tries)


def _msats(value: object) -> int:
    return value if isinstance(value, int) else 0

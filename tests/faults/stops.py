"""Shutdown: what SIGINT and SIGTERM do to those who are being served."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults import check
from tests.faults.cases import ANSWER, CUT
from tests.faults.model import Attempt, Candidate, Case, Expect, Result, Saw
from tests.faults.proxy import GROUPS, Proxy
from tests.faults.rawclient import RawClient
from tests.faults.stage import Act, Stage


@dataclass(frozen=True, slots=True)
class Stop:
    """A shutdown by `how`. `cases`: an endless stream, one that ends in time, one unanswered."""

    name: str
    how: signal.Signals
    cases: tuple[Case, Case, Case]


_ENDLESS = Expect(CUT, (Attempt(0, "interrupted", 200),), "interrupted")
_IN_TIME = Expect(ANSWER, (Attempt(0, "ok", 200),), "ok")
_UNANSWERED = Expect(
    Saw("error", "InternalServerError", 503), (Attempt(0, "interrupted"),), "error"
)


def stops() -> Iterator[Stop]:
    """SIGINT and SIGTERM."""
    for how in (signal.SIGINT, signal.SIGTERM):
        cases = tuple(
            Case(
                f"stop{how.name.lower()}{n}",
                f"{how.name}: {words}",
                "stops",
                (Candidate(fault),),
                (),
                stream,
            )
            for n, (fault, words, stream) in enumerate(
                (
                    ("drip", "an endless stream is ended with an error event", True),
                    ("left", "a stream that ends in time ends well", True),
                    ("silent", "a request without an answer yet", False),
                )
            )
        )
        yield Stop(how.name, how, (cases[0], cases[1], cases[2]))


async def play(stage: Stage, stop: Stop) -> list[Result]:
    """All of one shutdown, in a proxy of its own."""
    async with stage.proxy(GROUPS["stops"], stop.cases) as proxy:
        pairs = zip(stop.cases, (_ENDLESS, _IN_TIME, _UNANSWERED), strict=True)
        acts = [Act(stage, proxy, case, expect, 0) for case, expect in pairs]
        clients = [stage.client(proxy) for _ in acts]
        asked = [asyncio.ensure_future(a.ask(c)) for a, c in zip(acts, clients, strict=True)]
        try:
            await _under_way(stage, acts)
            async with RawClient(proxy.port) as idle:
                await idle.ask(
                    stop.cases[0].model(0),
                    "",
                    stream=False,
                    headers={"x-arbstr-policy": "none-such"},
                )
                await idle.read_until(b"\r\n\r\n")
                if proxy.process is not None:
                    proxy.process.send_signal(stop.how)
                newcomer = await _newcomer(proxy, stop)
            stage.upstream.left(acts[1].nonce).set()
            await asyncio.gather(*asked)
        finally:
            for client in clients:
                await client.sdk.close()
        code = await proxy.wait()
        for act in acts:
            await act.settle(deadline_s=0)
        problems = [f"log: {line}" for line in proxy.complaints()]
    results = [_row(act) for act in acts]
    problems += [] if code == 0 else [f"the exit code was {code}"]
    results.append(_plain(f"{stop.name}: exit 0, nothing odd in the log", f"exit {code}", problems))
    results.append(_plain(f"{stop.name}: a newcomer gets 503 and connection: close", *newcomer))
    return results


async def _under_way(stage: Stage, acts: list[Act]) -> None:
    """Wait until both streams flow and the third request is at the upstream."""
    async with asyncio.timeout(10):
        for act in acts[:2]:
            await stage.upstream.seen(act.nonce).wait()
        await stage.upstream.came(acts[2].nonce).wait()


async def _newcomer(proxy: Proxy, stop: Stop) -> tuple[str, list[str]]:
    """Ask on new connections until one is answered 503."""
    answer = ""
    deadline = asyncio.get_running_loop().time() + 0.8
    while asyncio.get_running_loop().time() < deadline:
        try:
            async with RawClient(proxy.port) as client:
                await client.ask(
                    stop.cases[0].model(0),
                    "",
                    stream=False,
                    headers={"x-arbstr-policy": "none-such"},
                )
                await client.read_until(b"\r\n\r\n")
                answer = client.received.decode(errors="replace").lower()
        except ConnectionError as error:
            return "refused", [f"client: {error!r}"]
        if answer.startswith("http/1.1 503"):
            closes = "\r\nconnection: close" in answer
            return "503", [] if closes else [f"client: no connection: close in {answer[:300]!r}"]
        await asyncio.sleep(0.02)
    return answer[:12], [f"client: never a 503: {answer[:300]!r}"]


def _row(act: Act) -> Result:
    attempts = check.attempts_brief(act.case, act.rows)
    problems = tuple(dict.fromkeys(act.problems))
    return Result(
        act.case.name, "stops", act.seen.brief(), attempts, act.outcome, problems, act.wire()
    )


def _plain(name: str, saw: str, problems: list[str]) -> Result:
    return Result(name, "stops", saw, "", "", tuple(problems))

"""Cases with a plot: somebody leaves, somebody stops, somebody comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from tests.faults import check
from tests.faults.cases import ANSWER, NOBODY
from tests.faults.model import Attempt, Candidate, Case, Expect, Result, Saw
from tests.faults.proxy import Proxy
from tests.faults.rawclient import RawClient
from tests.faults.rawh2 import RawH2Client
from tests.faults.stage import Act, Stage

type Play = Callable[[Stage, Proxy, Case], Awaitable[Result]]

FLOOD_MB = 48
SLOW_PAUSE_S = 2.5
"""Longer than the group's idle limit."""
BOUND_BYTES = 24 << 20
"""How much a proxy may hold of an answer that nobody reads."""
STREAMS = 24


@dataclass(frozen=True, slots=True)
class Scene:
    """A case that is played by a function of its own."""

    case: Case
    play: Play


def _case(
    id_: str, name: str, candidates: tuple[Candidate, ...], *, stream: bool, group: str
) -> Case:
    return Case(id_, name, group, candidates, (), stream)


def _result(case: Case, acts: list[Act], problems: list[str]) -> Result:
    found = [problem for act in acts for problem in act.problems] + problems
    return Result(
        case.name,
        case.group,
        " | ".join(dict.fromkeys(act.seen.brief() for act in acts)),
        " | ".join(dict.fromkeys(check.attempts_brief(case, act.rows) for act in acts)),
        " | ".join(dict.fromkeys(act.outcome for act in acts)),
        tuple(dict.fromkeys(found)),
        "\n".join(act.wire() for act in acts[:4]),
    )


_OK = Expect(ANSWER, (Attempt(0, "ok", 200),), "ok")


# --- comes back -----------------------------------------------------------------------------------


async def _down_then_up(stage: Stage, proxy: Proxy, case: Case) -> Result:
    """A provider refuses, then answers, on one kept-alive client connection."""
    refused = Expect(NOBODY, (Attempt(0, "error", None, seen=False),), "error")
    async with stage.client(proxy) as client:
        acts = [await Act(stage, proxy, case, refused, 0).play(client)]
        await stage.upstream.wake(case.candidates[0].provider)
        acts.append(await Act(stage, proxy, case, _OK, 1).play(client))
    return _result(case, acts, [])


async def _breaker_shows(stage: Stage, proxy: Proxy, case: Case) -> Result:
    """Three failures: ``/health`` names the circuit and says that it is open."""
    both = (Attempt(0, "error", 500), Attempt(1, "ok", 200))
    expect = [Expect(ANSWER, both, "ok")] * 3 + [Expect(ANSWER, both[1:], "ok")]
    async with stage.client(proxy) as client:
        acts = [await Act(stage, proxy, case, one, n).play(client) for n, one in enumerate(expect)]
    breakers = (await proxy.health()).get("breakers")
    shown = (
        [b for b in breakers if b.get("model") == case.model(0)]
        if isinstance(breakers, list)
        else []
    )
    open_ = [b for b in shown if b.get("state") == "open"]
    return _result(case, acts, [] if open_ else [f"health: no open breaker: {str(breakers)[:300]}"])


async def _many_streams(stage: Stage, proxy: Proxy, case: Case) -> Result:
    """Many requests at once on one HTTP/2 connection, each after a failure of its own."""
    expect = Expect(ANSWER, (Attempt(0, "error", 404), Attempt(1, "ok", 200)), "ok")
    async with stage.client(proxy) as client:
        first = [await Act(stage, proxy, case, expect, 0).play(client)]
        rest = [
            Act(stage, proxy, case, Expect(ANSWER, (Attempt(1, "ok", 200),), "ok"), n + 1)
            for n in range(STREAMS)
        ]
        acts = first + list(await asyncio.gather(*(act.play(client) for act in rest)))
    return _result(case, acts, [])


# --- leaves ---------------------------------------------------------------------------------------


async def _leave(stage: Stage, proxy: Proxy, case: Case, *, reset: bool, text: bool) -> Result:
    """The client goes: what was begun is read to its end and paid for, nothing new is tried."""
    outcome = "client_closed" if case.candidates[0].fault == "left-fails" else "ok"
    expect = Expect(Saw("answer"), (Attempt(0, outcome),), "client_closed")
    act = Act(stage, proxy, case, expect, 0)
    async with RawClient(proxy.port) as client:
        headers = {"x-arbstr-policy": case.id}
        await client.ask(case.model(0), act.content, stream=case.stream, headers=headers)
        if text:
            await client.read_until(b'"content": "Answer')
        else:
            async with asyncio.timeout(5):
                await stage.upstream.came(act.nonce).wait()
        stage.upstream.seen(act.nonce).set()
        (client.reset if reset else client.close)()
    stage.upstream.left(act.nonce).set()
    act.seen.kind, act.seen.error = "broken", "left"
    await act.settle()
    return _result(case, [act], [])


async def _leave_and_stay(stage: Stage, proxy: Proxy, case: Case) -> Result:
    """The client resets one stream; another on the same HTTP/2 connection goes on to its end."""
    closed = Expect(Saw("answer"), (Attempt(0, "ok"),), "client_closed")
    acts = [Act(stage, proxy, case, closed, 0), Act(stage, proxy, case, _OK, 1)]
    headers = {"x-arbstr-policy": case.id}
    async with RawH2Client(proxy.port, stage.certificates.client_context()) as client:
        streams = [await client.ask(case.model(0), act.content, headers) for act in acts]
        for act, stream_id in zip(acts, streams, strict=True):
            await client.read_until(stream_id, b'"content": "Answer')
            stage.upstream.seen(act.nonce).set()
        await client.reset(streams[0])
        stage.upstream.left(acts[1].nonce).set()
        await client.read_until(streams[1], b"data: [DONE]")
        stage.upstream.left(acts[0].nonce).set()
        acts[0].seen.kind, acts[0].seen.error = "broken", "left"
        for act in acts:
            await act.settle()
    return _result(case, acts, [])


async def _leave_by_fin(stage: Stage, proxy: Proxy, case: Case) -> Result:
    return await _leave(stage, proxy, case, reset=False, text=case.candidates[0].fault == "left")


async def _leave_by_reset(stage: Stage, proxy: Proxy, case: Case) -> Result:
    return await _leave(stage, proxy, case, reset=True, text=case.candidates[0].fault == "left")


# --- is slow --------------------------------------------------------------------------------------


async def _slow_reader(stage: Stage, proxy: Proxy, case: Case) -> Result:
    """A client that reads a little, sleeps past the idle limit, then reads the rest of 48 MB."""
    act = Act(stage, proxy, case, _OK, 0)
    proxy.forget_peak()
    before = proxy.peak_bytes()
    problems: list[str] = []
    async with RawClient(proxy.port, receive_buffer_bytes=65536) as client:
        headers = {"x-arbstr-policy": case.id, "connection": "close"}
        await client.ask(case.model(0), act.content, stream=True, headers=headers)
        await client.read_until(b'"content": "Answer')
        stage.upstream.seen(act.nonce).set()
        await asyncio.sleep(SLOW_PAUSE_S)
        while await client.read(1 << 20):
            pass
    held = proxy.peak_bytes() - before
    got = client.received.count(b"f" * 10_000)
    if got != FLOOD_MB * 100 or b"data: [DONE]" not in client.received[-200:]:
        problems.append(
            f"client: {got} of {FLOOD_MB * 100} events, end {bytes(client.received[-200:])!r}"
        )
    if held > BOUND_BYTES:
        problems.append(f"memory: {held >> 20} MB were held, {BOUND_BYTES >> 20} MB are allowed")
    act.seen.kind, act.seen.error = "broken", f"all of it, {held >> 20} MB held meanwhile"
    await act.settle()
    return _result(case, [act], problems)


_DOWN = (("plain", False), ("streamed", True))


def scenes() -> Iterator[Scene]:
    """All of the above, in order."""
    for words, stream in _DOWN:
        down = (Candidate("ok", f"down-{words}"),)
        case = _case(
            f"up{words[0]}", f"a provider down, then up, one connection · {words}", down,
            stream=stream, group="scenes",
        )  # fmt: skip
        yield Scene(case, _down_then_up)
    two = (Candidate("status=500"), Candidate("ok"))
    case = _case(
        "br", "circuit: an open one is shown in /health", two, stream=False, group="scenes"
    )
    yield Scene(case, _breaker_shows)
    for number, (fault, name, stream) in enumerate(_LEAVING):
        pair = (Candidate(fault), Candidate("ok"))
        for how, play in (("FIN", _leave_by_fin), ("reset", _leave_by_reset)):
            id_ = f"lv{number}{how[0].lower()}"
            case = _case(
                id_, f"the client leaves {name}, {how}", pair, stream=stream, group="scenes"
            )
            yield Scene(case, play)
    flood = (Candidate(f"flood={FLOOD_MB}"),)
    case = _case("sl", f"a slow client, {FLOOD_MB} MB · streamed", flood, stream=True, group="slow")
    yield Scene(case, _slow_reader)
    pair = (Candidate("left"), Candidate("ok"))
    name = "the client resets one of two streams on an h2 connection"
    yield Scene(_case("lh", name, pair, stream=True, group="h2"), _leave_and_stay)
    gone = (Candidate("status=404"), Candidate("ok"))
    for words, stream in _DOWN:
        case = _case(
            f"ms{words[0]}", f"{STREAMS} at once on one h2 connection · {words}", gone,
            stream=stream, group="h2",
        )  # fmt: skip
        yield Scene(case, _many_streams)


_LEAVING = (
    ("left", "in mid-stream", True),
    ("left-before", "before any text · streamed", True),
    ("left-before", "before any text · plain", False),
    ("left-fails", "and then it fails · streamed", True),
    ("left-fails", "and then it fails · plain", False),
)

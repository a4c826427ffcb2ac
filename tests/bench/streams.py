"""``stream``: time to the first token, the gap between tokens, and whether every one arrives."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from tests.bench import wire
from tests.bench.contenders import DIRECT, SERVE, Contender, running
from tests.bench.load import percentile
from tests.bench.options import Options, turns
from tests.bench.report import Verdict, show

STREAMS = (1, 10, 100, 200)
GAP_MS = 50
_ASKS = 50
_SPREAD_S = 1.0
"""Streams begin at random moments of so long: clients of one proxy do not march in step."""
_TOKEN = re.compile(rb"tok(\d{6})")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clients of one run saw. `lost`: tokens that were sent and did not come in order."""

    first_ms: list[float]
    gaps_ms: list[float]
    lost: int


class Client(asyncio.Protocol):
    """One stream: notes when each piece came, looks at it afterwards."""

    def __init__(self, sent: bytes) -> None:
        """`sent`: the whole request."""
        self._sent = sent
        self._pieces: list[tuple[float, bytes]] = []
        self._start = 0.0
        self._transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._start = time.perf_counter()
        transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        """Note it; the last chunk ends the stream."""
        self._pieces.append((time.perf_counter(), data))
        if data.endswith(b"0\r\n\r\n") and self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, well or not."""
        if not self.done.done():
            self.done.set_result(exc)

    def seen(self, events: int) -> Seen:
        """When the tokens came, and how many of `events` did not."""
        arrivals: list[float] = []
        rest = b""
        for at_s, data in self._pieces:
            rest += data
            for match in _TOKEN.finditer(rest):
                if int(match[1]) == len(arrivals):
                    arrivals.append(at_s)
            rest = rest[-8:]
        first = [(at_s - self._start) * 1000 for at_s in arrivals[:1]]
        gaps = [(b - a) * 1000 for a, b in pairwise(arrivals)]
        return Seen(first, gaps, events - len(arrivals))


async def play(contender: Contender, streams: int, events: int, gap_ms: int) -> Seen:
    """Open so many streams within a second and read each to its end."""
    text = f"events={events} gap_ms={gap_ms}"
    sent = wire.request(contender.port, wire.body(text, stream=True), contender.headers)
    chance = random.Random(streams)
    loop = asyncio.get_running_loop()

    async def one(wait_s: float) -> Seen:
        await asyncio.sleep(wait_s)
        _, client = await loop.create_connection(lambda: Client(sent), "127.0.0.1", contender.port)
        await client.done
        return client.seen(events)

    spread_s = _SPREAD_S if gap_ms else 0.0
    found = await asyncio.gather(*(one(chance.uniform(0, spread_s)) for _ in range(streams)))
    return Seen(
        [ms for seen in found for ms in seen.first_ms],
        [ms for seen in found for ms in seen.gaps_ms],
        sum(seen.lost for seen in found),
    )


def stream(options: Options) -> list[Verdict]:
    """First token one by one; then 1 to 200 streams at once; then as fast as it goes."""
    first: dict[str, list[float]] = defaultdict(list)
    gaps: dict[int, dict[str, list[float]]] = {n: defaultdict(list) for n in STREAMS}
    many_first: dict[int, dict[str, list[float]]] = {n: defaultdict(list) for n in STREAMS}
    lost: dict[str, int] = defaultdict(int)
    rates: dict[str, list[float]] = defaultdict(list)
    events = max(2, round(options.seconds * 1000 / GAP_MS))
    sent_body = wire.body("events=3 gap_ms=1", stream=True)
    with running(options.names, options.folder, options.peers) as contenders:
        for contender in turns(contenders, options.rounds):
            name = contender.name
            sent = wire.request(contender.port, sent_body, contender.headers)
            with wire.Line(contender.port) as line:
                asks = [line.time_token(sent) for _ in range(options.count or _ASKS)]
            first[name].append(median(asks))
            for n in STREAMS:
                seen = asyncio.run(play(contender, n, events, GAP_MS))
                gaps[n][name].append(percentile(seen.gaps_ms))
                many_first[n][name].append(percentile(seen.first_ms))
                lost[name] += seen.lost
            start = time.perf_counter()
            seen = asyncio.run(play(contender, 8, 50 * events, 0))
            rates[name].append(8 * 50 * events / (time.perf_counter() - start))
            lost[name] += seen.lost
    rows = [
        (
            name,
            f"{median(first[name]):.2f}",
            *(f"{median(many_first[n][name]):.0f} / {median(gaps[n][name]):.0f}" for n in STREAMS),
            f"{median(rates[name]):,.0f}/s",
            lost[name],
        )
        for name in options.names
    ]
    show(
        f"Streams, {1000 // GAP_MS} events a second each (medians of {options.rounds} rounds; "
        "ms; of many streams: p99 of first token / p99 gap)",
        ("", "first token", *(f"{n} at once" for n in STREAMS), "all at once", "lost"),
        rows,
    )
    if not {DIRECT, SERVE} <= set(options.names):
        return []
    added = [a - b for a, b in zip(first[SERVE], first[DIRECT], strict=True)]
    gap = [a - b for a, b in zip(gaps[100][SERVE], gaps[100][DIRECT], strict=True)]
    return [
        Verdict("first token, added over direct, p50", median(added), 2.0, "ms"),
        Verdict("100 streams: events lost", float(lost[SERVE]), 0.0, "events"),
        Verdict("100 streams: p99 gap over direct", median(gap), 25.0, "ms"),
    ]

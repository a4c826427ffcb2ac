"""``memory``: what a contender holds at its start, after many requests, and with open streams."""

from __future__ import annotations

import asyncio

from tests.bench import load, wire
from tests.bench.contenders import DIRECT, SERVE, Contender, running
from tests.bench.options import Options
from tests.bench.report import Verdict, show
from tests.bench.streams import play

REQUESTS = 50_000
STREAMS = 200
_MB = 1 << 20
_KB = 1 << 10
_SLICE_S = 10.0


def memory(options: Options) -> list[Verdict]:
    """Resident memory; one contender after the other, as none is timed."""
    count = options.count or REQUESTS
    streams = min(STREAMS, count)
    rows = []
    verdicts: list[Verdict] = []
    names = [name for name in options.names if name != DIRECT]
    with running(names, options.folder, options.peers) as contenders:
        for contender in contenders:
            idle = contender.rss_bytes()
            _ask(contender, count, min(_SLICE_S, options.seconds))
            after = contender.rss_bytes()
            open_ = asyncio.run(_with_streams(contender, streams, options.seconds))
            each = (open_ - after) / streams
            rows.append(
                (
                    contender.name,
                    f"{idle / _MB:.1f} MB",
                    f"{(after - idle) / _MB:+.1f} MB",
                    f"{open_ / _MB:.1f} MB",
                    f"{each / _KB:.0f} KB",
                )
            )
            if contender.name == SERVE:
                verdicts = [
                    Verdict("memory at start", idle / _MB, 100, "MB"),
                    Verdict(f"growth after {count:,} requests", (after - idle) / _MB, 10, "MB"),
                    Verdict("memory of an open stream", each / _KB, 400, "KB"),
                ]
    heads = ("", "at start", f"{count:,} requests", f"{streams} open streams", "each")
    show("Resident memory", heads, rows)
    return verdicts


def _ask(contender: Contender, count: int, slice_s: float) -> None:
    left = count
    while left > 0:
        left -= load.run(contender, connections=8, seconds=slice_s, content=wire.body()).requests


async def _with_streams(contender: Contender, streams: int, seconds: float) -> int:
    """The resident memory while so many streams are under way."""
    events = max(8, round(seconds * 4))
    playing = asyncio.create_task(play(contender, streams, events, 500))
    await asyncio.sleep(events * 0.5 / 2)
    held = await asyncio.to_thread(contender.rss_bytes)
    seen = await playing
    if seen.lost:
        raise RuntimeError(f"{contender.name} has lost {seen.lost} events")
    return held

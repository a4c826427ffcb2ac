"""``stall``: which callbacks hold the event loop for long, under every kind of load at once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import streams, wire
from tests.bench.contenders import MODELS, SERVE, Contender, config_file
from tests.bench.options import Options
from tests.bench.process import Plan, free_port, server, upstream, wait_for_answer
from tests.bench.report import Verdict, show
from tests.bench.watched import LONG_S

_BODY_BYTES = (200 << 10, 1_500_000, 8 << 20)
_PAGES = ("/health", "/v1/models", "/providers", "/v1/requests", "/v1/stats?group_by=model")


def stall(options: Options) -> list[Verdict]:
    """Callbacks over 20 ms of the loop's own time, and calls on its thread that may block."""
    seen = watch(options.folder, options.seconds, _BODY_BYTES)
    rows = [
        ("callbacks", f"{seen['callbacks']:,}"),
        (f"over {LONG_S * 1000:.0f} ms of thread time", len(seen["long"])),
        *((f"  {what[:100]}", f"{took * 1000:.1f} ms") for took, what in seen["long"][:10]),
        ("calls that may block, on the loop's thread", sum(seen["blocking"].values())),
        *((f"  {what[:100]}", count) for what, count in list(seen["blocking"].items())[:10]),
        *((f"  {what}", f"{count:,}") for what, count in seen["elsewhere"].items()),
    ]
    show(f"{SERVE} under a mixed load for {options.seconds:g} s", ("", ""), rows)
    return [
        Verdict("callbacks over 20 ms", len(seen["long"]), 0, ""),
        Verdict("calls that may block", sum(seen["blocking"].values()), 0, ""),
    ]


def watch(
    folder: Path, seconds: float, body_bytes: tuple[int, ...], *, host: str = "127.0.0.1"
) -> dict[str, Any]:
    """Run a mixed load on a watched ``arbstr serve``; what `watched` has seen.

    `host`: how the config calls the upstream.
    """
    report = folder / "watched.json"
    with upstream() as target:
        port = free_port()
        config = config_file(port, target, folder, host)
        words = ("serve", "--config", str(config))
        plan = Plan((sys.executable, "-m", "tests.bench.watched", str(report), *words))
        with server(plan, folder) as process:
            wait_for_answer(process, port, plan, folder)
            contender = Contender(SERVE, port, {}, process.pid, folder)
            asyncio.run(_mixed(contender, 0.0, body_bytes))  # the first of each kind
            process.send_signal(signal.SIGUSR2)
            asyncio.run(_mixed(contender, seconds, body_bytes))
            _end(process)
    seen: dict[str, Any] = json.loads(report.read_text())
    return seen


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


async def _mixed(contender: Contender, seconds: float, body_bytes: tuple[int, ...]) -> None:
    """Plain answers, streams, large bodies and pages of our own, all at once."""
    end = time.monotonic() + seconds
    chores: list[Callable[[], object]] = [
        lambda: _ask(contender, wire.body()),
        lambda: _ask(contender, wire.body(f"Write code with {MODELS[1]}")),
        *(lambda size=size: _ask(contender, wire.body(filler_bytes=size)) for size in body_bytes),
        *(lambda page=page: _get(contender, page) for page in _PAGES),
    ]

    async def repeat(chore: Callable[[], object]) -> None:
        await asyncio.to_thread(chore)
        while time.monotonic() < end:
            await asyncio.to_thread(chore)

    async def stream() -> None:
        await streams.play(contender, 5, 20, 20)
        while time.monotonic() < end:
            await streams.play(contender, 20, 20, 20)

    await asyncio.gather(stream(), *map(repeat, chores))


def _ask(contender: Contender, content: bytes) -> None:
    with wire.Line(contender.port) as line:
        line.ask(wire.request(contender.port, content))


def _get(contender: Contender, page: str) -> None:
    url = f"http://127.0.0.1:{contender.port}{page}"
    with urllib.request.urlopen(url) as answer:
        answer.read()

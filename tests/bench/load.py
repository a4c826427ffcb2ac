"""Many requests at once: wrk where it is installed, else an asyncio generator of our own.

Whatever makes the load must not be the bottleneck. wrk (C, one thread) asks some 80,000 times a
second here; the one of our own some 10,000 times, which is far from what a proxy answers too.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import wire
from tests.bench.contenders import Contender

_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. `p50_ms`, `p99_ms`: of the whole answers."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def generator() -> str:
    """The name of what makes the load."""
    if shutil.which("wrk") is None:
        return "asyncio generator (wrk is not installed)"
    done = subprocess.run(["wrk", "-v"], check=False, capture_output=True, text=True)
    return " ".join(done.stdout.split()[:2])


def run(contender: Contender, *, connections: int, seconds: float, content: bytes) -> Load:
    """Ask over and over on so many connections. Raises RuntimeError for any answer but a 200."""
    if shutil.which("wrk") is None or seconds < 1:
        return asyncio.run(_own(contender, connections, seconds, content))
    return _wrk(contender, connections, seconds, content)


def _wrk(contender: Contender, connections: int, seconds: float, content: bytes) -> Load:
    headers = {
        "User-Agent": "arbstr-bench/1",
        "Content-Type": "application/json",
        "Authorization": "Bearer sk-client",
        **contender.headers,
    }
    lines = [f'wrk.method = "POST"\nwrk.body = {_lua(content.decode())}\n']
    lines += [f"wrk.headers[{_lua(name)}] = {_lua(value)}\n" for name, value in headers.items()]
    with tempfile.TemporaryDirectory(prefix="arbstr-wrk-") as folder:
        script = Path(folder) / "post.lua"
        script.write_text("".join(lines))
        url = f"http://127.0.0.1:{contender.port}{wire.PATH}"
        command = [
            "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency",
            "-s", str(script), url,
        ]  # fmt: skip
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(f"{contender.name} does not answer:\n{out}")
    return _read(out)


def _read(out: str) -> Load:
    """Read what wrk prints."""
    done = re.search(r"(\d+) requests in ([\d.]+)(\w+),", out)
    latencies = {
        int(percent): float(value) * _UNITS_MS[unit]
        for percent, value, unit in re.findall(
            r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)$", out, re.MULTILINE
        )
    }
    if done is None:
        raise RuntimeError(f"wrk says nothing that we know:\n{out}")
    seconds = float(done[2]) * _UNITS_MS[done[3]] / 1000
    return Load(int(done[1]), seconds, latencies[50], latencies[99])


def _lua(text: str) -> str:
    """A string in Lua: JSON's escapes, where they are the same."""
    return json.dumps(text).replace("\\/", "/")


async def _own(contender: Contender, connections: int, seconds: float, content: bytes) -> Load:
    sent = wire.request(contender.port, content, contender.headers)
    start = time.perf_counter()
    end = start + seconds
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(contender, sent, end)) for _ in range(connections)]
    took = [ms for task in tasks for ms in task.result()]
    return Load(len(took), time.perf_counter() - start, statistics.median(took), percentile(took))


async def _ask(contender: Contender, sent: bytes, end: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", contender.port)
    took: list[float] = []
    while not took or time.perf_counter() < end:
        start = time.perf_counter()
        writer.write(sent)
        got = b""
        while not wire.is_whole(got):
            data = await reader.read(1 << 16)
            if not data:
                raise RuntimeError(f"{contender.name} has closed a connection")
            got += data
        if not got.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{contender.name} does not answer: {got[:300]!r}")
        took.append((time.perf_counter() - start) * 1000)
    writer.close()
    return took


def percentile(values: Sequence[float], share: float = 0.99) -> float:
    """The value that so much of `values` is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

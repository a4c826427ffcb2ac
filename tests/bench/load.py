"""Many requests at once: wrk where it is installed, else an asyncio generator of our own.

Whatever makes the load must not be the bottleneck. wrk (C, one thread) asks some 80,000 times a
second here; the one of our own some 10,000 times, which is far from what a proxy answers too.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import wire
from tests.bench.contenders import Contender

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it."""

    requests: int
    seconds: float

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
        lasting = f"-d{max(1, round(seconds))}s"
        command = ["wrk", "-t1", f"-c{connections}", lasting, "-s", str(script), url]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(f"{contender.name} does not answer:\n{out}")
    return _read(out)


def _read(out: str) -> Load:
    """Read what wrk prints."""
    done = re.search(r"(\d+) requests in ([\d.]+)(\w+),", out)
    if done is None:
        raise RuntimeError(f"wrk says nothing that we know:\n{out}")
    return Load(int(done[1]), float(done[2]) * _UNITS_S[done[3]])


def _lua(text: str) -> str:
    """A string in Lua: JSON's escapes, where they are the same."""
    return json.dumps(text).replace("\\/", "/")


async def _own(contender: Contender, connections: int, seconds: float, content: bytes) -> Load:
    sent = wire.request(contender.port, content, contender.headers)
    start = time.perf_counter()
    end = start + seconds
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(contender, sent, end)) for _ in range(connections)]
    return Load(sum(task.result() for task in tasks), time.perf_counter() - start)


async def _ask(contender: Contender, sent: bytes, end: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", contender.port)
    answers = 0
    while not answers or time.perf_counter() < end:
        writer.write(sent)
        got = b""
        while not wire.is_whole(got):
            data = await reader.read(1 << 16)
            if not data:
                raise RuntimeError(f"{contender.name} has closed a connection")
            got += data
        if not got.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{contender.name} does not answer: {got[:300]!r}")
        answers += 1
    writer.close()
    return answers


def percentile(values: Sequence[float], share: float = 0.99) -> float:
    """The value that so much of `values` is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

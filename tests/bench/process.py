"""Servers as processes of their own: their start, their memory, their end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import wire

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 15.0
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is started. `headers`: what its clients must send."""

    command: Sequence[str]
    headers: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def upstream() -> Iterator[int]:
    """The upstream while the block runs; its port."""
    command = [sys.executable, "-m", "tests.bench.upstream"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield int(process.stdout.readline())
        process.stdin.close()


@contextmanager
def server(plan: Plan, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process while the block runs, its home and its log in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ARBSTR_")}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            plan.command,
            cwd=ROOT,
            env={**kept, "HOME": str(folder), **plan.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_answer(process: subprocess.Popen[bytes], port: int, plan: Plan, folder: Path) -> None:
    """Return once a request to `port` is answered. Raises RuntimeError if none is."""
    end = time.monotonic() + START_S
    why: Exception | None = None
    while time.monotonic() < end and process.poll() is None:
        try:
            wire.check_answer(port, plan.headers)
        except (OSError, wire.NoAnswerError) as error:
            why = error
            time.sleep(_POLL_S)
        else:
            return
    log = (folder / "log").read_text(errors="replace")[-3000:]
    raise RuntimeError(f"no answer from {plan.command} ({why}):\n{log}")


def rss_bytes(pid: int) -> int:
    """The resident memory of process `pid`."""
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(out) * 1024

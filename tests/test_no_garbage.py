"""A request leaves nothing behind that only the garbage collector can find.

It did once, some hundred objects a request, and collecting them was a tenth of the proxy's time.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.bench import wire
from tests.bench.contenders import config_file
from tests.bench.process import Plan, free_port, server, upstream, wait_for_answer
from tests.running import eventually

REQUESTS = 50


@pytest.mark.parametrize("stream", [False, True])
def test_requests_leave_no_cycles(tmp_path: Path, stream: bool) -> None:
    report = tmp_path / "report"
    text = "events=5 gap_ms=1" if stream else wire.TEXT
    with upstream() as target:
        port = free_port()
        config = str(config_file(port, target, tmp_path))
        plan = Plan(
            (sys.executable, "-m", "tests.garbage", str(report), "serve", "--config", config)
        )
        asked = wire.request(port, wire.body(text, stream=stream))
        with server(plan, tmp_path) as process:
            wait_for_answer(process, port, plan, tmp_path)
            with wire.Line(port) as line:
                for _ in range(5):
                    line.ask(asked)
                process.send_signal(signal.SIGUSR1)
                for _ in range(REQUESTS):
                    line.ask(asked)
                process.send_signal(signal.SIGUSR2)
                eventually(lambda: report.exists() and report.read_text() != "")
    assert int(report.read_text()) < REQUESTS

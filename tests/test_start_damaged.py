"""A ledger in trouble does not keep arbstr from starting.

mitmproxy ends a program that logs an error while it starts, so what is survived must not be one.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from tests.bench import wire
from tests.running import Running, eventually, running

LEDGER = "arbstr.db"
CONFIG = f"""
[database]
path = "{LEDGER}"
[[providers]]
name = "mock"
url = "http://127.0.0.1:9/v1"
"""


def ask(arbstr: Running) -> None:
    """One request, answered."""
    port = int(arbstr.url.rpartition(":")[2])
    with wire.Line(port) as line:
        line.ask(wire.request(port, wire.body()))


def ledger(folder: Path) -> Path:
    """Where the ledger of a config in `folder` is, in mock mode."""
    with running(folder, CONFIG, mock=True) as arbstr:
        return arbstr.ledger_path


def test_a_corrupt_ledger_is_set_aside(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    path.write_bytes(os.urandom(40_000))
    with running(tmp_path, CONFIG, mock=True) as arbstr:
        ask(arbstr)
        eventually(lambda: [row["outcome"] for row in arbstr.requests()] == ["ok"])
        assert "is corrupt; it is now" in arbstr.log


def test_a_locked_ledger_is_waited_for(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    with sqlite3.connect(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with running(tmp_path, CONFIG, mock=True) as arbstr:
            ask(arbstr)
            eventually(lambda: not arbstr.get("/health")["ledger"]["ok"])
            other.rollback()
            eventually(lambda: [row["outcome"] for row in arbstr.requests()] == ["ok"])
    other.close()

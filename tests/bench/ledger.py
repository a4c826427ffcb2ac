"""``ledger``: what a large ledger's figures cost, and whether asking for them slows requests."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median

from tests.bench import wire
from tests.bench.contenders import ARBSTR, SERVE, Contender, config_file, started
from tests.bench.load import percentile
from tests.bench.options import Options
from tests.bench.process import ROOT, upstream
from tests.bench.report import Verdict, show

ROWS, DAYS = 1_000_000, 90
PER_SECOND = 50
_STATS = "/v1/stats?range=last_30d&group_by=model"


def ledger(options: Options) -> list[Verdict]:
    """Make the ledger, ask for 30 days, then ask over and over while requests come in."""
    folder = options.folder / SERVE.replace(" ", "_")
    folder.mkdir(parents=True)
    path = folder / "ledger.db"
    count = options.count or ROWS
    made_s = _make(path, count)
    config = config_file(1, 1, folder)
    scan_s = median(_scan_s(path) for _ in range(options.rounds))
    costs_s = median(_costs_s(config) for _ in range(options.rounds))
    with upstream() as target, started(SERVE, target, folder) as contender:
        stats_s = median(_stats_s(contender) for _ in range(options.rounds))
        calm: list[float] = []
        asked: list[float] = []
        for _ in range(options.rounds):
            calm.append(percentile(_paced(contender, options.seconds)))
            asked.append(_while_asking(contender, options.seconds))
    rows = [
        (f"make {count:,} rows over {DAYS} days", f"{made_s:.1f} s"),
        ("bare SELECT count(*) of all rows", f"{scan_s:.3f} s"),
        ("arbstr costs --since 30d --by model", f"{costs_s:.3f} s"),
        (f"GET {_STATS}", f"{stats_s:.3f} s"),
        (f"p99 of requests, {PER_SECOND} a second", f"{median(calm):.2f} ms"),
        ("the same while that is asked in a loop", f"{median(asked):.2f} ms"),
    ]
    show(f"Ledger (medians of {options.rounds} rounds)", ("", "took"), rows)
    return [
        Verdict("arbstr costs, 30 days", costs_s, 0.5, "s"),
        Verdict("/v1/stats, 30 days", stats_s, 0.5, "s"),
        Verdict("p99 while stats are asked", median(map(_over, asked, calm)), 3.0),
    ]


def _over(value: float, other: float) -> float:
    return value / other


def _make(path: Path, count: int) -> float:
    began = time.perf_counter()
    script = str(ROOT / "scripts" / "make_ledger.py")
    command = [sys.executable, script, str(path), "--rows", str(count), "--days", str(DAYS)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _scan_s(path: Path) -> float:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    began = time.perf_counter()
    connection.execute("SELECT count(*) FROM request_rows NOT INDEXED WHERE +latency_ms").fetchone()
    took_s = time.perf_counter() - began
    connection.close()
    return took_s


def _costs_s(config: Path) -> float:
    words = ("costs", "--config", str(config), "--since", "30d", "--by", "model")
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", ARBSTR, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def _stats_s(contender: Contender) -> float:
    began = time.perf_counter()
    url = f"http://127.0.0.1:{contender.port}{_STATS}"
    with urllib.request.urlopen(url) as answer:
        answer.read()
    return time.perf_counter() - began


def _paced(contender: Contender, seconds: float) -> list[float]:
    """The times of requests that come at a steady pace, in ms, from when each was due."""
    took: list[float] = []
    with wire.Line(contender.port) as line:
        sent = wire.request(contender.port, wire.body(), contender.headers)
        line.ask(sent)
        start = time.perf_counter()
        for number in range(max(2, round(seconds * PER_SECOND))):
            due = start + number / PER_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            line.ask(sent)
            took.append((time.perf_counter() - due) * 1000)
    return took


def _while_asking(contender: Contender, seconds: float) -> float:
    """The p99 of `_paced` while the figures are asked for without a pause."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            _stats_s(contender)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        return percentile(_paced(contender, seconds))
    finally:
        over.set()
        asking.join()

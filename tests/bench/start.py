"""``start``: from a process's start to its first answer; commands that do not proxy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from statistics import median

from tests.bench.contenders import ARBSTR, DIRECT, SERVE, config_file, started
from tests.bench.options import Options
from tests.bench.process import ROOT, upstream
from tests.bench.report import Verdict, show

_COMMAND_S = 0.25


def start(options: Options) -> list[Verdict]:
    """Medians over the rounds, after one start that nobody times (certificates, byte code)."""
    ready: dict[str, list[float]] = defaultdict(list)
    names = [name for name in options.names if name != DIRECT]
    with upstream() as target:
        for number in range(options.rounds + 1):
            for name in names:
                began = time.perf_counter()
                with started(name, target, options.folder / name.replace(" ", "_"), options.peers):
                    took = time.perf_counter() - began
                if number:
                    ready[name].append(took)
    rows = [(name, f"{median(ready[name]):.2f} s") for name in names]
    took_s, verdicts = _commands(options)
    rows += [(name, f"{median(found):.3f} s") for name, found in took_s.items()]
    show(f"Start to the first answer; commands (medians of {options.rounds})", ("", "took"), rows)
    return verdicts


def _commands(options: Options) -> tuple[dict[str, list[float]], list[Verdict]]:
    """`arbstr costs` reads the ledger that `arbstr serve` has just written."""
    config = options.folder / SERVE.replace(" ", "_") / "config.toml"
    if not config.exists():
        config.parent.mkdir(parents=True, exist_ok=True)
        config_file(1, 1, config.parent)
    commands = {
        "python -c pass": ("pass",),
        "arbstr --help": (ARBSTR, "--help"),
        "arbstr costs": (ARBSTR, "costs", "--config", str(config)),
    }
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for name, words in commands.items():
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
            took[name].append(time.perf_counter() - began)
    bars = [
        Verdict(name, median(took[name]), _COMMAND_S, "s")
        for name in ("arbstr --help", "arbstr costs")
    ]
    return took, bars

"""What a benchmark prints: the machine, a table, and each bar with what was measured."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tabulate import tabulate

from tests.bench import load

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar and how it came out. `at_least`: the value must not be below the limit."""

    measure: str
    value: float
    limit: float
    unit: str = TIMES
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> tuple[str, str, str, str]:
        """For the table of bars."""
        sign = "≥" if self.at_least else "≤"
        return (
            self.measure,
            f"{sign} {self.limit:g} {self.unit}",
            f"{self.value:.3g} {self.unit}" if self.value < 1000 else f"{self.value:,.0f}",
            "met" if self.met else "MISSED",
        )


def machine(peers: Mapping[str, str]) -> str:
    """What it was measured on."""
    load_average = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    parts = [
        f"{os.cpu_count()} cores, {_cpu()}, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, mitmproxy {version('mitmproxy')}",
        f"load by {load.generator()}; load average before: {load_average}",
    ]
    if peers:
        parts.append(", ".join(f"{name} {number}" for name, number in peers.items()))
    return "\n".join(parts)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def show(title: str, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print one table."""
    print(f"\n{title}")
    right = ["left", *["right"] * (len(headers) - 1)]
    print(tabulate(list(rows), headers=headers, colalign=right, disable_numparse=True))
    sys.stdout.flush()


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print every bar."""
    if verdicts:
        print()
        headers = ("bar", "asked", "measured", "")
        print(tabulate([v.row() for v in verdicts], headers=headers, disable_numparse=True))

"""Runs every check in turn until the time is up, and counts."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzzing.inside import CHECKS, check_config
from tests.fuzzing.live import CONFIG, Target, live_checks
from tests.running import running

type Check = Callable[[st.DataObject], None]


@dataclass
class Report:
    """What a run has come to. `cases`: by kind. `failures`: each as a text to reproduce it with."""

    seconds: float = 0.0
    cases: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    rows: int = 0

    def lines(self) -> list[tuple[str, object]]:
        """For a table."""
        return [
            *self.cases.items(),
            ("all cases", sum(self.cases.values())),
            *((f"answers with {status}", n) for status, n in sorted(self.statuses.items())),
            ("rows in the ledger", self.rows),
            ("seconds", round(self.seconds)),
            ("failures", len(self.failures)),
        ]


def fuzz(seconds: float, start: int, *, examples: int = 100, most_failures: int = 5) -> Report:
    """Fuzz for so long, and every kind once at least.

    `start`: the seed. `examples`: of one kind, before the next has its turn.

    Raises RuntimeError where arbstr does not start.
    """
    report = Report()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="arbstr-fuzz-") as folder,
        running(Path(folder), CONFIG, mock=True) as arbstr,
    ):
        target = Target(arbstr)
        live = live_checks(target)
        checks: Mapping[str, Check] = {
            **CHECKS,
            "configs": partial(_config, Path(folder)),
            **live,
        }
        rounds = 0
        while not rounds or (
            time.monotonic() < began + seconds and len(report.failures) < most_failures
        ):
            for name, check in checks.items():
                _run(name, check, random.Random(f"{start}-{rounds}-{name}"), examples, report)
                if name in live:
                    _settle(target, name, report)
            rounds += 1
        report.statuses = dict(target.statuses)
        report.rows = len(arbstr.requests())
    report.seconds = time.monotonic() - began
    return report


def _config(folder: Path, data: st.DataObject) -> None:
    fuzzed = folder / "fuzzed"
    fuzzed.mkdir(exist_ok=True)
    check_config(data, fuzzed)


def _run(name: str, check: Check, chance: random.Random, examples: int, report: Report) -> None:
    def case(data: st.DataObject) -> None:
        report.cases[name] = report.cases.get(name, 0) + 1
        check(data)

    limits = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    try:
        seed(chance.getrandbits(64))(limits(given(st.data())(case)))()
    except Exception:  # noqa: BLE001 - whatever it is, it is a failure and is reported
        report.failures.append(f"{name}:\n{traceback.format_exc(limit=-8)}")


def _settle(target: Target, name: str, report: Report) -> None:
    try:
        target.settle()
    except Exception:  # noqa: BLE001 - the same
        report.failures.append(f"after {name}:\n{traceback.format_exc(limit=-4)}")

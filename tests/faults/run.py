"""The fault suite on the command line: a table, and exit 1 if a row is not as design.md says."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from tests.faults import soak, suite
from tests.faults.model import Result


def main(argv: Sequence[str] | None = None) -> int:
    """Play what is asked for; 0 if all is well."""
    options = _parser().parse_args(argv)
    plan = suite.whole_plan()
    if options.only is not None:
        plan = plan.only(suite.matching(options.only))
    if options.list:
        print(*plan.names(), sep="\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="arbstr-faults-") as folder:
        if options.soak is not None:
            return _soak(options.soak, options.clients, options.seed, Path(folder))
        started = time.monotonic()
        results = asyncio.run(suite.play(plan, Path(folder)))
    return _report(results, time.monotonic() - started, verbose=options.verbose)


def _report(results: Sequence[Result], seconds: float, *, verbose: bool) -> int:
    rows = [(r.name, r.saw, r.attempts, r.outcome, "ok" if r.ok else "NOT OK") for r in results]
    print(tabulate(rows, headers=("case", "client saw", "attempts", "ledger outcome", "ok")))
    wrong = [result for result in results if not result.ok]
    for result in wrong:
        print(f"\nNOT OK: {result.name} ({result.group})")
        print(*(f"  {problem}" for problem in result.problems), sep="\n")
        if verbose and result.wire:
            print(*(f"    {line}" for line in result.wire.splitlines()), sep="\n")
    print(f"\n{len(results)} rows, {len(wrong)} not ok, {seconds:.0f} s")
    return 1 if wrong else 0


def _soak(seconds: float, clients: int, seed: int, folder: Path) -> int:
    report = asyncio.run(soak.play(seconds, clients, seed, folder))
    print(tabulate(report.lines(), headers=("soak", "")))
    print(*(f"NOT OK: {problem}" for problem in report.problems), sep="\n")
    return 1 if report.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/faults.py",
        description="A misbehaving upstream, arbstr in front of it, the official client behind.",
    )
    parser.add_argument("--only", metavar="PATTERN", help="rows whose name holds this glob")
    parser.add_argument("--verbose", action="store_true", help="wire bytes of rows that are not ok")
    parser.add_argument("--list", action="store_true", help="print the rows' names and stop")
    parser.add_argument("--soak", metavar="SECONDS", type=float, help="random faults for so long")
    parser.add_argument("--clients", type=int, default=50, help="of the soak (default: 50)")
    parser.add_argument("--seed", type=int, default=1, help="of the soak's chances (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Fuzz arbstr: bodies, events, model lists, configs, queries, HTTP heads. `--help` says how.

Prints what was tried and every failure with what reproduces it; exit 1 if there was one.
"""

import argparse
import random
import sys
from pathlib import Path

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.fuzzing.run import fuzz


def main() -> int:
    """Fuzz; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz.py", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long (60)")
    parser.add_argument("--seed", type=int, metavar="N", help="to do the same again")
    options = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    print(f"seed {seed}")
    report = fuzz(options.seconds, seed)
    print(*report.failures, sep="\n")
    print(tabulate(report.lines()))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

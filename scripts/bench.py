"""Run a benchmark; `--help` says which. They live in tests/bench, so that pytest runs them too."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
runpy.run_module("tests.bench.run", run_name="__main__")

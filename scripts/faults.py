"""Run the fault suite; `--help` says how. It lives in tests/faults, so that pytest runs it too."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
runpy.run_module("tests.faults.run", run_name="__main__")

#!/usr/bin/env python3
"""What was spent and saved: `arbstr costs`, from a checkout; takes the same arguments."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("msgspec", "peewee", "tabulate")


def main() -> int:
    """Run `arbstr costs` with this Python, or with the checkout's own where this one cannot."""
    own = ROOT / ".venv" / "bin" / "python"
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        if own.exists() and Path(sys.prefix) != ROOT / ".venv":
            os.execv(own, [str(own), __file__, *sys.argv[1:]])  # noqa: S606 - no shell is the point
        sys.stderr.write("scripts/costs.py: run scripts/run once, which installs what is needed\n")
        return 1
    sys.path.insert(0, str(ROOT))
    from arbstr.cli import main as arbstr  # noqa: PLC0415 - only where it can be imported

    return arbstr(["costs", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())

"""arbstr that counts its garbage: ``python -m tests.garbage REPORT serve …``.

On SIGUSR1 it collects what there is and stops collecting; on SIGUSR2 it writes to REPORT how many
objects nobody could reach any more, though reference counts had not freed them.
"""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path

from arbstr.cli import main


def run(report: Path, words: list[str]) -> int:
    """Run ``arbstr`` with `words`."""

    def begin(*_: object) -> None:
        gc.collect()
        gc.disable()

    def end(*_: object) -> None:
        report.write_text(str(gc.collect()))

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    return main(words)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))

"""A progress bar for work that takes a while; only where a person watches."""

from __future__ import annotations

import sys
import time

_WIDTH = 30
_EVERY_S = 0.1


class Bar:
    """One line on standard error, drawn over and over, and gone in the end."""

    def __init__(self, what: str) -> None:
        """`what`: what is being done."""
        self._what = what
        self._drawn_s = 0.0
        self._shown = sys.stderr.isatty()

    def __call__(self, done: int, of: int) -> None:
        """Draw how far it is."""
        now_s = time.monotonic()
        if not self._shown or now_s - self._drawn_s < _EVERY_S:
            return
        self._drawn_s = now_s
        full = _WIDTH * done // max(1, of)
        bar = "#" * full + "." * (_WIDTH - full)
        sys.stderr.write(f"\r{self._what} [{bar}] {100 * done // max(1, of):3} %")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn_s:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

"""How the writer's thread is woken."""

from __future__ import annotations

import contextlib
import threading


class Bell:
    """Wakes the one thread that waits for it; a ring that nobody waits for is heard later.

    A bare lock that whoever rings lets go: a `threading.Condition` is written in Python, and takes
    several times as long on both sides, with the interpreter's lock in hand.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake the thread, or have its next `wait` return at once."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self._silence.release()

    def wait(self, timeout_s: float) -> None:
        """Return at the next ring; after `timeout_s` all the same."""
        self._silence.acquire(timeout=timeout_s)

"""The gate: the end of an answer waits for its row to be committed, but not for ever."""

from __future__ import annotations

import asyncio
from collections import deque

COMMIT_WAIT_S = 1.0
"""How long an answer waits for its row. After that it goes, and the row stays queued."""


class Gate:
    """Answers that wait, in the order in which they came. Lives on the event loop.

    One timer sees to all of them: each would else have one of its own, to be cancelled a
    millisecond later.
    """

    def __init__(self) -> None:
        self._landed: deque[asyncio.Future[None]] = deque()
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def shut(self) -> asyncio.Future[None]:
        """A future that is done once `land` was called with it, or after `COMMIT_WAIT_S`."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append((loop.time() + COMMIT_WAIT_S, written))
        if self._timer is None:
            self._timer = loop.call_later(COMMIT_WAIT_S, self._look)
        return written

    def land(self, written: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> None:
        """The row is there. Called on the ledger's thread; to wake the loop once is enough."""
        self._landed.append(written)
        if len(self._landed) == 1:
            loop.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        while self._landed:
            _resolve(self._landed.popleft())

    def _look(self) -> None:
        """Let go of those that have waited for too long; come again for the next one."""
        loop = asyncio.get_running_loop()
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= loop.time()):
            _resolve(self._waiting.popleft()[1])
        self._timer = None
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._look)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

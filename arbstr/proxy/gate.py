"""The gate: the end of an answer waits for its row to be committed, but not for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator

COMMIT_WAIT_S = 1.0
"""How long an answer waits for its row. After that it goes, and the row stays queued."""


class Landing:
    """One row on its way. Like a future, but who waits is called at once, not a turn later."""

    __slots__ = ("_calls", "_is_there")

    def __init__(self) -> None:
        self._is_there = False
        self._calls: list[Callable[[Landing], object]] = []

    def done(self) -> bool:
        """Whether it is waited for no longer."""
        return self._is_there

    def add_done_callback(self, call: Callable[[Landing], object]) -> None:
        """Have `call` called; it is not there yet."""
        self._calls.append(call)

    def land(self) -> None:
        """It is there, or will not be in time."""
        self._is_there = True
        calls, self._calls = self._calls, []
        for call in calls:
            call(self)

    def __await__(self) -> Generator[object, None, None]:
        """For whoever has only ``await``: mitmproxy's own handlers."""
        if not self._is_there:
            there = asyncio.Event()
            self.add_done_callback(lambda _: there.set())
            yield from there.wait().__await__()


class Gate:
    """Answers that wait, in the order in which they came. Lives on the event loop.

    One timer sees to all of them: each would else have one of its own, to be cancelled a
    millisecond later.
    """

    def __init__(self) -> None:
        self._landed: deque[Landing] = deque()
        self._waiting: deque[tuple[float, Landing]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def shut(self) -> Landing:
        """What is there once `land` was called with it, or after `COMMIT_WAIT_S`."""
        loop = asyncio.get_running_loop()
        landing = Landing()
        self._waiting.append((loop.time() + COMMIT_WAIT_S, landing))
        if self._timer is None:
            self._timer = loop.call_later(COMMIT_WAIT_S, self._look)
        return landing

    def land(self, landing: Landing, loop: asyncio.AbstractEventLoop) -> None:
        """The row is there. Called on the ledger's thread; to wake the loop once is enough."""
        self._landed.append(landing)
        if len(self._landed) == 1:
            loop.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        while self._landed:
            _land(self._landed.popleft())

    def _look(self) -> None:
        """Let go of those that have waited for too long; come again for the next one."""
        loop = asyncio.get_running_loop()
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= loop.time()):
            _land(self._waiting.popleft()[1])
        self._timer = None
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._look)


def _land(landing: Landing) -> None:
    if not landing.done():
        landing.land()

"""The bell that wakes the writer's thread."""

from __future__ import annotations

import threading

from arbstr.ledger.bell import Bell
from tests.ledger_kit import LIMIT_S


def waiter(bell: Bell) -> threading.Thread:
    thread = threading.Thread(target=bell.wait, args=(10 * LIMIT_S,), daemon=True)
    thread.start()
    return thread


def test_a_ring_wakes_who_waits() -> None:
    bell = Bell()
    thread = waiter(bell)
    bell.ring()
    thread.join(LIMIT_S)
    assert not thread.is_alive()


def test_a_ring_that_nobody_waits_for_is_heard_later_and_only_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    waiter(bell).join(LIMIT_S)
    second = waiter(bell)
    second.join(0.05)
    assert second.is_alive()
    bell.ring()
    second.join(LIMIT_S)
    assert not second.is_alive()

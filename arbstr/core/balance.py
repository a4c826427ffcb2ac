"""Does the balance fall by more than the rows explain?

A node reports what is left on the key with each answer. While requests overlap, a report may stand
before or after another one's charge, so only those of requests that were alone from their start to
their end are compared; what was billed in between must explain the difference. A request whose cost
nobody knows explains anything, and a balance that rises was topped up: both begin anew.
"""

from __future__ import annotations

import msgspec

TOLERANCE_MSATS = 1
"""The node's rounding, a request."""


class _Purse(msgspec.Struct):
    """One provider's key. `anchor_msats`: the last balance of a request that was alone."""

    running: int = 0
    alone: bool = False
    anchor_msats: int | None = None
    billed_msats: int = 0
    requests: int = 0
    unexplained_msats: int = 0


class BalanceWatch:
    """The balances of our own keys, by provider. Lives on the event loop."""

    def __init__(self) -> None:
        self._purses: dict[str, _Purse] = {}

    def began(self, provider: str) -> None:
        """A request may be billed from now on."""
        purse = self._purses.setdefault(provider, _Purse())
        purse.alone = purse.running == 0
        purse.running += 1

    def ended(self, provider: str, cost_msats: int | None, balance_msats: int | None) -> int:
        """Its bill is in, or never will be (None). Returns the msats that nobody can explain."""
        purse = self._purses.setdefault(provider, _Purse())
        purse.running = max(0, purse.running - 1)
        if cost_msats is None:
            purse.anchor_msats = None
            return 0
        purse.billed_msats += cost_msats
        purse.requests += 1
        if not purse.alone or purse.running or balance_msats is None:
            return 0
        missing = 0
        if purse.anchor_msats is not None:
            expected = purse.anchor_msats - purse.billed_msats
            missing = expected - balance_msats
        purse.anchor_msats, purse.billed_msats = balance_msats, 0
        allowed, purse.requests = purse.requests * TOLERANCE_MSATS, 0
        if missing <= allowed:
            return 0
        purse.unexplained_msats += missing
        return missing

    def unexplained_msats(self) -> dict[str, int]:
        """By provider, all that nobody could explain so far."""
        return {
            name: p.unexplained_msats for name, p in self._purses.items() if p.unexplained_msats
        }

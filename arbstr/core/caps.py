"""Daily caps: what was spent and what is promised, so that parallel requests cannot race past.

Before a request goes up its expected cost is reserved, after its answer the reservation is settled
with what it cost. A request fits while spent + reserved + expected stays within the cap: a day may
end above it by the forecast error of what was running, never by a further request.

A day is a UTC day: the same for all processes on one ledger, whatever their time zone, and without
the hours that a change of clocks repeats. This ledger is one process's own; the database has the
last word on what others spent and is told to it at start and every minute (`set_spent`).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

import msgspec

from arbstr.core.policy import Policies
from arbstr.core.price import sats

_DAY_MS = 86_400_000


class CapHit(msgspec.Struct, frozen=True):
    """A cap that a request does not fit under. Money in msats.

    `cap`: its place in ``config.toml``. `spent_msats`: of the day so far, `reserved_msats` the
    requests that are running; both 0 for a cap on one request. `resets_at`: ISO 8601, UTC; None for
    a cap that never resets.
    """

    cap: str
    limit_msats: int
    spent_msats: int
    reserved_msats: int
    expected_msats: int
    resets_at: str | None

    def __str__(self) -> str:
        """One sentence with the figures, for the client."""
        need = f"{sats(self.expected_msats)} sats expected"
        limit = f"{self.cap} = {sats(self.limit_msats)} sats"
        if self.resets_at is None:
            return f"{need}, over {limit}"
        spent = f"{sats(self.spent_msats)} spent"
        if self.reserved_msats:
            spent += f", {sats(self.reserved_msats)} reserved"
        return f"{need} with {spent}: over {limit}, resets {self.resets_at}"


class Reservation(msgspec.Struct, frozen=True):
    """The expected cost of one running request, held against the caps of one day."""

    id: int
    policy: str | None
    day: int
    msats: int


class _Purse(msgspec.Struct):
    """One policy's day."""

    spent_msats: int = 0
    reserved_msats: int = 0


class Caps:
    """The daily caps of all policies. Lives on the event loop; every call is told the time."""

    def __init__(self, policies: Policies) -> None:
        """Start with nothing spent."""
        self._day = 0
        self._purses: dict[str | None, _Purse] = {}
        self._open: dict[int, Reservation] = {}
        self._next_id = 1
        self.configure(policies)

    def configure(self, policies: Policies) -> None:
        """New limits from a reloaded config; what was spent and reserved stays."""
        self._limits = {
            rule.name: rule.max_msats_per_day
            for rule in policies.rules
            if rule.max_msats_per_day is not None
        }
        self._limit_of_all = policies.max_msats_per_day

    def headroom_msats(self, policy: str | None, now_ms: int) -> float:
        """What a request may cost at most; infinity without a cap, below 0 past one."""
        self._turn(day_of(now_ms))
        room = math.inf
        if policy is not None and (limit := self._limits.get(policy)) is not None:
            purse = self._purse(policy)
            room = limit - purse.spent_msats - purse.reserved_msats
        if self._limit_of_all is not None:
            room = min(room, self._limit_of_all - sum(self._all()))
        return room

    def check(self, policy: str | None, expected_msats: float, now_ms: int) -> CapHit | None:
        """The cap that `expected_msats` more would break, the policy's own first."""
        self._turn(day_of(now_ms))
        need = math.ceil(expected_msats)
        if policy is not None and (limit := self._limits.get(policy)) is not None:
            purse = self._purse(policy)
            if purse.spent_msats + purse.reserved_msats + need > limit:
                cap = f"policies.rules.{policy}.max_sats_per_day"
                return self._hit(cap, limit, purse.spent_msats, purse.reserved_msats, need)
        if (limit := self._limit_of_all) is not None:
            spent, reserved = self._all()
            if spent + reserved + need > limit:
                return self._hit("policies.max_sats_per_day", limit, spent, reserved, need)
        return None

    def reserve(
        self, policy: str | None, expected_msats: float, now_ms: int
    ) -> Reservation | CapHit:
        """Hold `expected_msats` until `settle`; refused where it does not fit."""
        if (hit := self.check(policy, expected_msats, now_ms)) is not None:
            return hit
        msats = math.ceil(expected_msats)
        reservation = Reservation(self._next_id, policy, self._day, msats)
        self._next_id += 1
        self._open[reservation.id] = reservation
        self._purse(policy).reserved_msats += msats
        return reservation

    def settle(self, reservation: Reservation, actual_msats: int | None) -> None:
        """Replace a reservation by what the request cost, all its attempts together.

        None: not known; what was expected counts as spent. 0: nothing was billed. A second call for
        the same reservation, or one after its day is over, changes nothing.
        """
        if self._open.pop(reservation.id, None) is None or reservation.day != self._day:
            return
        purse = self._purse(reservation.policy)
        purse.reserved_msats -= reservation.msats
        purse.spent_msats += reservation.msats if actual_msats is None else actual_msats

    def set_spent(self, policy: str | None, msats: int, day: int) -> None:
        """What the ledger says was spent under `policy` on `day` (as of `day_of`).

        A day's spending only grows: a figure below what is known here comes from a ledger that has
        not yet written its last rows, or does not know the cost of some, and is not believed.
        """
        self._turn(day)
        if day == self._day:
            purse = self._purse(policy)
            purse.spent_msats = max(purse.spent_msats, msats)

    def _turn(self, day: int) -> None:
        """Begin a new day with nothing spent. Requests that still run belong to the day before."""
        if day > self._day:
            self._day = day
            self._purses.clear()

    def _purse(self, policy: str | None) -> _Purse:
        return self._purses.setdefault(policy, _Purse())

    def _all(self) -> tuple[int, int]:
        purses = self._purses.values()
        return sum(p.spent_msats for p in purses), sum(p.reserved_msats for p in purses)

    def _hit(self, cap: str, limit: int, spent: int, reserved: int, expected: int) -> CapHit:
        resets = datetime.fromtimestamp((self._day + 1) * _DAY_MS / 1000, UTC)
        return CapHit(cap, limit, spent, reserved, expected, resets.strftime("%Y-%m-%dT%H:%M:%SZ"))


def day_of(now_ms: int) -> int:
    """The UTC day of a time in ms since the epoch, as days since the epoch."""
    return now_ms // _DAY_MS

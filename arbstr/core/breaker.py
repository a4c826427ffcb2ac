"""Circuit breakers, one per provider and model: who is not asked for a while, and why.

Closed until `FAILURES_TO_OPEN` failures in a row; then open for `FIRST_PROBE_S`, after which one
request goes through as a probe. It closes on success; a failed probe opens it for twice as long, up
to `LAST_PROBE_S`. Apart from that a model rests when a 429 says for how long, and is unlisted when
a provider says it does not sell it, until the next sync; where none comes, for `UNLISTED_S`. What
is not found in one dialect may well be sold in another: a 404 can mean the path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

FAILURES_TO_OPEN = 3
FIRST_PROBE_S = 30.0
LAST_PROBE_S = 300.0
UNLISTED_S = 3600.0
EVERYWHERE = ""
"""In place of a dialect: all of them."""
PROBE_TIMEOUT_S = 60.0
"""A probe that nobody heard of again lets the next one through after this."""

type State = Literal["closed", "open", "half_open", "resting", "unlisted"]


class Circuit(msgspec.Struct):
    """One breaker. Times are monotonic seconds; None is never.

    `unlisted`: in which dialects the model is not sold, and until when that is believed.
    """

    failures: int = 0
    opened_s: float | None = None
    probe_after_s: float = FIRST_PROBE_S
    probing_since_s: float | None = None
    resting_until_s: float | None = None
    unlisted: dict[str, float] = {}
    last_error: str | None = None
    latency_ms: float | None = None

    def state(self, now_s: float) -> State:
        """What it is at `now_s`, listed or not. ``half_open``: the next request is the probe."""
        if self.resting_until_s is not None and now_s < self.resting_until_s:
            return "resting"
        if self.opened_s is None:
            return "closed"
        if now_s < self.opened_s + self.probe_after_s:
            return "open"
        probing = (
            self.probing_since_s is not None and now_s < self.probing_since_s + PROBE_TIMEOUT_S
        )
        return "open" if probing else "half_open"

    def shown(self, now_s: float) -> State:
        """For people: that it is not sold in some dialect goes before what it is otherwise."""
        is_unlisted = any(now_s < until_s for until_s in self.unlisted.values())
        return "unlisted" if is_unlisted else self.state(now_s)


class Snapshot(msgspec.Struct, frozen=True):
    """One breaker as ``/health`` shows it."""

    provider: str
    model: str
    state: State
    failures: int
    last_error: str | None
    opens_in_s: float | None = None


class Breakers:
    """All breakers of this process. Lives on the event loop; every call is told the time."""

    def __init__(self) -> None:
        self._circuits: dict[tuple[str, str], Circuit] = {}

    def is_open(self, provider: str, model: str, now_s: float) -> bool:
        """Whether `model` should not be asked now."""
        circuit = self._circuits.get((provider, model))
        return circuit is not None and circuit.state(now_s) in ("open", "resting")

    def is_unlisted(self, provider: str, model: str, dialect: str, now_s: float) -> bool:
        """Whether the provider has said that it does not sell `model` in this dialect."""
        circuit = self._circuits.get((provider, model))
        if circuit is None or not circuit.unlisted:
            return False
        return any(now_s < circuit.unlisted.get(key, -math.inf) for key in (EVERYWHERE, dialect))

    def failures(self, provider: str, model: str) -> int:
        """Failures in a row."""
        circuit = self._circuits.get((provider, model))
        return 0 if circuit is None else circuit.failures

    def latency_ms(self, provider: str, model: str) -> float | None:
        """Mean time to the first token, recent answers weighing more; None before the first."""
        circuit = self._circuits.get((provider, model))
        return None if circuit is None else circuit.latency_ms

    def attempt(self, provider: str, model: str, now_s: float) -> None:
        """A request goes to `model`: where its circuit is half open, this is the probe."""
        circuit = self._circuits.get((provider, model))
        if circuit is not None and circuit.state(now_s) == "half_open":
            circuit.probing_since_s = now_s

    def success(self, provider: str, model: str, *, ttft_ms: float | None) -> bool:
        """An answer came. True where this closed an open circuit."""
        circuit = self._circuit(provider, model)
        was_open = circuit.opened_s is not None
        circuit.failures = 0
        circuit.opened_s = circuit.probing_since_s = circuit.resting_until_s = None
        circuit.probe_after_s = FIRST_PROBE_S
        circuit.last_error = None
        if ttft_ms is not None:
            old = circuit.latency_ms
            circuit.latency_ms = ttft_ms if old is None else old + 0.2 * (ttft_ms - old)
        return was_open

    def failure(self, provider: str, model: str, now_s: float, error: str) -> bool:
        """An attempt failed. True where this opened the circuit, or opened it again."""
        circuit = self._circuit(provider, model)
        circuit.failures += 1
        circuit.last_error = error
        if circuit.opened_s is not None:
            if circuit.probing_since_s is None:
                return False  # an older request that failed late says nothing new
            circuit.probe_after_s = min(2 * circuit.probe_after_s, LAST_PROBE_S)
        elif circuit.failures < FAILURES_TO_OPEN:
            return False
        circuit.opened_s = now_s
        circuit.probing_since_s = None
        return True

    def rest(self, provider: str, model: str, until_s: float) -> None:
        """Leave `model` alone until then (429)."""
        self._circuit(provider, model).resting_until_s = until_s

    def unlist(self, provider: str, model: str, dialect: str, now_s: float) -> None:
        """The provider does not sell `model` (404, ``invalid_model``)."""
        self._circuit(provider, model).unlisted[dialect] = now_s + UNLISTED_S

    def relist(self, provider: str) -> None:
        """A sync has the last word on what `provider` sells."""
        for (name, _), circuit in self._circuits.items():
            if name == provider:
                circuit.unlisted.clear()

    def snapshots(self, now_s: float) -> Iterator[Snapshot]:
        """Every breaker that is not closed or has failed of late."""
        for (provider, model), circuit in sorted(self._circuits.items()):
            state = circuit.shown(now_s)
            if state == "closed" and not circuit.failures:
                continue
            until = circuit.resting_until_s if state == "resting" else None
            if state == "open" and circuit.opened_s is not None:
                until = circuit.opened_s + circuit.probe_after_s
            wait = None if until is None else round(max(0.0, until - now_s), 1)
            yield Snapshot(provider, model, state, circuit.failures, circuit.last_error, wait)

    def _circuit(self, provider: str, model: str) -> Circuit:
        return self._circuits.setdefault((provider, model), Circuit())

"""What the world looks like when a request is routed, told to the pure decision."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.caps import Caps
from arbstr.core.conversation import Warm


def _no(_provider: str, _model: str) -> bool:
    return False


def _none(_provider: str, _model: str) -> int:
    return 0


def _unmeasured(_provider: str, _model: str) -> float | None:
    return None


def _unknown(_provider: str) -> int | None:
    return None


def _first(_key: str, _n: int) -> int:
    return 0


def _cold(_ask: Ask) -> Warm | None:
    return None


class Conditions(msgspec.Struct, frozen=True):
    """The state of the world. The defaults: nothing is known and nothing is wrong.

    Functions of provider and model: `open_circuits`, `unlisted` (it said that it does not sell the
    model), `failures` (in a row), `latency_ms` (to the first token, None before it was measured).
    `balance_msats`: of a provider's key, None where it is not known. `round_robin`: of a policy and
    a number of models, the index to begin at; it moves on at each call. `warm`: who has the
    conversation of a request in its cache. `now_s`: UTC, seconds since the epoch.
    """

    open_circuits: Callable[[str, str], bool] = _no
    failures: Callable[[str, str], int] = _none
    latency_ms: Callable[[str, str], float | None] = _unmeasured
    balance_msats: Callable[[str], int | None] = _unknown
    unlisted: Callable[[str, str], bool] = _no
    round_robin: Callable[[str, int], int] = _first
    warm: Callable[[Ask], Warm | None] = _cold
    caps: Caps | None = None
    now_s: float = 0.0

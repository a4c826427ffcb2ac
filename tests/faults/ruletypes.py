"""Cases with rules of their own: what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.faults.cases import ANSWER, BOTH, Shape
from tests.faults.model import ANY_STATUS, Attempt, Candidate, Expect, Saw


@dataclass(frozen=True, slots=True)
class Special:
    """Candidates and what each of the requests must lead to; one case for every shape."""

    name: str
    candidates: tuple[Candidate, ...]
    asks: tuple[Expect, ...]
    shapes: tuple[Shape, ...] = BOTH
    group: str = "main"
    headers: Mapping[str, str] = field(default_factory=dict)
    substitutes: bool = False


def bad(of: int, status: int | None = ANY_STATUS, code: str | None = None) -> Attempt:
    """A failed attempt at candidate `of`."""
    return Attempt(of, "error", status, code)


def answered(*attempts: Attempt, by: int) -> Expect:
    """These fail, then candidate `by` answers."""
    return Expect(ANSWER, (*attempts, Attempt(by, "ok", 200)), "ok")


def failed(saw: Saw, *attempts: Attempt) -> Expect:
    """These fail, and nobody is left."""
    return Expect(saw, attempts, "error")


def up(*faults: str) -> tuple[Candidate, ...]:
    """Candidates at the usual provider."""
    return tuple(Candidate(fault) for fault in faults)


GOOD = Candidate("ok")
BAD_429 = bad(0, 429)
BAD_500 = bad(0, 500)

"""The error a client gets where nobody is left: the last real one of an upstream, or ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from arbstr.core.attempt import Failure
from arbstr.core.dialects.base import Problem
from arbstr.core.errors import UPSTREAM_ERROR
from arbstr.core.orders import Attempt


def of(attempts: Sequence[Attempt], failure: Failure) -> Problem:
    """The last real error of an upstream; where there was none, ours about `failure`."""
    real = [f for f in _failures(attempts) if f.kind == "status" and (f.status or 0) >= 400]
    if not real or real[-1].error is None:
        return no_answer(attempts, failure.message)
    last, error = real[-1], real[-1].error
    extra = {**error.members, "attempts": told(attempts)}
    return Problem(last.status or 502, error.message, error.type, last.code, extra)


def no_answer(attempts: Sequence[Attempt], message: str, status: int = 502) -> Problem:
    """Our own error: nobody has answered, not even with one."""
    extra = {"attempts": told(attempts)}
    return Problem(status, f"no model answered: {message}", UPSTREAM_ERROR, UPSTREAM_ERROR, extra)


def retry_after(attempts: Sequence[Attempt], status: int | None) -> str | None:
    """The ``retry-after`` that goes with an error of `status`, where an upstream has named one."""
    waits = (f.retry_after_s for f in reversed(_failures(attempts)) if f.status == status)
    wait = next(waits, None)
    return None if wait is None else f"{wait:.0f}"


def told(attempts: Sequence[Attempt]) -> Sequence[Mapping[str, object]]:
    """Every attempt, for ``error.attempts``."""
    return [
        {
            "n": a.n,
            "provider": a.candidate.model.provider,
            "model": a.candidate.model.id,
            "status": a.tryout.status,
            "code": a.error_code,
            "message": None if a.failure is None else a.failure.message,
        }
        for a in attempts
    ]


def _failures(attempts: Sequence[Attempt]) -> list[Failure]:
    return [a.failure for a in attempts if a.failure is not None]

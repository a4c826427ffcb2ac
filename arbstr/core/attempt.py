"""After a failure: what an attempt's end leads to. One table, the one of design.md.

An attempt that ends before anything was committed to the client ends as a `Failure`. `decide` looks
it up in `TABLE`, from the top; the first row that fits says what is next. Nothing here acts.

=====================================================================  ==========================
before the first token                                                 then
=====================================================================  ==========================
connect, TLS, DNS failure; reset; first-token time-out; 500, 502, 503,  next candidate
504, 52x; 408, 425                                                     (reset on a reused idle
                                                                       connection: same candidate,
                                                                       once, on a fresh one)
429                                                                    ``retry-after`` <= 2 s: same
                                                                       candidate once; else rest it
200 with an error body, HTML, nothing, broken or cut JSON, no choices  next
400 ``invalid_model``, 404                                             next; unlisted until a sync
400 ``context_length_exceeded``, 413                                   next with a larger context
402                                                                    next, smaller reservation
401, 403 in the node's own shape: our key is at fault                  next at another provider
any other 401, 403: that model's upstream key is at fault              next
3xx                                                                    next; never followed
other 4xx                                                              deliver
=====================================================================  ==========================
"""

from __future__ import annotations

import enum
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

from arbstr.core.errors import UPSTREAM_ERROR, Fault, UpstreamError

SHORT_WAIT_S = 2.0
LONGEST_REST_S = 600.0
"""A ``retry-after`` of a year is a mistake of somebody's: no model rests longer than this."""

type Kind = Literal["connect", "reset", "timeout", "answer", "status"]
"""How an attempt failed: no connection; a connection that broke; no token in time; a 200 that is no
answer; an HTTP status."""


class Failure(msgspec.Struct, frozen=True):
    """The end of an attempt that gave no answer. `code`: for ``attempts.error_code``."""

    kind: Kind
    message: str
    code: str
    status: int | None = None
    error: UpstreamError | None = None
    retry_after_s: float | None = None
    idle_reused: bool = False
    """The connection had served before and broke without a byte of an answer: it was closed."""

    @property
    def fault(self) -> Fault:
        """What the error body says beyond its status."""
        return "" if self.error is None else self.error.fault


class Then(enum.Enum):
    """What comes next. Every ``NEXT_…`` delivers the failure where no such candidate is left."""

    SAME_FRESH = enum.auto()
    SAME_AFTER_WAIT = enum.auto()
    NEXT = enum.auto()
    NEXT_LARGER_CONTEXT = enum.auto()
    NEXT_SMALLER_RESERVATION = enum.auto()
    NEXT_OTHER_PROVIDER = enum.auto()
    DELIVER = enum.auto()


class Verdict(msgspec.Struct, frozen=True):
    """`counts`: a failure in the circuit breaker's eyes. `unlist`: the model is not sold there.

    Or not in this dialect: see `breaker`.
    """

    then: Then
    counts: bool = True
    unlist: bool = False
    wait_s: float = 0.0
    rest_s: float = 0.0


class Row(msgspec.Struct, frozen=True):
    """One row of the table. None and () match everything."""

    then: Then
    kinds: tuple[Kind, ...] = ()
    statuses: tuple[range, ...] = ()
    fault: Fault | None = None
    counts: bool = True
    unlist: bool = False


def _only(*statuses: int) -> tuple[range, ...]:
    return tuple(range(status, status + 1) for status in statuses)


TABLE: tuple[Row, ...] = (
    Row(Then.NEXT, kinds=("connect", "reset", "timeout", "answer")),
    Row(Then.NEXT, statuses=(range(500, 600), *_only(408, 425, 429))),
    Row(Then.NEXT, statuses=_only(404), counts=False, unlist=True),
    Row(Then.NEXT, statuses=_only(400), fault="model", counts=False, unlist=True),
    Row(Then.NEXT_LARGER_CONTEXT, statuses=_only(400), fault="context", counts=False),
    Row(Then.NEXT_LARGER_CONTEXT, statuses=_only(413), counts=False),
    Row(Then.NEXT_SMALLER_RESERVATION, statuses=_only(402), counts=False),
    Row(Then.NEXT_OTHER_PROVIDER, statuses=_only(401, 403), fault="node_key", counts=False),
    Row(Then.NEXT, statuses=_only(401, 403), counts=False),
    Row(Then.NEXT, statuses=(range(300, 400), range(100, 200)), counts=False),
    Row(Then.DELIVER, statuses=(range(400, 500),), counts=False),
    Row(Then.NEXT),
)


def decide(failure: Failure, *, tried_before: bool, paid_once: bool) -> Verdict:
    """Look up what `failure` leads to.

    `tried_before`: this candidate has had its second chance. `paid_once`: the request pays with a
    token that can be spent once (``X-Cashu``), so it is never sent twice.
    """
    row = next(row for row in TABLE if _fits(row, failure))
    if paid_once:
        return Verdict(Then.DELIVER, counts=row.counts, unlist=row.unlist)
    if failure.status == 429:
        return _too_many(failure, tried_before=tried_before)
    if failure.idle_reused and not tried_before:
        return Verdict(Then.SAME_FRESH, counts=False)
    return Verdict(row.then, counts=row.counts, unlist=row.unlist)


def _fits(row: Row, failure: Failure) -> bool:
    if row.kinds and failure.kind not in row.kinds:
        return False
    if row.statuses and not any(failure.status in statuses for statuses in row.statuses):
        return False
    return row.fault is None or row.fault == failure.fault


def _too_many(failure: Failure, *, tried_before: bool) -> Verdict:
    wait_s = failure.retry_after_s
    if wait_s is not None and wait_s <= SHORT_WAIT_S and not tried_before:
        return Verdict(Then.SAME_AFTER_WAIT, counts=False, wait_s=wait_s)
    return Verdict(Then.NEXT, rest_s=min(wait_s or 0.0, LONGEST_REST_S))


def retry_after_s(value: str | None, *, now_s: float) -> float | None:
    """Read ``retry-after``: seconds or an HTTP date (RFC 9110, 10.2.3); None where it says nothing.

    `now_s`: seconds since the epoch, for a date.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now_s
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None  # noqa: PLR0124 - NaN is no time


def status_failure(status: int, error: UpstreamError, *, retry_after: float | None) -> Failure:
    """The failure that an HTTP status is."""
    code = error.code or (error.type if error.type != UPSTREAM_ERROR else None) or f"http_{status}"
    return Failure("status", error.message, code, status, error, retry_after)

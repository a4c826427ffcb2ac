"""The misbehaving models, in one table. Ask for one by name to see what a bad day looks like.

Each is listed by `GET /v1/models` at a price below every real model's, so that a policy such as
`allowed_models = ["mock-fail-500", "gpt-4o-mini"]` tries it first. Only whole answers are billed:
those of `mock-slow`, `mock-overcharge` and `mock-no-done`, and of the stalls, whether the client
waited for them or not (the node reads its upstream to the end).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Fault(StrEnum):
    """A kind of misbehaviour; what each does is in `FAULTS`."""

    FAIL = "fail"
    DROP = "drop"
    RESET = "reset"
    STALL = "stall"
    CUT = "cut"
    CUT_RESET = "cut-reset"
    STALL_MID = "stall-mid"
    ERROR_EVENT = "error-event"
    ERROR_MID = "error-mid"
    NO_DONE = "no-done"
    NO_USAGE = "no-usage"
    EMPTY = "empty"
    HTML = "html"
    BROKEN_JSON = "broken-json"
    ERROR_200 = "200-error"
    SLOW = "slow"
    OVERCHARGE = "overcharge"


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault looks like.

    Attributes:
        streamed: what a client that streams sees.
        plain: what one that does not stream sees.
        models: the names to ask for, each with the status of `Fault.FAIL`.
    """

    streamed: str
    plain: str
    models: tuple[tuple[str, int | None], ...]


FAIL_STATUSES = (400, 401, 402, 404, 408, 413, 422, 429, 500, 502, 503, 504)
"""`mock-fail-STATUS`. 400 is a context too long, 429 says retry-after: 20."""


def _row(name: str, streamed: str, plain: str | None = None) -> Row:
    return Row(streamed, plain or streamed, ((f"mock-{name}", None),))


FAULTS: Mapping[Fault, Row] = MappingProxyType(
    {
        Fault.FAIL: Row(
            "an error status and a JSON body in the shape the node has for it",
            "an error status and a JSON body in the shape the node has for it",
            tuple((f"mock-fail-{status}", status) for status in FAIL_STATUSES),
        ),
        Fault.DROP: _row("drop", "the connection is closed before any header"),
        Fault.RESET: _row("reset", "the connection is reset before any header"),
        Fault.STALL: _row("stall", "not a byte for `stall_ms`, then the answer, billed"),
        Fault.CUT: _row(
            "cut",
            "some text, then the chunked body ends cleanly: no usage, no end marker",
            "half the body, then the connection is closed",
        ),
        Fault.CUT_RESET: _row(
            "cut-reset",
            "some text, then the connection is reset",
            "half the body, then the connection is reset",
        ),
        Fault.STALL_MID: _row(
            "stall-mid",
            "some text, then silence for `stall_ms`, then the rest, billed",
            "half the body, then silence for `stall_ms`, then the rest, billed",
        ),
        Fault.ERROR_EVENT: _row(
            "error-event", "an error event first, under status 200", "status 200 with an error body"
        ),
        Fault.ERROR_MID: _row(
            "error-mid",
            "some text, an error event, a usage event of zero cost, the end marker",
            "status 200 with an error body",
        ),
        Fault.NO_DONE: _row(
            "no-done", "a whole answer without the end marker, billed", "a whole answer, billed"
        ),
        Fault.NO_USAGE: _row(
            "no-usage",
            "a whole answer with a usage event of zeros, not billed",
            "a whole answer without usage, not billed",
        ),
        Fault.EMPTY: _row(
            "empty", "status 200 and no event at all", "status 200 and an empty body"
        ),
        Fault.HTML: _row("html", "status 200 and an HTML page"),
        Fault.BROKEN_JSON: _row(
            "broken-json", "an event of broken JSON, then the end", "status 200 and broken JSON"
        ),
        Fault.ERROR_200: _row("200-error", "status 200 with an error body"),
        Fault.SLOW: _row("slow", "a good answer, one token each 100 ms"),
        Fault.OVERCHARGE: _row("overcharge", "a good answer, billed three times its price"),
    }
)
"""Every fault: what it looks like, streamed and not, and the models that have it."""

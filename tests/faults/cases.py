"""The table of cases: every fault, streamed or not, with a good model behind it or none.

Source of every expectation: design.md, "After a failure". `FAULTS` lists the faults that follow the
plain rules; `special.py` has those with rules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.faults.good import MARK
from tests.faults.model import ANY_STATUS, Attempt, Candidate, Case, Expect, Saw

type Verdict = Literal["next", "deliver", "whole", "cut"]
type Shape = Literal["plain", "streamed"]

BOTH: tuple[Shape, ...] = ("plain", "streamed")
PLAIN: tuple[Shape, ...] = ("plain",)
STREAMED: tuple[Shape, ...] = ("streamed",)

ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}
"""The SDK's exception for a status; 5xx are InternalServerError, the rest APIStatusError."""

ANSWER = Saw("answer")
NOBODY = Saw("error", "InternalServerError", 502, "upstream_error")
CUT = Saw("cut", "APIError", None, "stream_interrupted")


def error(status: int, says: str = MARK) -> Saw:
    """An upstream's own error, as the SDK shows it."""
    name = "InternalServerError" if status >= 500 else ERRORS.get(status, "APIStatusError")
    return Saw("error", name, status, says=says)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that follows the plain rules.

    `behaviour`: of the upstream. `verdict`: ``next``: it fails before the first token; ``deliver``:
    the request is at fault; ``whole``: it is an answer all the same; ``cut``: it breaks after some
    text. `status`: of the failed attempt. `shown`: the status shown where nobody is left (None: our
    502). `seen`: whether a request reaches the upstream.
    """

    name: str
    behaviour: str
    verdict: Verdict
    status: int | None = ANY_STATUS
    shown: int | None = None
    shapes: tuple[Shape, ...] = BOTH
    group: str = "main"
    provider: str = "up"
    seen: bool = True


def _statuses(*numbers: int) -> tuple[Fault, ...]:
    return tuple(Fault(f"{n}", f"status={n}", "next", n, n) for n in numbers)


FAULTS: tuple[Fault, ...] = (
    # the connection
    Fault("connection refused", "ok", "next", None, provider="refused", seen=False),
    Fault("host not found", "ok", "next", None, provider="no-host", seen=False),
    Fault("TLS: unknown issuer", "ok", "next", None, provider="self-signed", seen=False),
    Fault("TLS: no TLS there", "ok", "next", None, provider="tls-noise", seen=False),
    Fault("accepted and closed", "ok", "next", None, provider="accept-close", seen=False),
    Fault("reset before headers", "reset-before", "next", None),
    Fault("closed before headers", "close-before", "next", None),
    Fault("reset in the headers", "reset-head", "next", None),
    Fault("closed in the headers", "close-head", "next", None),
    Fault("headers, then reset", "head-reset", "next"),
    Fault("headers, then closed", "head-close", "next"),
    # the head
    Fault("no HTTP at all", "garbage", "next", None),
    Fault("a status line that is none", "bad-status", "next", None),
    Fault("two content-lengths", "two-lengths", "next"),
    Fault("endless headers", "endless-head", "next"),
    Fault("an endless header line", "endless-line", "next"),
    Fault("1xx without end", "endless-early", "next"),
    # statuses
    *_statuses(408, 425, 500, 502, 503, 504, 520, 403),
    Fault("401 of the model's upstream", "status=401", "next", 401, 401),
    Fault("404", "status=404", "next", 404, 404),
    Fault("400 invalid_model", "unknown-model", "next", 400, 400),
    Fault("503 with an HTML page", "html-status=503", "next", 503, 503),
    Fault("301", "redirect=301", "next", 301),
    Fault("307", "redirect=307", "next", 307),
    Fault("429, retry-after 20", "busy=20", "next", 429, 429),
    Fault("429, retry-after a date", "busy=in-a-minute", "next", 429, 429),
    Fault("429, retry-after missing", "busy=missing", "next", 429, 429),
    Fault("429, retry-after 30 digits", "busy=huge", "next", 429, 429),
    Fault("429, retry-after in 9999", "busy=year-9999", "next", 429, 429),
    Fault("429, retry-after a word", "busy=word", "next", 429, 429),
    Fault("400", "status=400", "deliver", 400, 400),
    Fault("409", "status=409", "deliver", 409, 409),
    Fault("422", "unprocessable", "deliver", 422, 422),
    # 200, but no answer
    Fault("200 with an error body", "ok-error", "next", 200),
    Fault("200 with HTML", "html", "next", 200),
    Fault("200 with nothing", "empty", "next", 200),
    Fault("204", "no-content", "next", 204),
    Fault("200 with broken JSON", "broken-json", "next", 200),
    Fault("200 with a JSON array", "json-array", "next", 200),
    Fault("200 with truncated JSON", "truncated", "next"),
    Fault("200 without choices", "no-choices", "next", 200),
    Fault("200, stream and body mixed up", "wrong-kind", "next", 200),
    Fault("a chunk size that lies", "lying-chunk", "next"),
    Fault("a chunk size that is none", "bad-chunk", "next"),
    Fault("gzip that is none", "bad-encoding", "next"),
    # answers in odd clothes
    Fault("nothing wrong", "ok", "whole"),
    Fault("gzip in spite of identity", "encoded=gzip", "whole"),
    Fault("deflate in spite of identity", "encoded=deflate", "whole"),
    Fault("br in spite of identity", "encoded=br", "whole"),
    Fault("zstd in spite of identity", "encoded=zstd", "whole"),
    Fault("garbage after the end", "trailing", "whole"),
    Fault("100 first", "early=100", "whole"),
    Fault("103 first", "early=103", "whole"),
    Fault("chunks of 7 bytes", "chunked", "whole", shapes=PLAIN),
    Fault("usage, no cost", "usage-alone", "whole", shapes=PLAIN),
    Fault("no usage at all", "nothing-counted", "whole", shapes=PLAIN),
    Fault("one byte at a time", "byte-by-byte", "whole", shapes=STREAMED),
    Fault("cut inside characters", "split-utf8", "whole", shapes=STREAMED),
    Fault("CRLF lines", "crlf", "whole", shapes=STREAMED),
    Fault("cut inside \\r\\n\\r\\n", "split-crlf", "whole", shapes=STREAMED),
    Fault("CR lines", "lone-cr", "whole", shapes=STREAMED),
    Fault("all events in one piece", "one-piece", "whole", shapes=STREAMED),
    Fault("a 5 MB event", "big-event", "whole", shapes=STREAMED),
    Fault("comments first", "comments-before", "whole", shapes=STREAMED),
    Fault("usage on every event", "usage-every", "whole", shapes=STREAMED),
    Fault("usage, no cost", "usage-no-cost", "whole", shapes=STREAMED),
    Fault("no usage at all", "no-usage", "whole", shapes=STREAMED),
    Fault("no [DONE]", "no-done", "whole", shapes=STREAMED),
    Fault("[DONE] without an empty line", "done-unended", "whole", shapes=STREAMED),
    Fault("events after [DONE]", "after-done", "whole", shapes=STREAMED),
    Fault("data: without a space", "no-space", "whole", shapes=STREAMED),
    # streams of nothing
    Fault("error event first", "error-first", "next", 200, shapes=STREAMED),
    Fault("comments, then the end", "comments-only", "next", 200, shapes=STREAMED),
    Fault("[DONE] first", "done-first", "next", 200, shapes=STREAMED),
    Fault("clean end before any text", "role-only", "next", 200, shapes=STREAMED),
    Fault("finish and [DONE], no text", "role-stop", "next", 200, shapes=STREAMED),
    Fault("reset before any text", "role-reset", "next", shapes=STREAMED),
    Fault("broken JSON event first", "broken-first", "next", 200, shapes=STREAMED),
    Fault("a 9 MB event first", "oversized-first", "next", 200, shapes=STREAMED),
    # cuts
    Fault("cut cleanly", "cut", "cut", 200, shapes=STREAMED),
    Fault("cut by FIN", "cut-close", "cut", 200, shapes=STREAMED),
    Fault("cut by reset", "cut-reset", "cut", 200, shapes=STREAMED),
    Fault("cut inside an event", "cut-in-event", "cut", 200, shapes=STREAMED),
    Fault("broken JSON event in mid-stream", "broken-mid", "cut", 200, shapes=STREAMED),
    Fault("a 9 MB event in mid-stream", "oversized-mid", "cut", 200, shapes=STREAMED),
    Fault("a chunk size that lies, mid-stream", "lying-chunk-mid", "cut", 200, shapes=STREAMED),
    Fault("a chunk size that is none, mid-stream", "bad-chunk-mid", "cut", 200, shapes=STREAMED),
    Fault("no [DONE], no usage", "end-without-usage", "cut", 200, shapes=STREAMED),
    Fault("no [DONE], no finish_reason", "end-without-finish", "cut", 200, shapes=STREAMED),
    Fault("cut after a tool call", "tool-cut", "cut", 200, shapes=STREAMED),
    # the clock
    Fault("no answer at all", "silent", "next", None, group="clock"),
    Fault("headers, then nothing", "head-silent", "next", group="clock"),
    Fault("headers now and then", "slow-head", "next", group="clock"),
    Fault("comments for ever", "comments-for-ever", "next", group="clock", shapes=STREAMED),
    Fault("stall in mid-stream", "stall", "cut", 200, group="clock", shapes=STREAMED),
    Fault("stall, then the rest", "stall-then-end=1500", "cut", 200, None, STREAMED, "clock"),
    Fault("text without end", "drip", "cut", 200, group="clock", shapes=STREAMED),
    Fault(
        "comments past the idle limit", "comments-mid=1600", "whole", 200, None, STREAMED, "clock"
    ),
)


def _expect(fault: Fault, *, good_follows: bool) -> Expect:
    """What must come of `fault` at the cheapest model, with a good one or the same behind it."""
    failed = Attempt(0, "error", fault.status, seen=fault.seen)
    if fault.verdict == "whole":
        return Expect(ANSWER, (Attempt(0, "ok", 200),), "ok")
    if fault.verdict == "cut":
        return Expect(CUT, (Attempt(0, "interrupted", 200),), "interrupted")
    if fault.verdict == "deliver":
        return Expect(error(fault.shown or 502), (failed,), "error")
    if good_follows:
        return Expect(ANSWER, (failed, Attempt(1, "ok", 200)), "ok")
    second = Attempt(1, "error", fault.status, seen=fault.seen)
    html = fault.behaviour.startswith("html")
    shown = NOBODY if fault.shown is None else error(fault.shown, "" if html else MARK)
    return Expect(shown, (failed, second), "error")


def plain_rules() -> Iterator[Case]:
    """Every fault of `FAULTS`, plain and streamed, with a good model behind it and with none."""
    for number, fault in enumerate(FAULTS):
        for shape in fault.shapes:
            for good_follows in (True, False):
                bad = Candidate(fault.behaviour, fault.provider)
                behind = Candidate("ok") if good_follows else bad
                follows = "good follows" if good_follows else "all bad"
                yield Case(
                    id=f"f{number}{shape[0]}{follows[0]}",
                    name=f"{fault.name} · {shape} · {follows}",
                    group=fault.group,
                    candidates=(bad, behind),
                    asks=(_expect(fault, good_follows=good_follows),),
                    stream=shape == "streamed",
                )

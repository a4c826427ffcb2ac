"""Reading what one upstream try sends back: is it an answer, is it whole, what may go down.

A `Tryout` is fed the head, the bytes and the end of one HTTP response and is asked afterwards what
it has become. It holds everything back until the first token; it never decides what comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.attempt import Failure, retry_after_s, status_failure
from arbstr.core.dialects import Dialect
from arbstr.core.dialects.base import Mark, as_object
from arbstr.core.errors import UPSTREAM_ERROR, read_error
from arbstr.core.price import Bill, bill_in_head, merge_bills
from arbstr.core.sse import Event, Splitter, TooLargeError
from arbstr.core.usage import Usage

type Headers = tuple[tuple[bytes, bytes], ...]
type Shape = Literal["head", "error", "plain", "stream", "raw"]
"""What is being read: nothing yet, an error's body, a whole answer, events, bytes nobody judges."""

_ERROR_BODY_BYTES = 1 << 20
_RAW_COPY_BYTES = 1 << 20


class Limits(msgspec.Struct, frozen=True):
    """`event_bytes`: the largest event of a stream; `answer_bytes`: the largest answer."""

    event_bytes: int = 8 << 20
    answer_bytes: int = 128 << 20


class Tryout:
    """One upstream response as it comes in. Times are the caller's monotonic seconds.

    After each call the caller looks at: `failure` (it is no answer), `token` (something that counts
    has
    come: the commit), `ended` (it is whole; `tail` is held back), `broken` (after the commit: why
    it is not whole), and takes what may go down with `take`.
    """

    def __init__(self, dialect: Dialect, ask: Ask, limits: Limits) -> None:
        self.shape: Shape = "head"
        self.status: int | None = None
        self.headers: Headers = ()
        self.failure: Failure | None = None
        self.broken: str | None = None
        self.token = False
        self.ended = False
        self.counted = False
        """Its usage is that of a whole answer, though it may have come too late to be one."""
        self.tail: list[bytes] = []
        self.waits_for_cost = False
        self.usage: Usage | None = None
        self.bill: Bill | None = None
        self.body_bytes = 0
        self._dialect = dialect
        self._ask = ask
        self._limits = limits
        self._out: list[bytes] = []
        self._body = bytearray()
        self._splitter = Splitter(limits.event_bytes)
        self._reader = dialect.reader(ask)

    @property
    def body(self) -> bytes:
        """The whole plain body, as much of an error's as was kept, or the events held back."""
        return b"".join(self._out) if self.shape == "stream" else bytes(self._body)

    @property
    def decided(self) -> bool:
        """Whether it is an answer is known; what may still come is its bill."""
        return self.failure is not None or self.broken is not None or self.ended

    @property
    def unpaid(self) -> bool:
        """Whether more of it may still say what it cost."""
        return self.bill is None and not (self.ended and not self._dialect.bill_follows_end)

    def take(self) -> bytes:
        """What may go down now, in order; b"" where nothing may."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    # --- what comes in --------------------------------------------------------------------------

    def head(self, status: int, headers: Headers) -> None:
        """The response's head. A body follows, or only its end."""
        self.status, self.headers = status, headers
        self.bill = bill_in_head(_header(headers, b"x-routstr-cost-msats"))
        kind = _header(headers, b"content-type").split(b";")[0].strip().lower()
        is_stream = kind == b"text/event-stream"
        if not self._dialect.metered:
            self.shape = "raw"
            self.token = True
        elif not 200 <= status < 300:
            self.shape = "error"
        elif is_stream != self._ask.stream:
            # A client that waits for events cannot read a body, and the other way round. What was
            # sent instead is most often an error, so it is read as one.
            self.shape = "error"
        else:
            self.shape = "stream" if is_stream else "plain"

    def data(self, data: bytes) -> None:
        """More of the body."""
        self.body_bytes += len(data)
        if self.decided:
            self._read_on(data)
        elif self.shape != "error" and self.body_bytes > self._limits.answer_bytes:
            self._give_up(f"the answer is larger than {self._limits.answer_bytes:,} bytes")
        elif self.shape == "stream":
            self._events(data)
        elif self.shape == "raw":
            self._out.append(data)
            if len(self._body) < _RAW_COPY_BYTES:
                self._body += data
        elif self.shape == "plain" or len(self._body) < _ERROR_BODY_BYTES:
            self._body += data

    def end(self, *, now_ms: int) -> None:
        """The response has ended cleanly. `now_ms`: UTC, for a ``retry-after`` that is a date."""
        self.waits_for_cost = False
        if self.decided:
            return
        if self.shape == "stream":
            self._end_of_stream()
        elif self.shape == "error":
            self._end_of_error(now_ms)
        elif self.shape == "raw":
            facts = self._dialect.read_body(self.body)
            self.usage, self.bill = facts.usage, merge_bills(self.bill, facts.bill)
            self.ended = self.counted = True
        else:
            self._end_of_plain()

    # --- streams --------------------------------------------------------------------------------

    def _events(self, data: bytes) -> None:
        try:
            events = self._splitter.feed(data)
        except TooLargeError as error:
            self._give_up(str(error))
            return
        for number, event in enumerate(events):
            self._event(event)
            if self.decided:
                self._read_on_events(events[number + 1 :])
                return

    def _read_on(self, data: bytes) -> None:
        """Whether it is an answer is settled, what it cost may not be: the bill comes last."""
        if self.shape != "stream":
            return
        try:
            events = self._splitter.feed(data)
        except TooLargeError:
            self.waits_for_cost = False
            return
        self._read_on_events(events)

    def _read_on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            mark = self._reader.read(event)
            self._note()
            if mark & Mark.END and self._reader.error is None:
                self.counted = True
            if self.ended and mark is Mark.COST:  # the one thing that may follow the end
                self.tail.append(event.raw)
                self.waits_for_cost = False
            elif mark & (Mark.END | Mark.USAGE_ONLY):
                self.waits_for_cost = False

    def _event(self, event: Event, *, unfinished: bool = False) -> None:
        mark = self._reader.read(event)
        if unfinished and (mark & Mark.BROKEN or event.data is None):
            return  # cut in its middle, so it is no event (HTML standard, 9.2.6)
        if unfinished and mark is Mark.CONTENT and not self.token:
            return  # a stream that is cut here may still be another model's
        if mark & Mark.BROKEN:
            self._give_up("an event of the stream is not JSON")
        elif mark & Mark.ERROR:
            self._reported(event)
        elif mark & Mark.END:
            self.token = self.token or bool(mark & Mark.CONTENT)
            self._end_marker(event)
        elif not (mark is Mark.USAGE_ONLY and not self._ask.wants_usage):
            self.token = self.token or mark is Mark.CONTENT
            self._out.append(event.raw)

    def _end_marker(self, event: Event) -> None:
        self.counted = True
        if not self.token:
            self._give_up("the stream ended before any text")
            return
        self._note()
        self.ended = True
        self.tail.append(event.raw)
        self.waits_for_cost = self._dialect.bill_follows_end and self.bill is None

    def _end_of_stream(self) -> None:
        if (last := self._splitter.finish()) is not None:
            self._event(last, unfinished=True)
        if self.decided:
            self.waits_for_cost = False
        elif not self.token:
            self._give_up("the stream ended before any text")
        elif self._reader.whole:
            self._note()
            self.ended = self.counted = True
            self.tail.append(self._dialect.end_event)
        else:
            self._give_up("the stream was cut: its end is missing")

    def _reported(self, event: Event) -> None:
        """The upstream reports an error: a failure before the first token, its last word later."""
        self._note()
        error = self._reader.error
        message = error.message if error is not None else "the upstream reported an error"
        if self.token:
            if self._dialect.raises(event):
                self.tail.append(event.raw)
            self.broken = message
            self.waits_for_cost = self.bill is None
        else:
            code = error.code if error is not None and error.code else UPSTREAM_ERROR
            self._out.append(event.raw)
            self.failure = Failure("answer", message, code, self.status, error)

    def _note(self) -> None:
        self.usage = self._reader.usage or self.usage
        self.bill = merge_bills(self.bill, self._reader.bill)

    # --- whole bodies ---------------------------------------------------------------------------

    def _end_of_plain(self) -> None:
        facts = self._dialect.read_body(self.body)
        self.usage, self.bill = facts.usage, merge_bills(self.bill, facts.bill)
        if facts.problem is None:
            self.token = self.ended = self.counted = True
            return
        error = facts.error
        code = error.code if error is not None and error.code else UPSTREAM_ERROR
        message = facts.problem if error is None else error.message
        self.failure = Failure("answer", message, code, self.status, error)

    def _end_of_error(self, now_ms: int) -> None:
        status = self.status or 0
        body = as_object(self.body)
        error = read_error(body, fallback=f"the upstream answered {status}")
        if 200 <= status < 300:
            facts = self._dialect.read_body(self.body)
            self.usage, self.bill = facts.usage, merge_bills(self.bill, facts.bill)
            asked = "events" if self._ask.stream else "a JSON body"
            message = error.message if body and body.get("error") else f"the answer is not {asked}"
            self.failure = Failure("answer", message, error.code or UPSTREAM_ERROR, status, error)
            return
        wait = _header(self.headers, b"retry-after").decode("latin-1")
        retry_after = retry_after_s(wait, now_s=now_ms / 1000)
        self.failure = status_failure(status, error, retry_after=retry_after)

    def _give_up(self, message: str) -> None:
        self._note()
        if self.token:
            self.broken = message
        else:
            self.failure = Failure("answer", message, UPSTREAM_ERROR, self.status)


def _header(headers: Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key.lower() == name), b"")

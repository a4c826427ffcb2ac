"""One answer as a list of steps: bytes to write, pauses, and how the connection ends.

A script is a generator and does no I/O, so that the same one plays at once into a single write or
slowly, event by event. What comes lazily out of it is also what is billed lazily: a script that is
played to its end has charged, whether somebody still listened or not, as the node does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from arbstr.mock import heads
from arbstr.mock.answer import Answer
from arbstr.mock.ask import Ask
from arbstr.mock.dialects.events import dumps
from arbstr.mock.faults import Fault
from arbstr.mock.models import MockModel
from arbstr.mock.money import Bill, Usage

_PIECE_CHARS = 20  # as in captures/chat_stream_*
_TOKEN_CHARS = 4
_LAST_CHUNK = b"0\r\n\r\n"
_FLUSH_MS = 20.0  # a reset may overtake what was written just before it
_HTML = (
    b"<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>"
)
_BROKEN_EVENT = (
    b'data: {"id": "chatcmpl-broken", "choices": [{"index": 0, "delta": {"content": "Hel\n\n'
)


class Dialect(Protocol):
    """One API: a module of `dialects`."""

    WRITES: bool
    """Whether it writes text and can stream it."""
    STREAM_BILLED: bool
    END: int
    """Where in `closing` the end marker is."""

    def plain(
        self, ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True
    ) -> dict[str, object]:
        """The body of an answer that is not streamed."""
        ...

    def error_body(self, answer: Answer, bill: Bill) -> dict[str, object]:
        """The body of an error under status 200."""
        ...

    def opening(self, ask: Ask, answer: Answer) -> list[bytes]:
        """The events before the first word."""
        ...

    def piece(self, ask: Ask, answer: Answer, text: str) -> bytes:
        """The event of a piece of text."""
        ...

    def closing(self, ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True) -> list[bytes]:
        """The events after the last word; usage, cost and the end marker are the last ones."""
        ...

    def failure(self, answer: Answer, bill: Bill, *, first: bool) -> list[bytes]:
        """An error event and what follows it."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is written for so long."""

    ms: float


class End(Enum):
    """The connection ends here; a script without one ends with its answer."""

    CLOSE = "close"
    RESET = "reset"


type Step = bytes | Pause | End


@dataclass(frozen=True, slots=True)
class Turn:
    """Everything a script needs to know.

    Attributes:
        rid: the request id.
        close: whether the connection is closed after it.
        model: who answers.
        ask: what was asked.
        answer: what is said.
        dialect: how it looks.
        litellm: whether the node talks to the upstream by litellm: messages.
        settle: charges for tokens and gives the bill.
        change: what is left of an `X-Cashu` token, after the bill; `None`: paid by key.
        token_delay_ms: pause before each token.
        stall_ms: how long a stall is.
    """

    rid: str
    close: bool
    model: MockModel
    ask: Ask
    answer: Answer
    dialect: Dialect
    litellm: bool
    settle: Callable[[Usage], Bill]
    change: Callable[[], str] | None
    token_delay_ms: float
    stall_ms: float

    def script(self) -> Iterator[Step]:
        """The steps of this answer, its model's fault included."""
        fault = self.model.fault
        if fault is Fault.DROP or fault is Fault.RESET:
            yield End.CLOSE if fault is Fault.DROP else End.RESET
            return
        if fault is Fault.STALL:
            yield Pause(self.stall_ms)
        if fault is Fault.HTML:
            kind = "content-type: text/html; charset=utf-8"
            yield self._head(heads.own(200, self.rid, len(_HTML), kind=kind))
            yield _HTML
        elif fault is Fault.ERROR_200:
            yield from self._body(dumps(self.dialect.error_body(self.answer, self._free())))
        elif not (self.ask.stream and self.dialect.WRITES):
            yield from self._plain(fault)
        elif self.change is not None:
            yield from self._stream_for_token(self.change)
        else:
            yield from self._stream(fault)

    def _plain(self, fault: Fault | None) -> Iterator[Step]:
        if self.token_delay_ms:
            yield Pause(self.token_delay_ms * self.answer.usage.output_tokens)
        if fault is Fault.EMPTY:
            yield self._head(heads.own(200, self.rid, 0))
        elif fault is Fault.ERROR_EVENT or fault is Fault.ERROR_MID:
            yield from self._body(dumps(self.dialect.error_body(self.answer, self._free())))
        elif fault is Fault.STALL_MID:
            head, body = self._whole()
            yield head + body[: len(body) // 2]
            yield Pause(self.stall_ms)
            yield body[len(body) // 2 :]
        elif fault is Fault.CUT or fault is Fault.CUT_RESET:
            head, body = self._whole(billed=False)
            yield head + body[: len(body) // 2]
            yield Pause(_FLUSH_MS)
            yield End.CLOSE if fault is Fault.CUT else End.RESET
        elif fault is Fault.BROKEN_JSON:
            _, body = self._whole(billed=False)
            yield from self._body(body[: len(body) // 2])
        elif fault is Fault.NO_USAGE:
            head, body = self._whole(billed=False, usage=False)
            yield head + body
        else:
            head, body = self._whole()
            yield head + body

    def _stream(self, fault: Fault | None) -> Iterator[Step]:
        yield self._head(
            heads.messages_stream(self.rid) if self.litellm else heads.stream(self.rid)
        )
        if fault is Fault.ERROR_EVENT:
            yield from _chunks(self.dialect.failure(self.answer, self._free(), first=True))
        elif fault is Fault.BROKEN_JSON:
            yield _chunk(_BROKEN_EVENT)
        elif fault is not Fault.EMPTY:
            yield from _chunks(self.dialect.opening(self.ask, self.answer))
            yield from self._words(fault)
            return
        yield _LAST_CHUNK

    def _words(self, fault: Fault | None) -> Iterator[Step]:
        """The text; after its second piece a fault may strike."""
        pieces = self.answer.pieces(_TOKEN_CHARS if self.token_delay_ms else _PIECE_CHARS)
        yield from self._spoken(pieces[:2])
        if fault is Fault.CUT:
            yield _LAST_CHUNK
        elif fault is Fault.CUT_RESET:
            yield Pause(_FLUSH_MS)
            yield End.RESET
        elif fault is Fault.ERROR_MID:
            yield from _chunks(self.dialect.failure(self.answer, self._free(), first=False))
            yield _LAST_CHUNK
        else:
            if fault is Fault.STALL_MID:
                yield Pause(self.stall_ms)
            yield from self._spoken(pieces[2:])
            yield from self._closing(fault)

    def _spoken(self, pieces: list[str]) -> Iterator[Step]:
        for text in pieces:
            if self.token_delay_ms:
                yield Pause(self.token_delay_ms)
            yield _chunk(self.dialect.piece(self.ask, self.answer, text))

    def _closing(self, fault: Fault | None) -> Iterator[Step]:
        billed = self.dialect.STREAM_BILLED and fault is not Fault.NO_USAGE
        bill = self.settle(self.answer.usage) if billed else self._free()
        events = self.dialect.closing(
            self.ask, self.answer, bill, usage=fault is not Fault.NO_USAGE
        )
        if fault is Fault.NO_DONE:
            del events[self.dialect.END]
        yield from _chunks(events)
        yield _LAST_CHUNK

    def _stream_for_token(self, change: Callable[[], str]) -> Iterator[Step]:
        """A stream paid by token comes all at once at the end, with its price in the head."""
        bill = self.settle(self.answer.usage)
        words = [
            self.dialect.piece(self.ask, self.answer, text)
            for text in self.answer.pieces(_PIECE_CHARS)
        ]
        yield self._head(heads.paid_by_token(self.rid, bill, change(), None))
        yield from _chunks(
            [
                *self.dialect.opening(self.ask, self.answer),
                *words,
                *self.dialect.closing(self.ask, self.answer, bill),
            ]
        )
        yield _LAST_CHUNK

    def _whole(self, *, billed: bool = True, usage: bool = True) -> tuple[bytes, bytes]:
        """A plain answer's head and body."""
        bill = self.settle(self.answer.usage) if billed else self._free()
        body = dumps(self.dialect.plain(self.ask, self.answer, bill, usage=usage))
        if self.change is not None:
            head = heads.paid_by_token(self.rid, bill, self.change(), len(body))
        elif self.litellm:
            head = heads.messages(self.rid, bill, len(body))
        else:
            head = heads.passed(self.rid, bill, len(body))
        return self._head(head), body

    def _body(self, body: bytes) -> Iterator[Step]:
        """A body that nobody is charged for."""
        yield self._head(heads.passed(self.rid, self._free(), len(body))) + body

    def _free(self) -> Bill:
        return self.settle(Usage())

    def _head(self, lines: list[str]) -> bytes:
        return heads.encode(lines, close=self.close)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _chunks(events: list[bytes]) -> Iterator[bytes]:
    return map(_chunk, events)

"""Transcripts of an exchange: events are sent to it, its commands come back as short texts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from arbstr.core.body import read_members
from arbstr.core.breaker import Breakers
from arbstr.core.catalog import Model
from arbstr.core.dialects import PASS_THROUGH, Dialect, by_path
from arbstr.core.exchange import (
    Abort,
    Answer,
    Attempt,
    Cancel,
    Command,
    Data,
    Exchange,
    Finish,
    Head,
    Late,
    Pause,
    Settle,
    Ticket,
    Timing,
    Try,
)
from arbstr.core.policy import Choice
from arbstr.core.price import Price
from arbstr.core.receipt import attempt_cost, final_row
from arbstr.core.record import RequestRow
from arbstr.core.route import Candidate, Route
from arbstr.core.tryout import Headers, Limits

JITTER_S = 0.25
SSE = ((b"Content-Type", b"text/event-stream; charset=utf-8"),)
JSON = ((b"content-type", b"application/json"),)
HTML = ((b"content-type", b"text/html"),)


def event(data: object, name: str = "") -> bytes:
    """One event of a stream; a text goes in as it is."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


@dataclass(frozen=True)
class Api:
    """What one API says. All parts are whole events, but `plain`, a body, and `request`."""

    path: str
    request: dict[str, object]
    opening: bytes
    text: bytes
    usage: bytes
    end: bytes
    error: bytes
    plain: bytes
    bill: bytes = b""
    """What a node sends after the end marker."""

    @property
    def dialect(self) -> Dialect:
        """Who reads it."""
        found = by_path(self.path)
        assert found is not None
        return found

    @property
    def stream(self) -> bytes:
        """A whole stream, up to its end marker."""
        return self.opening + self.text + self.usage + self.end


_MESSAGES = [{"role": "user", "content": "hello"}]
_COST = {"total_msats": 47}


def _chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


CHAT = Api(
    path="/v1/chat/completions",
    request={"model": "a", "messages": _MESSAGES},
    opening=b": thinking\n\n" + _chunk({"role": "assistant", "content": ""}),
    text=_chunk({"content": "Hello"}),
    usage=_chunk({}, "stop")
    + event({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 9, "cost": _COST}}),
    end=event("[DONE]"),
    error=event({"error": {"message": "out of order", "code": 502}}),
    plain=json.dumps(
        {
            "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 9, "cost": _COST},
        }
    ).encode(),
)
MESSAGES = Api(
    path="/v1/messages",
    request={"model": "a", "max_tokens": 9, "messages": _MESSAGES},
    opening=event(
        {"type": "message_start", "message": {"usage": {"input_tokens": 11, "output_tokens": 1}}},
        "message_start",
    )
    + event({"type": "ping"}, "ping")
    + event({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}),
    text=event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}}),
    usage=event({"type": "message_delta", "usage": {"output_tokens": 9}}, "message_delta"),
    end=event({"type": "message_stop"}, "message_stop"),
    error=event(
        {"type": "error", "error": {"type": "api_error", "message": "out of order"}}, "error"
    ),
    plain=json.dumps(
        {
            "type": "message",
            "content": [{"type": "text", "text": "Hello"}],
            "usage": {"input_tokens": 11, "output_tokens": 9, "cost": _COST},
        }
    ).encode(),
    bill=event({"cost": _COST}, "cost"),
)
RESPONSES = Api(
    path="/v1/responses",
    request={"model": "a", "input": "hello"},
    opening=event({"type": "response.created", "response": {"output": []}}, "response.created")
    + event({"type": "response.output_item.added", "item": {"type": "message", "content": []}}),
    text=event({"type": "response.output_text.delta", "delta": "Hello"}),
    usage=b"",
    end=event(
        {
            "type": "response.completed",
            "response": {
                "output": [{"type": "message"}],
                "usage": {"input_tokens": 11, "output_tokens": 9, "cost": 4.7e-5},
            },
            "cost": _COST,
        }
    ),
    error=event(
        {"type": "response.failed", "response": {"error": {"message": "out of order"}}},
        "response.failed",
    ),
    plain=json.dumps(
        {
            "output": [{"type": "message"}],
            "usage": {"input_tokens": 11, "output_tokens": 9, "cost": _COST},
        }
    ).encode(),
)
APIS = (CHAT, MESSAGES, RESPONSES)


def model(name: str, provider: str = "p", context: int | None = None) -> Model:
    """A model at 1 msat a token in and 4 out."""
    return Model(name, provider, Price(Decimal(1), Decimal(4)), context=context)


def candidate(found: Model | str, reserves: float | None = None) -> Candidate:
    """One that is expected to cost 47 msats."""
    found = model(found) if isinstance(found, str) else found
    return Candidate(found, 47.0, 11.0, 0.0, 9.0, 0.0, reserves)


class Talk:
    """One exchange. Times are seconds since its start; every method returns what was commanded."""

    def __init__(
        self,
        *candidates: Candidate | Model | str,
        api: Api = CHAT,
        stream: bool = True,
        timing: Timing | None = None,
        paid_once: bool = False,
        limits: Limits | None = None,
        passes_through: bool = False,
        **request: object,
    ) -> None:
        """`request`: more members of the body. `passes_through`: in no dialect that is judged."""
        self.breakers = Breakers()
        self.made: list[Command] = []
        self._end = b""
        members = read_members(json.dumps(api.request | {"stream": stream} | request).encode())
        found = [c if isinstance(c, Candidate) else candidate(c) for c in candidates]
        dialect = PASS_THROUGH if passes_through else api.dialect
        self.exchange = Exchange(
            Ticket(
                id=1,
                instance="i",
                endpoint=api.path,
                client=None,
                dialect=dialect,
                ask=dialect.read_ask(members),
                route=Route(Choice(None, "none"), "a", tuple(found)),
                members=None if passes_through else members,
                paid_once=paid_once,
                started_ms=0,
                started_s=0.0,
            ),
            timing=timing or Timing(),
            limits=limits or Limits(),
            breakers=self.breakers,
            wall_ms=lambda: 0,
            jitter=lambda: JITTER_S,
        )

    def start(self, at: float = 0.0) -> list[str]:
        """The client's request is routed."""
        return self._told(self.exchange.start(at))

    def sent(self, n: int, at: float = 0.0, *, reused: bool = False) -> None:
        """Attempt `n` went out."""
        self.exchange.sent(n, at, reused=reused)

    def head(self, n: int, status: int = 200, at: float = 0.0, fields: Headers = SSE) -> list[str]:
        """The head of a response."""
        return self._told(self.exchange.headers(n, status, fields, at))

    def data(self, n: int, data: bytes, at: float = 0.0) -> list[str]:
        """A part of its body."""
        return self._told(self.exchange.data(n, data, at))

    def end(self, n: int, at: float = 0.0) -> list[str]:
        """Its clean end."""
        return self._told(self.exchange.end(n, at))

    def reset(self, n: int, at: float = 0.0) -> list[str]:
        """Its connection breaks."""
        return self._told(self.exchange.error(n, "reset", "reset by peer", at))

    def refuse(self, n: int, at: float = 0.0) -> list[str]:
        """It cannot connect."""
        return self._told(self.exchange.error(n, "connect", "connection refused", at))

    def answer(
        self, n: int, status: int, body: bytes, fields: Headers = JSON, at: float = 0.0
    ) -> list[str]:
        """A whole response that is not streamed."""
        told = self.head(n, status, at, fields)
        return told + self.data(n, body, at) + self.end(n, at)

    def tick(self, at: float, *, backlog: bool = False) -> list[str]:
        """Time has passed."""
        return self._told(self.exchange.tick(at, backlog=backlog))

    def resume(self, at: float) -> list[str]:
        """A pause is over."""
        return self._told(self.exchange.resume(at))

    def leave(self, at: float = 0.0) -> list[str]:
        """The client is gone."""
        return self._told(self.exchange.client_left(at))

    def shut_down(self, at: float = 0.0) -> list[str]:
        """The proxy stops."""
        return self._told(self.exchange.shut_down(at))

    def settled(self) -> list[str]:
        """The row is written."""
        return self._told(self.exchange.settled())

    @property
    def row(self) -> RequestRow:
        """What the ledger gets."""
        return final_row(self.exchange)

    @property
    def went_down(self) -> bytes:
        """The bytes of the answer so far; after `settled` with its end."""
        parts = [c.data for c in self.made if isinstance(c, Data)]
        parts += [c.body for c in self.made if isinstance(c, Answer)]
        return b"".join(parts) + self._end

    def attempt(self, n: int) -> Attempt:
        """One of its attempts, from 1 on."""
        return self.exchange.attempts[n - 1]

    def cost(self, n: int) -> tuple[int | None, str]:
        """What an attempt cost, and who says so."""
        found = attempt_cost(self.attempt(n))
        return found.msats, found.source

    def _told(self, commands: Iterable[Command]) -> list[str]:
        commands = list(commands)
        self.made += commands
        if any(isinstance(command, Finish) for command in commands):
            self._end = b"".join(self.exchange.current.tryout.tail)
        return [_text(command) for command in commands]


def _text(command: Command) -> str:  # noqa: C901 - one branch each
    match command:
        case Try(n, found, fresh):
            return f"try {n}: {found.model.id}" + (" fresh" if fresh else "")
        case Pause(seconds):
            return f"pause {seconds:g}"
        case Head(attempt):
            return f"head {attempt.n}"
        case Data():
            return "data"
        case Settle():
            return "settle"
        case Answer(status, _, attempt):
            return f"answer {status}" + ("" if attempt is None else f" of {attempt.n}")
        case Finish():
            return "finish"
        case Abort():
            return "abort"
        case Cancel(n):
            return f"cancel {n}"
        case Late(attempt):
            return f"late {attempt.n}"

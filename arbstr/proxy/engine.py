"""From a client's request to its row: routes it, builds its attempts, accounts for it.

The engine is what `stream.Service` asks for. It lives on the event loop; what may block (the
ledger's writer, price syncs, reports) has threads of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec
from mitmproxy import http
from mitmproxy.connection import Client

from arbstr.config import Config
from arbstr.core import exchange as core
from arbstr.core.ask import Ask
from arbstr.core.caps import CapHit, Reservation
from arbstr.core.dialects import Dialect
from arbstr.core.dialects.base import Problem
from arbstr.core.exchange import Attempt, Exchange, Ticket
from arbstr.core.price import sats
from arbstr.core.receipt import (
    attempt_cost,
    attempt_row,
    final_row,
    first_row,
    late_cost,
    refused_row,
)
from arbstr.core.record import AttemptRow, LateCost, RequestRow
from arbstr.core.route import Candidate
from arbstr.core.sse import comment
from arbstr.proxy import outgoing
from arbstr.proxy.gate import Gate, Landing
from arbstr.proxy.messages import values
from arbstr.proxy.outgoing import error_response
from arbstr.proxy.routing import Refused, Router
from arbstr.proxy.state import State, make_state
from arbstr.proxy.viewing import Viewing
from arbstr.proxy.world import World, wall_ms

logger = logging.getLogger(__name__)


class Ledger(Protocol):
    """What the engine asks of the ledger's writer. No call blocks."""

    def begin(self, row: RequestRow) -> None:
        """Queue the first write of a request."""
        ...

    def finish(
        self,
        row: RequestRow,
        attempts: tuple[AttemptRow, ...],
        done: Callable[[], None] | None = None,
    ) -> None:
        """Queue the last one; `done` is called on another thread once it is committed."""
        ...

    def late(self, cost: LateCost) -> None:
        """Queue the cost of an attempt that was given up."""
        ...


class Open(msgspec.Struct):
    """One request between its routing and its row. `state`: in force when it was routed."""

    exchange: Exchange
    state: State
    reserved: list[Reservation]
    written: Landing | None = None
    row: RequestRow | None = None
    """Its row, once it has ended."""


class Engine:
    """All requests between their routing and their rows."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self.instance = secrets.token_hex(4)
        self.state: State = make_state(config)
        self.ledger = ledger
        self.world = World(config)
        self.open: dict[str, Open] = {}
        self.denied: Counter[str] = Counter()
        self.closing = False
        self.slow_client: Callable[[Client], bool] = lambda _: False
        self.heard: Callable[[str], bool] = lambda _: True
        self.viewing: Viewing | None = None
        self._ours: set[tuple[int, int]] = set()
        """Attempts under way that our key pays: (request id, n)."""
        self._gate = Gate()
        self._router = Router(self.instance, self.world)

    @property
    def shows_attempts(self) -> bool:
        """For `stream.Service`."""
        return self.viewing is not None and self.viewing.watched

    def real(self, flow: http.HTTPFlow) -> http.Request:
        """The client's request with its secrets, which a flow that people look at does not hold."""
        return flow.request if self.viewing is None else self.viewing.real(flow)

    @property
    def head_bytes(self) -> int:
        """For `stream.Service`."""
        return self.state.config.limits.header_bytes

    @property
    def body_bytes(self) -> int:
        """For `stream.Service`."""
        return self.state.config.limits.body_bytes

    @property
    def read_on_s(self) -> float:
        """For `stream.Service`."""
        return self.state.config.fallback.total_s

    def too_large(self, flow: http.HTTPFlow) -> http.Response:
        """The answer to a body over the limit, in the dialect of its path."""
        self.denied["body_too_large"] += 1
        message = f"the body is larger than {self.body_bytes:,} bytes (limits.body_bytes)"
        problem = Problem(413, message, "invalid_request_error", "body_too_large")
        return error_response(flow, problem)

    @property
    def request_s(self) -> float:
        """For `stream.Service`."""
        return self.state.config.limits.request_seconds

    def use(self, config: Config) -> None:
        """A reloaded config takes effect for the requests from now on."""
        self.state = make_state(config)
        if self.viewing is not None:
            self.viewing.use(config)
        self.world.use(config)

    # --- routing ----------------------------------------------------------------------------------

    def route(self, flow: http.HTTPFlow, dialect: Dialect) -> None:
        """Route a metered request. Raises Refused."""
        ticket = self.ticket(flow, dialect)
        self._open(flow, ticket, [self._reserve(ticket)])

    def ticket(self, flow: http.HTTPFlow, dialect: Dialect) -> Ticket:
        """Read and route a request without reserving or sending anything. Raises Refused."""
        return self._router.ticket(flow, self.real(flow), dialect, self.state)

    def pass_through(self, flow: http.HTTPFlow) -> None:
        """Send a request that is not ours to the first provider, as it is."""
        self._open(flow, self._router.pass_through(flow, self.state), [])

    def _reserve(self, ticket: Ticket) -> Reservation:
        expected = _to_hold(ticket.ask, ticket.route.candidates[0])
        held = self.world.caps.reserve(ticket.route.choice.name, expected, wall_ms())
        if isinstance(held, CapHit):
            problem = Problem(402, str(held), "invalid_request_error", "cap_reached")
            raise Refused(problem, ticket)
        return held

    def _reserve_more(
        self, policy: str | None, reserved: list[Reservation], expected_msats: float
    ) -> bool:
        """Before a further attempt: hold what it may cost beyond what is held already."""
        missing = expected_msats - sum(held.msats for held in reserved)
        if missing <= 0 or not reserved:
            return True
        held = self.world.caps.reserve(policy, missing, wall_ms())
        if isinstance(held, CapHit):
            return False
        reserved.append(held)
        return True

    def _open(self, flow: http.HTTPFlow, ticket: Ticket, reserved: list[Reservation]) -> None:
        policy = ticket.route.choice.name
        exchange = Exchange(
            ticket,
            timing=self.state.timing,
            limits=self.state.limits,
            breakers=self.world.breakers,
            wall_ms=wall_ms,
            keys=self.state.keys.and_also(_client_keys(self.real(flow))),
            jitter=lambda: random.uniform(0, 0.1),  # noqa: S311 - spreads retries, guards nothing
            may_try=lambda c: self._reserve_more(policy, reserved, _to_hold(ticket.ask, c)),
        )
        self.open[flow.id] = Open(exchange, self.state, reserved)
        if self._has_row(flow, ticket):
            self.ledger.begin(first_row(ticket))

    def _has_row(self, flow: http.HTTPFlow, ticket: Ticket) -> bool:
        return ticket.dialect.metered or flow.request.method == "POST"

    def refuse(self, flow: http.HTTPFlow, ticket: Ticket, problem: Problem) -> None:
        """Our own 4xx on a priced path has a row."""
        row = refused_row(
            ticket,
            status=problem.status,
            code=problem.code or problem.type,
            message=problem.message,
            ended_s=time.monotonic(),
        )
        self.ledger.finish(row, ())
        if self.viewing is not None:
            self.viewing.refused(flow, ticket, row, problem)

    # --- stream.Service ---------------------------------------------------------------------------

    def exchange(self, flow: http.HTTPFlow) -> Exchange | None:
        """What `route` or `pass_through` decided."""
        found = self.open.get(flow.id)
        return None if found is None else found.exchange

    def upstream_request(
        self, flow: http.HTTPFlow, exchange: Exchange, order: core.Try
    ) -> http.Request:
        """The request of one attempt."""
        state = self.open[flow.id].state
        provider = state.providers[order.candidate.model.provider]
        client = self.real(flow)
        key = outgoing.our_key(client, provider)
        if key is not None:
            self._ours.add((exchange.ticket.id, order.n))
            self.world.balance_watch.began(provider.name)
        body, token = exchange.body_for(order.candidate), state.config.server.auth_token
        return outgoing.upstream_request(client, provider, key=key, body=body, token=token)

    def head(self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt) -> http.Response:
        """The head of a streamed answer."""
        response = outgoing.stream_head(flow.request, exchange, attempt, self.state)
        return self._shown(flow, response)

    def answer(self, flow: http.HTTPFlow, exchange: Exchange, answer: core.Answer) -> http.Response:
        """A whole answer, or an error of ours."""
        row = self.open[flow.id].row or final_row(exchange)
        response = outgoing.whole_answer(flow.request, exchange, answer, row, self.state)
        return self._shown(flow, response)

    def _shown(self, flow: http.HTTPFlow, response: http.Response) -> http.Response:
        """What the flow gets; `response_down` is what the client gets."""
        return response if self.viewing is None else self.viewing.hide_response(flow, response)

    def response_down(self, flow: http.HTTPFlow) -> http.Response:
        """For `stream.Service`."""
        assert flow.response is not None
        return flow.response if self.viewing is None else self.viewing.response_down(flow)

    def last_bytes(self, exchange: Exchange) -> bytes:
        """A comment with the cost, then the end."""
        attempt = exchange.current
        tail = b"".join(attempt.tryout.tail)
        if exchange.outcome != "ok" or attempt.tryout.shape != "stream":
            return tail
        cost = sats(final_row(exchange).cost_msats)
        model = attempt.candidate.model.id
        return comment(f"arbstr cost_sats={cost or 'unknown'} model={model}") + tail

    def settle(self, flow: http.HTTPFlow, exchange: Exchange) -> Callable[[], object]:
        """Queue the row and give back what was reserved; what is left is to learn from it."""
        found = self.open.get(flow.id)
        if found is None:
            return lambda: None
        row = found.row = final_row(exchange)
        if self._has_row(flow, exchange.ticket):
            self._write(found, row)
        for number, reservation in enumerate(found.reserved):
            self.world.caps.settle(reservation, 0 if number else _spent(row))
        loop = asyncio.get_running_loop()
        return lambda: loop.call_soon(self._learn, exchange, row)

    def _learn(self, exchange: Exchange, row: RequestRow) -> None:
        self.world.learn(exchange, row)
        for attempt in exchange.attempts:
            if not attempt.read_on:
                self._watch_balance(exchange, attempt)

    def _write(self, found: Open, row: RequestRow) -> None:
        loop = asyncio.get_running_loop()
        written = found.written = self._gate.shut()
        attempts = tuple(map(attempt_row, found.exchange.attempts))
        self.ledger.finish(row, attempts, lambda: self._gate.land(written, loop))

    def written(self, flow: http.HTTPFlow) -> Landing | None:
        """The flow has ended. What its answer waits for; None where there is nothing."""
        found = self.open.pop(flow.id, None)
        if self.viewing is not None and found is not None:
            self.viewing.finished(flow, found.exchange, self.last_bytes)
        return None if found is None else found.written

    def late(self, exchange: Exchange, attempt: Attempt) -> None:
        """The bill of an attempt that was given up has come."""
        self.ledger.late(late_cost(exchange, attempt))
        self._watch_balance(exchange, attempt)
        if self.viewing is not None:
            self.viewing.late(exchange, attempt)

    def _watch_balance(self, exchange: Exchange, attempt: Attempt) -> None:
        """An attempt that our key paid has its bill, or never will."""
        tried = (exchange.ticket.id, attempt.n)
        if tried not in self._ours:
            return
        self._ours.discard(tried)
        cost, bill = attempt_cost(attempt), attempt.tryout.bill
        billed = cost.msats if cost.source == "billed" else None
        balance = None if bill is None else bill.balance_msats
        provider = attempt.candidate.model.provider
        missing = self.world.balance_watch.ended(provider, billed, balance)
        if missing:
            logger.warning(
                "the balance at %s fell by %s sats more than the requests explain; does something "
                "else use the key?",
                provider,
                sats(missing),
            )

    def sent_down(self, flow: http.HTTPFlow, data: bytes) -> None:
        """For `stream.Service`: keep it where somebody looks."""
        if self.viewing is not None:
            self.viewing.keep(flow, data)

    def attempt_flow(
        self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt, request: http.Request
    ) -> http.HTTPFlow:
        """For `stream.Service`, where `shows_attempts`."""
        assert self.viewing is not None
        return self.viewing.attempt_flow(flow, exchange, attempt, request)

    def is_slow(self, client: Client) -> bool:
        """Whether `client` leaves bytes unread."""
        return self.slow_client(client)

    def is_heard(self, event: str) -> bool:
        """Whether an add-on listens to `event`."""
        return self.heard(event)


def _client_keys(request: http.Request) -> list[str]:
    """Keys of the client's own: an upstream's error may quote them, the ledger must not."""
    names = (b"authorization", b"x-api-key", b"x-cashu")
    return [word for name in names for text in values(request, name) for word in text.split()]


def _to_hold(ask: Ask, candidate: Candidate) -> float:
    """What is held against the caps before `candidate` is asked."""
    return 0.0 if ask.free else candidate.expected_msats or 0.0


def _spent(row: RequestRow) -> int | None:
    """What counts against a cap: 0 for a request that surely cost nothing."""
    if row.cost_msats is None and row.outcome == "error":
        return 0
    return row.cost_msats

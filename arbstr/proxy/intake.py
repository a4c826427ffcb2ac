"""What becomes of a request before anything is sent: turned away, answered by us, or routed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Iterator

from mitmproxy import http

from arbstr.core.dialects import by_path
from arbstr.core.dialects.base import Problem
from arbstr.proxy import guard
from arbstr.proxy.endpoints import Endpoints
from arbstr.proxy.engine import Engine
from arbstr.proxy.messages import value
from arbstr.proxy.outgoing import error_response
from arbstr.proxy.routing import Refused
from arbstr.proxy.sync import Sync
from arbstr.proxy.viewing import Viewing

logger = logging.getLogger(__name__)

NOT_READY = guard.Denial(503, "not_ready", "arbstr is not ready", close=True)
FAILED = Problem(500, "arbstr has failed", "api_error", "bug")
_FIRST_PRICES_S = 2.0
"""How long the very first requests wait for prices; later ones never do."""


def deny(
    flow: http.HTTPFlow, denial: guard.Denial, denied: Counter[str], viewing: Viewing | None
) -> None:
    """Answer a request that is turned away, count it, and show why to who looks."""
    denied[denial.code] += 1
    kind = "invalid_request_error" if denial.status < 500 else "api_error"
    problem = Problem(denial.status, denial.message, kind, denial.code)
    flow.response = error_response(flow, problem)
    if denial.close:
        flow.response.headers["connection"] = "close"
    if denial.status == 503:
        flow.response.headers["retry-after"] = "1"
    if viewing is not None:
        viewing.denied(flow, denial.code)


class Intake:
    """Every request comes here twice: with its head, and when it is whole."""

    def __init__(self, engine: Engine, endpoints: Endpoints, sync: Sync) -> None:
        self._engine = engine
        self._endpoints = endpoints
        self._sync = sync

    # --- the head ---------------------------------------------------------------------------------

    def let_in(self, flow: http.HTTPFlow) -> None:
        """Turn away who may not be here, and what is too large, before the body comes."""
        engine, request = self._engine, flow.request
        server, limits = engine.state.config.server, engine.state.config.limits
        path = request.path.partition("?")[0]
        priced = request.method == "POST" and by_path(path) is not None
        denial = guard.check_peer(flow.client_conn.peername[0], server)
        denial = denial or guard.check(engine.real(flow), server, priced=priced)
        length = value(request, b"content-length") or ""
        if denial is None and engine.closing:
            denial = guard.Denial(503, "shutting_down", "arbstr is shutting down", close=True)
        elif denial is None and length.isdigit() and int(length) > limits.body_bytes:
            flow.response = engine.too_large(flow)
        elif denial is None:
            denial = self._check_load(request)
        if denial is not None:
            self._deny(flow, denial)
        if flow.response is not None:
            request.headers.pop("expect", None)  # nobody is asked to go on
            flow.response.headers.update(guard.allow_origin(request, server))

    def _check_load(self, request: http.Request) -> guard.Denial | None:
        """Our own endpoints always answer; what goes up is bounded."""
        limit = self._engine.state.config.limits.concurrent
        if len(self._engine.open) < limit or self._endpoints.serves(request):
            return None
        message = f"more than {limit} requests at a time (limits.concurrent)"
        return guard.Denial(503, "too_many_requests", message)

    def _deny(self, flow: http.HTTPFlow, denial: guard.Denial) -> None:
        deny(flow, denial, self._engine.denied, self._engine.viewing)

    # --- the whole request ------------------------------------------------------------------------

    def take(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Route it, or answer it ourselves; returns what is left of that where it takes a while."""
        with self._failing_closed(flow):
            if self._engine.viewing is not None:
                self._engine.viewing.hide_body(flow)
            if not self._sync.tried or self._endpoints.serves(flow.request):
                return self._take_slowly(flow)
            self._send_up(flow)
        return None

    async def _take_slowly(self, flow: http.HTTPFlow) -> None:
        """A request to arbstr itself, or one of the very first."""
        with self._failing_closed(flow):
            if self._answer_preflight(flow):
                return
            if not self._sync.tried:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._sync.first_prices(), _FIRST_PRICES_S)
            if self._endpoints.serves(flow.request):
                flow.response = await self._endpoints.answer(flow)
            else:
                self._send_up(flow)

    @contextlib.contextmanager
    def _failing_closed(self, flow: http.HTTPFlow) -> Iterator[None]:
        """A bug is a 500, never an unrouted flow."""
        engine = self._engine
        try:
            yield
        except Refused as refused:
            ticket = refused.ticket
            if ticket is not None:
                engine.refuse(flow, ticket, refused.problem)
            flow.response = error_response(flow, refused.problem, ticket.id if ticket else None)
        except Exception:
            logger.exception("a request could not be routed")
            flow.response = error_response(flow, FAILED)
        if flow.response is not None:
            cors = guard.allow_origin(flow.request, engine.state.config.server)
            flow.response.headers.update(cors)

    def _send_up(self, flow: http.HTTPFlow) -> None:
        """Raises engine.Refused."""
        request = flow.request
        if self._answer_preflight(flow):
            return
        if (denial := self._check_load(request)) is not None:
            self._deny(flow, denial)
            return
        dialect = by_path(request.path.partition("?")[0]) if request.method == "POST" else None
        if dialect is None:
            self._engine.pass_through(flow)
        elif value(request, b"x-arbstr-explain") == "1":
            flow.response = self._endpoints.explain(flow, dialect)
        else:
            self._engine.route(flow, dialect)

    def _answer_preflight(self, flow: http.HTTPFlow) -> bool:
        cors = guard.preflight(flow.request, self._engine.state.config.server)
        if cors is not None:
            flow.response = http.Response.make(204, b"", cors)
        return cors is not None

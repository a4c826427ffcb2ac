"""The fallback layer: an HTTP stream that may ask more than one upstream before it answers.

mitmproxy's `HttpStream` sends a request to one server and relays whatever comes. Here, in reverse
mode, `FallbackLayer` (`layer.py`) takes the place of `HttpLayer` and builds `FallbackStream`
objects: such a stream keeps what an attempt sends back until it is known to be an answer, and sends
the next attempt itself where it is not. What to do is decided elsewhere (`core/exchange.py`); this
module turns the proxy core's events into the exchange's, and its commands into the core's:

    HttpLayer --events--> FallbackStream --> Exchange --commands--> FallbackStream --> HttpLayer

An attempt that was abandoned can be read to its end in the background: it has a link, and a
connection, of its own (`pool.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)
from mitmproxy.proxy.layers.http._events import ErrorCode

from arbstr.core import exchange as core
from arbstr.core.exchange import Attempt, Exchange, Phase
from arbstr.proxy.burst import Burst
from arbstr.proxy.decode import Decoder, Identity, decoder
from arbstr.proxy.incoming import IncomingStream
from arbstr.proxy.messages import value
from arbstr.proxy.pool import GetAttemptConnection, Link
from arbstr.proxy.service import FallbackPauseHook, ShutDown, Tick

if TYPE_CHECKING:
    from arbstr.proxy.layer import FallbackLayer  # it builds streams, and they know it

_FROM_CLIENT = (RequestHeaders, RequestData, RequestEndOfMessage)
CLOSING_S = 5.0
"""How long a whole answer's connection may take to end before it is closed instead of kept."""


class FallbackStream(IncomingStream):
    """One request of a client, and all its attempts."""

    def __init__(self, context: Context, stream_id: int, parent: FallbackLayer) -> None:
        super().__init__(context, stream_id, parent)
        self.exchange: Exchange | None = None
        self.links: dict[int, Link] = {}
        self.requests: dict[int, http.Request] = {}
        """What each attempt has sent, where somebody wants to see it."""
        self.finished = False

    # --- events in --------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        exchange = self.exchange
        if isinstance(event, Burst):
            for part in event.events:
                yield from self._handle_event(part)
        elif exchange is None:
            if isinstance(event, _FROM_CLIENT):
                yield from self.client_state(event)
            elif not isinstance(event, Tick | ShutDown):
                yield from super()._handle_event(event)
        elif isinstance(event, Tick):
            slow = self.service.is_slow(self.context.client)
            yield from self.perform(exchange.tick(_now(), backlog=slow))
            yield from self.close_overdue()
        elif isinstance(event, ShutDown):
            yield from self.perform(exchange.shut_down(_now()))
        elif isinstance(event, RequestProtocolError):
            yield from self.client_left(event)
        elif link := self.links.get(getattr(event, "stream_id", 0)):
            yield from self.upstream_event(link, exchange, event)
        if self.finished and not self.links:
            self.untie()

    def upstream_event(
        self, link: Link, exchange: Exchange, event: events.Event
    ) -> layer.CommandGenerator[None]:
        """What one of the upstreams sent."""
        if isinstance(event, ResponseHeaders):
            try:
                _check_head(event.response)
                link.decoder = _take_encoding(event.response)
            except ValueError as error:
                yield from self.cancel(link)
                yield from self.perform(exchange.error(link.n, "reset", str(error), _now()))
                return
            response = event.response
            out = exchange.headers(link.n, response.status_code, response.headers.fields, _now())
            yield from self.perform(out)
        elif isinstance(event, ResponseData):
            yield from self.upstream_data(link, exchange, event.data)
        elif isinstance(event, ResponseEndOfMessage):
            self.forget(link)
            try:
                rest = (link.decoder or Identity()).flush()
            except ValueError as error:
                yield from self.perform(exchange.error(link.n, "reset", str(error), _now()))
                return
            if rest:
                yield from self.perform(exchange.data(link.n, rest, _now()))
            yield from self.perform(exchange.end(link.n, _now()))
        elif isinstance(event, ResponseProtocolError):
            self.forget(link)
            yield from self.perform(exchange.error(link.n, "reset", event.message, _now()))

    def upstream_data(
        self, link: Link, exchange: Exchange, data: bytes
    ) -> layer.CommandGenerator[None]:
        """Bytes of a body, decoded as they come."""
        try:
            plain = (link.decoder or Identity()).decode(data)
        except ValueError as error:
            yield from self.cancel(link)
            yield from self.perform(exchange.error(link.n, "reset", str(error), _now()))
            return
        yield from self.perform(exchange.data(link.n, plain, _now()))

    def client_left(self, event: RequestProtocolError) -> layer.CommandGenerator[None]:
        """The client is gone. Upstreams are read on, so their connections stay."""
        assert self.exchange is not None
        if self.finished:
            return
        self.client_state = self.state_errored
        if self.flow.error is None:
            self.flow.error = mflow.Error(event.message)
        yield from self.perform(self.exchange.client_left(_now()))

    # --- commands out -----------------------------------------------------------------------------

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """The request is whole and no add-on has answered it: here the base would connect."""
        self.exchange = self.service.exchange(self.flow)
        if self.exchange is None:
            # Fail closed: a request that nobody routed goes nowhere.
            message = "arbstr did not route this request"
            error = ResponseProtocolError(self.stream_id, message, ErrorCode.GENERIC_SERVER_ERROR)
            yield from self.handle_protocol_error(error)
            return False
        self.server_state = self.state_errored
        yield from self.perform(self.exchange.start(_now()))
        yield from self.parent.ask_for_tick()
        return False

    def perform(self, orders: Iterable[core.Command]) -> layer.CommandGenerator[None]:
        """Carry out what the exchange decided, in order."""
        assert self.exchange is not None
        for order in orders:
            match order:
                case core.Data(data):
                    self.service.sent_down(self.flow, data)
                    yield SendHttp(ResponseData(self.stream_id, data), self.context.client)
                case core.Try():
                    yield from self.try_(order)
                case core.Head(attempt):
                    yield from self.send_head(attempt)
                case core.Settle():
                    yield from self.settle()
                case core.Answer():
                    yield from self.send_answer()
                case core.Finish():
                    yield from self.finish()
                case core.Abort():
                    yield from self.abort()
                case core.Cancel(n):
                    for link in [link for link in self.links.values() if link.n == n]:
                        yield from self.cancel(link)
                case core.Late(attempt):
                    self.service.late(self.exchange, attempt)
                case core.Pause():
                    yield from self.show_failed()
                    yield FallbackPauseHook(order)
                    yield from self.perform(self.exchange.resume(_now()))

    def try_(self, order: core.Try) -> layer.CommandGenerator[None]:
        """Send one attempt."""
        exchange = self.exchange
        assert exchange is not None
        yield from self.show_failed()
        request = self.service.upstream_request(self.flow, exchange, order)
        link = self.parent.new_link(self, order.n)
        self.links[link.upstream_id] = link
        if self.service.shows_attempts:
            self.requests[order.n] = request
        get = GetAttemptConnection(
            (request.host, request.port), request.scheme == "https", None, fresh=order.fresh
        )
        connection: Server | None = None if order.fresh else self.parent.idle(get)
        failure: str | None = None
        if connection is None:
            connection, failure = yield get
        if connection is None:
            self.forget(link)
            yield from self.perform(exchange.error(order.n, "connect", failure or "", _now()))
            return
        if any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue):
            self.forget(link)
            exchange.client_left(_now())
            message = "the client left before anything was sent"
            yield from self.perform(exchange.error(order.n, "connect", message, _now()))
            return
        link.connection = connection
        self.context.server = self.flow.server_conn = connection
        exchange.sent(order.n, _now(), reused=self.parent.take(connection, link))
        content = request.raw_content
        if not self.service.shows_attempts:
            request.raw_content = None  # whoever keeps the head need not keep the body
        n = link.upstream_id
        data = [RequestData(n, content)] if content else []
        burst = (RequestHeaders(n, request, not content), *data, RequestEndOfMessage(n))
        yield SendHttp(Burst(n, burst), connection)

    def send_head(self, attempt: Attempt) -> layer.CommandGenerator[None]:
        """The commit of a streamed answer."""
        assert self.exchange is not None
        yield from self.show_failed(but=attempt)
        self.flow.response = self.service.head(self.flow, self.exchange, attempt)
        yield from self.offer_head()
        if self.exchange.client_here:
            response = self.service.response_down(self.flow)
            head = ResponseHeaders(self.stream_id, response, end_stream=False)
            yield SendHttp(head, self.context.client)

    def offer_head(self) -> layer.CommandGenerator[None]:
        """The head of an answer, for add-ons that want to see it."""
        if self.service.is_heard(HttpResponseHeadersHook.name):
            yield from self.offer(HttpResponseHeadersHook(self.flow))

    def settle(self) -> layer.CommandGenerator[None]:
        """Have the row written, then send what was waiting for it."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.answering is None:
            yield from self.show_failed()
        learn = self.service.settle(self.flow, exchange)
        if exchange.whole is not None:
            self.flow.response = self.service.answer(self.flow, exchange, exchange.whole)
            yield from self.offer_head()
        if exchange.client_here and self.flow.response is not None:
            self.flow.response.timestamp_end = time.time()
            yield from self.offer(HttpResponseHook(self.flow))
            if (yield from self.check_killed(emit_error_hook=False)):
                exchange.client_left(_now())
        else:
            self.flow.error = self.flow.error or mflow.Error("the client left")
            yield from self.offer(HttpErrorHook(self.flow))
        if any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue):
            exchange.client_left(_now())
        yield from self.perform(exchange.settled())
        if not self.finished:
            yield from self.drop()
        learn()

    def send_answer(self) -> layer.CommandGenerator[None]:
        """A whole answer goes down, as the ``response`` hooks have left it."""
        response = self.service.response_down(self.flow)
        content = response.raw_content
        n = self.stream_id
        data = [ResponseData(n, content)] if content else []
        burst = (ResponseHeaders(n, response, not content), *data, ResponseEndOfMessage(n))
        yield from self.drop()
        yield SendHttp(Burst(n, burst), self.context.client)

    def finish(self) -> layer.CommandGenerator[None]:
        """The end of a streamed answer goes down."""
        assert self.exchange is not None
        last = self.service.last_bytes(self.exchange)
        if last:
            yield SendHttp(ResponseData(self.stream_id, last), self.context.client)
        yield from self.drop()
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def abort(self) -> layer.CommandGenerator[None]:
        """What went down is not whole: the connection breaks, so that nobody takes it for whole."""
        yield from self.drop()
        message = "the upstream's answer was cut"
        error = ResponseProtocolError(self.stream_id, message, ErrorCode.KILL)
        yield SendHttp(error, self.context.client)

    def drop(self) -> layer.CommandGenerator[None]:
        """The client's side is done. Links that are still open are read on for a while."""
        assert self.exchange is not None
        self.finished = True
        self.flow.live = False
        self.client_state = self.server_state = self.state_errored
        now = _now()
        for link in self.links.values():
            whole = self.exchange.attempts[link.n - 1].tryout.ended
            link.read_until_s = now + (CLOSING_S if whole else self.service.read_on_s)
        yield DropStream(self.stream_id)

    def untie(self) -> None:
        """All is over: without these circles what the stream holds is freed at once.

        Else it waits for the garbage collector, and that took a tenth of the proxy's time.
        """
        self.context.layers.clear()
        self.client_state = self.server_state = _over

    # --- links ------------------------------------------------------------------------------------

    def cancel(self, link: Link) -> layer.CommandGenerator[None]:
        """Close an attempt's connection (HTTP/2: reset its stream)."""
        self.forget(link)
        if link.connection is not None and link.connection.connected:
            error = RequestProtocolError(link.upstream_id, "given up", ErrorCode.CANCEL)
            yield SendHttp(error, link.connection)

    def forget(self, link: Link) -> None:
        """No more events of this attempt."""
        self.links.pop(link.upstream_id, None)
        self.parent.release(link)

    def close_overdue(self) -> layer.CommandGenerator[None]:
        """Attempts that were read on for long enough."""
        assert self.exchange is not None
        now = _now()
        for link in list(self.links.values()):
            if link.read_until_s is not None and now >= link.read_until_s:
                yield from self.cancel(link)
                out = self.exchange.error(link.n, "reset", "not read to its end in time", now)
                yield from self.perform(out)

    def next_deadline_s(self) -> float | None:
        """When this stream has something to do on a tick."""
        deadlines = [link.read_until_s for link in self.links.values()]
        if self.exchange is not None and not self.finished:
            deadlines.append(self.exchange.deadline_s())
        return min((d for d in deadlines if d is not None), default=None)

    def stuck_connecting(self, now_s: float) -> Link | None:
        """The link that waits for its connection for longer than the attempt may take."""
        if self.exchange is None or self.exchange.phase is not Phase.TRYING:
            return None
        deadline = self.exchange.deadline_s()
        if deadline is None or now_s < deadline:
            return None
        return next((link for link in self.links.values() if link.connection is None), None)

    def show_failed(self, but: Attempt | None = None) -> layer.CommandGenerator[None]:
        """Announce failed attempts that nobody has seen yet as flows of their own."""
        exchange = self.exchange
        assert exchange is not None
        if not self.service.shows_attempts:
            return
        for attempt in exchange.attempts:
            request = self.requests.pop(attempt.n, None)
            if attempt is but or attempt.failure is None or request is None:
                continue
            flow = self.service.attempt_flow(self.flow, exchange, attempt, request)
            yield HttpRequestHeadersHook(flow)
            yield HttpRequestHook(flow)
            if flow.error is not None:
                yield HttpErrorHook(flow)
            else:
                yield HttpResponseHeadersHook(flow)
                yield HttpResponseHook(flow)


def _now() -> float:
    return time.monotonic()


def _over(_: events.Event) -> layer.CommandGenerator[None]:
    """The state of a stream that is of no more use."""
    yield from ()


def _check_head(response: http.Response) -> None:
    """Raises ValueError for a head that is malformed, or that leaves HTTP."""
    validate_headers(response)
    if response.status_code == 101:
        raise ValueError("the upstream switched protocols")


def _take_encoding(response: http.Response) -> Decoder:
    """The decoder of a response, whose header then no longer names an encoding."""
    encoding = value(response, b"content-encoding")
    if encoding is None:
        return Identity()
    del response.headers["content-encoding"]
    return decoder(encoding)

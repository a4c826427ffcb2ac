"""The fallback layer: an HTTP stream that may ask more than one upstream before it answers.

mitmproxy's `HttpStream` sends a request to one server and relays whatever comes. Here, in reverse
mode, `FallbackLayer` takes the place of `HttpLayer` and builds `FallbackStream` objects: such a
stream keeps what an attempt sends back until it is known to be an answer, and sends the next
attempt itself where it is not. What to do is decided elsewhere (`core/exchange.py`); this module
turns the proxy core's events into the exchange's, and its commands into the core's:

    HttpLayer --events--> FallbackStream --> Exchange --commands--> FallbackStream --> HttpLayer

Every attempt has an upstream stream id of its own (negative, so that it is never a client's), which
`HttpLayer.streams` knows as an alias of its stream. Late events of an abandoned attempt are told
from the current one's by that id, and an abandoned attempt can be read to its end in the
background.

Clocks: timers of the proxy core cannot be cancelled, and each keeps its stream alive. So a layer
asks for one short tick at a time while anything is open, and each stream looks at its own clocks
then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events, layer, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import tls
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpClient,
    HttpErrorHook,
    HttpLayer,
    HTTPMode,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
    HttpStream,
    RegisterHttpConnection,
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
from mitmproxy.proxy.layers.http._http2 import Http2Client

from arbstr.core import exchange as core
from arbstr.core.exchange import Attempt, Exchange, Phase
from arbstr.proxy.decode import Decoder, Identity, decoder
from arbstr.proxy.http1 import GuardedClient, GuardedServer, Overdue

LONGEST_TICK_S = 0.5
SHORTEST_TICK_S = 0.01
CLOSING_S = 5.0
"""How long a whole answer's connection may take to end before it is closed instead of kept."""


class Service(Protocol):
    """What the layer needs of the add-on. All calls are on the event loop and return at once."""

    @property
    def shows_attempts(self) -> bool:
        """Whether somebody looks: then a failed attempt becomes a flow of its own."""
        ...

    @property
    def head_bytes(self) -> int:
        """The largest head accepted, of requests and of responses."""
        ...

    @property
    def body_bytes(self) -> int:
        """The largest request body accepted."""
        ...

    @property
    def request_s(self) -> float:
        """How long a client may take to send its request."""
        ...

    @property
    def read_on_s(self) -> float:
        """How long an attempt that was given up is read on for its bill."""
        ...

    def too_large(self, flow: http.HTTPFlow) -> http.Response:
        """The answer to a body over the limit."""
        ...

    def exchange(self, flow: http.HTTPFlow) -> Exchange | None:
        """What the ``request`` hook decided for `flow`; None where it decided nothing."""
        ...

    def upstream_request(
        self, flow: http.HTTPFlow, exchange: Exchange, order: core.Try
    ) -> http.Request:
        """The whole request of one attempt, its destination included."""
        ...

    def head(self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt) -> http.Response:
        """The head of a streamed answer."""
        ...

    def answer(self, flow: http.HTTPFlow, exchange: Exchange, answer: core.Answer) -> http.Response:
        """A whole answer."""
        ...

    def response_down(self, flow: http.HTTPFlow) -> http.Response:
        """The answer for the client, where the flow's own holds masks for secrets."""
        ...

    def last_bytes(self, exchange: Exchange) -> bytes:
        """What ends a streamed answer: from the end marker on."""
        ...

    def settle(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Queue the row. The ``response`` hook waits for it."""
        ...

    def late(self, exchange: Exchange, attempt: Attempt) -> None:
        """An attempt that was given up has come to its end."""
        ...

    def sent_down(self, flow: http.HTTPFlow, data: bytes) -> None:
        """A piece of a streamed answer went to the client."""
        ...

    def attempt_flow(
        self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt, request: http.Request
    ) -> http.HTTPFlow:
        """A failed attempt, to be shown beside the flow it belongs to."""
        ...

    def is_slow(self, client: Client) -> bool:
        """Whether bytes wait for `client` to read them, so that nothing is read from upstreams."""
        ...


@dataclass
class FallbackPauseHook(commands.StartHook):
    """A stream waits before it asks the same upstream again. The add-on's method sleeps."""

    pause: core.Pause


@dataclass(repr=False)
class Tick(events.Event):
    """Time has passed: look at the clocks."""


@dataclass(repr=False)
class ShutDown(events.Event):
    """The proxy stops: end what is under way."""


@dataclass(eq=False)
class GetAttemptConnection(GetHttpConnection):
    """Like its base; `fresh`: never one that has served before."""

    fresh: bool = False


@dataclass
class Link:
    """One attempt's way to its upstream."""

    n: int
    upstream_id: int
    request: http.Request
    connection: Connection | None = None
    decoder: Decoder | None = None
    read_until_s: float | None = None
    """Set once nobody waits for it any more: when to close it."""


class FallbackStream(HttpStream):
    """One request of a client, and all its attempts."""

    def __init__(self, context: Context, stream_id: int, parent: FallbackLayer) -> None:
        super().__init__(context, stream_id)
        self.parent = parent
        self.service = parent.service
        self.exchange: Exchange | None = None
        self.links: dict[int, Link] = {}
        self.requests: dict[int, http.Request] = {}
        """What each attempt has sent, where somebody wants to see it."""
        self.finished = False

    # --- events in --------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        exchange = self.exchange
        if exchange is None:
            if isinstance(event, Tick | ShutDown):
                return
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

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        """Answer a request that is refused by its head before its body has come."""
        yield from super().state_wait_for_request_headers(event)
        if not event.end_stream:
            yield from self.answer_early()

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Keep no body that is over the limit."""
        if isinstance(event, RequestData):
            size = len(self.request_body_buf) + len(event.data)
            if size > self.service.body_bytes:
                self.flow.response = self.service.too_large(self.flow)
                yield from self.answer_early()
                return
        yield from super().state_consume_request_body(event)

    def answer_early(self) -> layer.CommandGenerator[None]:
        """Send the answer, if there is one, and take no notice of the rest of the body.

        The connection closes, but not before the body has ended or its time is up: the client may
        still be writing, and a reset would take the answer away from it (RFC 9112, 9.6).
        """
        if self.client_state != self.state_consume_request_body or self.flow.response is None:
            return
        self.request_body_buf.clear()
        self.flow.response.headers["connection"] = "close"
        self.client_state = self.state_ignore_request_body
        yield HttpResponseHeadersHook(self.flow)
        yield from self.send_response()

    def state_ignore_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is out; wait for the end of the request."""
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

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
        link = self.parent.new_link(self, order.n, request)
        get = GetAttemptConnection(
            (request.host, request.port), request.scheme == "https", None, fresh=order.fresh
        )
        connection, failure = yield get
        if failure:
            self.forget(link)
            yield from self.perform(exchange.error(order.n, "connect", failure, _now()))
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
        headers = RequestHeaders(link.upstream_id, request, end_stream=not content)
        yield SendHttp(headers, connection)
        if content:
            yield SendHttp(RequestData(link.upstream_id, content), connection)
        yield SendHttp(RequestEndOfMessage(link.upstream_id), connection)

    def send_head(self, attempt: Attempt) -> layer.CommandGenerator[None]:
        """The commit of a streamed answer."""
        assert self.exchange is not None
        yield from self.show_failed(but=attempt)
        self.flow.response = self.service.head(self.flow, self.exchange, attempt)
        yield HttpResponseHeadersHook(self.flow)
        if self.exchange.client_here:
            response = self.service.response_down(self.flow)
            head = ResponseHeaders(self.stream_id, response, end_stream=False)
            yield SendHttp(head, self.context.client)

    def settle(self) -> layer.CommandGenerator[None]:
        """Have the row written, then send what was waiting for it."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.answering is None:
            yield from self.show_failed()
        if exchange.whole is not None:
            self.flow.response = self.service.answer(self.flow, exchange, exchange.whole)
            yield HttpResponseHeadersHook(self.flow)
        self.service.settle(self.flow, exchange)
        if exchange.client_here and self.flow.response is not None:
            self.flow.response.timestamp_end = time.time()
            yield HttpResponseHook(self.flow)
            if (yield from self.check_killed(emit_error_hook=False)):
                exchange.client_left(_now())
        else:
            self.flow.error = self.flow.error or mflow.Error("the client left")
            yield HttpErrorHook(self.flow)
        if any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue):
            exchange.client_left(_now())
        yield from self.perform(exchange.settled())
        if not self.finished:
            yield from self.drop()

    def send_answer(self) -> layer.CommandGenerator[None]:
        """A whole answer goes down, as the ``response`` hooks have left it."""
        response = self.service.response_down(self.flow)
        content = response.raw_content
        head = ResponseHeaders(self.stream_id, response, end_stream=not content)
        yield SendHttp(head, self.context.client)
        if content:
            yield SendHttp(ResponseData(self.stream_id, content), self.context.client)
        yield from self.drop()
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

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


class FallbackLayer(HttpLayer):
    """One client connection, its streams, and the upstream connections they share."""

    def __init__(self, context: Context, service: Service) -> None:
        super().__init__(context, HTTPMode.transparent)
        self.service = service
        self._last_upstream_id = 0
        self._serving: dict[Connection, set[int]] = {}
        self._served: set[Connection] = set()
        self._gone: set[Connection] = set()
        self._opening: dict[GetHttpConnection, Connection] = {}
        self._wanted: list[tuple[GetHttpConnection, bool]] = []
        self._http1: dict[Connection, GuardedClient] = {}
        self._tick_at_s: float | None = None
        self._request_since_s: float | None = None

    # --- events -----------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start) and self.context.client.alpn != b"h2":
            server = GuardedServer(self.context.fork(), self.service.head_bytes)
            self.connections.setdefault(self.context.client, server)  # a replay has its own
        if isinstance(event, Tick) or self.is_our_wakeup(event):
            yield from self.tick()
            return
        if isinstance(event, ShutDown):
            for stream in self.open_streams():
                yield from self.event_to_child(stream, event)
            yield from self.connect_wanted()
            return
        yield from super()._handle_event(event)
        yield from self.connect_wanted()
        if isinstance(event, events.ConnectionClosed):
            self._gone.add(event.connection)
        elif isinstance(event, events.DataReceived) and event.connection == self.context.client:
            yield from self.watch_request()

    def connect_wanted(self) -> layer.CommandGenerator[None]:
        """Give out connections; a stream that gets one may want another."""
        while self._wanted:
            event, reuse = self._wanted.pop(0)
            yield from self.connect(event, reuse=reuse)

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """Ours instead of the base's."""
        stream = FallbackStream(self.context.fork(), stream_id, self)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def open_streams(self) -> list[FallbackStream]:
        """Every stream that still has something to do, once each."""
        found = dict.fromkeys(s for s in self.streams.values() if isinstance(s, FallbackStream))
        return list(found)

    # --- time -------------------------------------------------------------------------------------

    def ask_for_tick(self) -> layer.CommandGenerator[None]:
        """Have one wake-up on its way while anything has a clock; an earlier one if need be."""
        now = _now()
        deadlines = [d for s in self.open_streams() if (d := s.next_deadline_s()) is not None]
        if self._request_since_s is not None:
            deadlines.append(self._request_since_s + self.service.request_s)
        if not deadlines:
            return
        delay = max(SHORTEST_TICK_S, min(LONGEST_TICK_S, min(deadlines) - now))
        if self._tick_at_s is not None and now < self._tick_at_s <= now + delay:
            return
        self._tick_at_s = now + delay
        yield commands.RequestWakeup(delay)

    def is_our_wakeup(self, event: events.Event) -> bool:
        """Whether `event` is a tick that we asked for, and not HTTP/2's."""
        if not isinstance(event, events.Wakeup):
            return False
        source = self.command_sources.get(event.command)
        if source is None or isinstance(source, FallbackStream):
            self.command_sources.pop(event.command, None)
            return True
        return False

    def tick(self) -> layer.CommandGenerator[None]:
        """Look at every clock of this connection."""
        now = _now()
        if self._tick_at_s is not None and now >= self._tick_at_s - SHORTEST_TICK_S:
            self._tick_at_s = None
        for stream in self.open_streams():
            if stream.stuck_connecting(now) is not None:
                yield from self.stop_opening(stream)
            elif stream._paused is None:  # noqa: SLF001 - a tick that queues up tells nothing later
                yield from self.event_to_child(stream, Tick())
        yield from self.connect_wanted()
        yield from self.check_request(now)
        yield from self.ask_for_tick()

    def stop_opening(self, stream: FallbackStream) -> layer.CommandGenerator[None]:
        """A connection that takes too long: closing it makes the stream hear of its failure."""
        for get, connection in list(self._opening.items()):
            if self.command_sources.get(get) is stream:
                del self._opening[get]
                yield commands.CloseConnection(connection)

    def watch_request(self) -> layer.CommandGenerator[None]:
        """A request has begun or ended: its clock starts or stops."""
        server = self.connections.get(self.context.client)
        if not isinstance(server, GuardedServer) or not server.mid_request:
            self._request_since_s = None
        elif self._request_since_s is None:
            self._request_since_s = _now()
            yield from self.ask_for_tick()

    def check_request(self, now_s: float) -> layer.CommandGenerator[None]:
        """Requests that come in by the byte do not hold a connection for ever."""
        since = self._request_since_s
        server = self.connections.get(self.context.client)
        if since is None or now_s < since + self.service.request_s:
            return
        self._request_since_s = None
        if isinstance(server, GuardedServer) and server.mid_request:
            message = f"the request was not complete after {self.service.request_s:g} s"
            yield from self.event_to_child(server, Overdue(message))

    # --- upstream connections ---------------------------------------------------------------------

    def new_link(self, stream: FallbackStream, n: int, request: http.Request) -> Link:
        """A fresh upstream id for attempt `n` of `stream`."""
        self._last_upstream_id -= 1
        link = Link(n, self._last_upstream_id, request)
        self.streams[link.upstream_id] = stream
        stream.links[link.upstream_id] = link
        if self.service.shows_attempts:
            stream.requests[n] = request
        return link

    def take(self, connection: Connection, link: Link) -> bool:
        """`link` uses `connection` from now on. True where it has served before."""
        served = connection in self._served
        self._served.add(connection)
        self._serving.setdefault(connection, set()).add(link.upstream_id)
        return served

    def release(self, link: Link) -> None:
        """`link` is done with its connection."""
        self.streams.pop(link.upstream_id, None)
        if link.connection is not None:
            self._serving.get(link.connection, set()).discard(link.upstream_id)

    def get_connection(
        self, event: GetHttpConnection, *, reuse: bool = True
    ) -> layer.CommandGenerator[None]:
        """Keep it for the end of the event that is being handled.

        A stream hears of a response's end before the connection it came on is ready for the next
        request, and may ask for one at once.
        """
        self._wanted.append((event, reuse))
        yield from ()

    def connect(self, event: GetHttpConnection, *, reuse: bool) -> layer.CommandGenerator[None]:
        """An idle connection, one that multiplexes, or a new one; never one that has failed."""
        self.forget_closed()
        fresh = isinstance(event, GetAttemptConnection) and event.fresh
        if reuse and not fresh:
            for connection in self.connections:
                if not event.connection_spec_matches(connection):
                    continue
                if connection in self.waiting_for_establishment:
                    if self.context.client.alpn == b"h2" and event.tls:  # it may be h2 as well
                        self.waiting_for_establishment[connection].append(event)
                        self._opening[event] = connection
                        return
                elif connection.connected and self.is_free(connection):
                    stream = self.command_sources.pop(event)
                    reply = GetHttpConnectionCompleted(event, (connection, None))
                    yield from self.event_to_child(stream, reply)
                    return
        yield from self.open_connection(event)

    def open_connection(self, event: GetHttpConnection) -> layer.CommandGenerator[None]:
        """A new connection, through a stack of our own."""
        context = self.context.fork()
        context.server = Server(address=event.address)
        stack = tunnel.LayerStack()
        if event.tls:
            context.server.sni = event.address[0]
            stack /= tls.ServerTLSLayer(context)
        stack /= Upstream(context, self)
        self.connections[context.server] = stack[0]
        self.waiting_for_establishment[context.server].append(event)
        self._opening[event] = context.server
        yield from self.event_to_child(stack[0], events.Start())
        yield from self.ask_for_tick()

    def register_connection(self, command: RegisterHttpConnection) -> layer.CommandGenerator[None]:
        """A connection is there, or is known not to come."""
        for event in self.waiting_for_establishment.get(command.connection, ()):
            self._opening.pop(event, None)
        yield from super().register_connection(command)

    def new_http1(self, context: Context) -> GuardedClient:
        """The HTTP/1 client of a connection that has just been opened."""
        client = GuardedClient(context, self.service.head_bytes)
        self._http1[context.server] = client
        return client

    def is_free(self, connection: Connection) -> bool:
        """Whether another request may go out on `connection` now."""
        if connection.alpn == b"h2":
            return True
        client = self._http1.get(connection)
        return client is not None and client.stream_id is None and not self._serving.get(connection)

    def forget_closed(self) -> None:
        """Connections that failed or are closed: the base would keep them, and their errors."""
        for connection in list(self.connections):
            opening = connection in self.waiting_for_establishment
            if opening or not isinstance(connection, Server):
                continue
            never_open = connection.error and connection.timestamp_tcp_setup is None
            if never_open or (
                connection in self._gone and connection.state is ConnectionState.CLOSED
            ):
                self._gone.discard(connection)
                self._served.discard(connection)
                self._serving.pop(connection, None)
                self._http1.pop(connection, None)
                del self.connections[connection]


class Upstream(HttpClient):
    """The base's client, with our HTTP/1."""

    def __init__(self, context: Context, parent: FallbackLayer) -> None:
        super().__init__(context)
        self._parent = parent

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        server = self.context.server
        error = None if server.connected else (yield commands.OpenConnection(server))
        if not error:
            if server.alpn == b"h2":
                self.child_layer = Http2Client(self.context)
            else:
                self.child_layer = self._parent.new_http1(self.context)
            self._handle_event = self.child_layer.handle_event  # type: ignore[method-assign]
            yield from self.child_layer.handle_event(event)
        yield RegisterHttpConnection(server, error)


def _now() -> float:
    return time.monotonic()


def _check_head(response: http.Response) -> None:
    """Raises ValueError for a head that is malformed, or that leaves HTTP."""
    validate_headers(response)
    if response.status_code == 101:
        raise ValueError("the upstream switched protocols")


def _take_encoding(response: http.Response) -> Decoder:
    """The decoder of a response, whose header then no longer names an encoding."""
    found = decoder(response.headers.get("content-encoding", ""))
    response.headers.pop("content-encoding", None)
    return found

"""The upstream connections of one client connection: who serves, who is free, who is gone.

Every attempt has an upstream stream id of its own (negative, so that it is never a client's), which
`HttpLayer.streams` knows as an alias of its stream. Late events of an abandoned attempt are told
from the current one's by that id. mitmproxy would give out a connection that is busy with an
attempt that is read on, and keep handing out the error of one that has failed; this pool does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, layer, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import tls
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpClient,
    HttpLayer,
    HTTPMode,
    HttpStream,
    ReceiveHttp,
    RegisterHttpConnection,
    RequestHeaders,
    SendHttp,
)
from mitmproxy.proxy.layers.http._events import HttpEvent
from mitmproxy.proxy.layers.http._http2 import Http2Client

from arbstr.proxy.burst import Burst
from arbstr.proxy.decode import Decoder
from arbstr.proxy.http1 import GuardedServer
from arbstr.proxy.http1_client import GuardedClient
from arbstr.proxy.service import Service


@dataclass(eq=False)
class GetAttemptConnection(GetHttpConnection):
    """Like its base; `fresh`: never one that has served before."""

    fresh: bool = False


@dataclass
class Link:
    """One attempt's way to its upstream."""

    n: int
    upstream_id: int
    connection: Connection | None = None
    decoder: Decoder | None = None
    read_until_s: float | None = None
    """Set once nobody waits for it any more: when to close it."""


class PoolLayer(HttpLayer):
    """mitmproxy's HTTP layer with connections that are given out only while they are free."""

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

    def event_to_child(
        self, child: layer.Layer, event: events.Event
    ) -> layer.CommandGenerator[None]:
        """Like the base's, but what is frequent is not asked first for what it is not."""
        for command in child.handle_event(event):
            if isinstance(command, commands.SendData):
                yield command
            elif isinstance(command, SendHttp):
                yield from self.send(command)
            elif isinstance(command, ReceiveHttp):
                yield from self.receive(command.event)
            else:
                yield from self.command_of(child, command)

    def send(self, command: SendHttp) -> layer.CommandGenerator[None]:
        """What a stream sends goes to the connection it is for."""
        connection, event = self.connections[command.connection], command.event
        if isinstance(event, Burst) and not _takes_bursts(connection):
            for part in event.events:
                yield from self.event_to_child(connection, part)
        else:
            yield from self.event_to_child(connection, event)

    def receive(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """What a connection has received goes to the stream it is for, if that is still there."""
        first = event.events[0] if isinstance(event, Burst) else event
        if isinstance(first, RequestHeaders):
            yield from self.make_stream(event.stream_id)
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            yield from self.event_to_child(stream, event)

    def command_of(
        self, child: layer.Layer, command: commands.Command
    ) -> layer.CommandGenerator[None]:
        """Any other command. The replies to those that have one go back to `child`."""
        if command.blocking or isinstance(command, commands.RequestWakeup):
            self.command_sources[command] = child
        if isinstance(command, DropStream):
            self.streams.pop(command.stream_id, None)
        elif isinstance(command, GetHttpConnection):
            yield from self.get_connection(command)
        elif isinstance(command, RegisterHttpConnection):
            yield from self.register_connection(command)
        else:
            if isinstance(command, commands.OpenConnection):
                self.connections[command.connection] = child
            yield command

    def new_link(self, stream: HttpStream, n: int) -> Link:
        """A fresh upstream id for attempt `n` of `stream`."""
        self._last_upstream_id -= 1
        link = Link(n, self._last_upstream_id)
        self.streams[link.upstream_id] = stream
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
            if (idle := self.idle(event)) is not None:
                stream = self.command_sources.pop(event)
                reply = GetHttpConnectionCompleted(event, (idle, None))
                yield from self.event_to_child(stream, reply)
                return
            if self.context.client.alpn == b"h2" and event.tls:  # theirs may be h2 as well
                for connection, waiting in self.waiting_for_establishment.items():
                    if waiting and event.connection_spec_matches(connection):
                        waiting.append(event)
                        self._opening[event] = connection
                        return
        yield from self.open_connection(event)

    def idle(self, event: GetHttpConnection) -> Server | None:
        """A connection that is open and may be used now; None where there is none."""
        for connection in self.connections:
            if (
                isinstance(connection, Server)
                and event.connection_spec_matches(connection)
                and connection not in self.waiting_for_establishment
                and connection.connected
                and self.is_free(connection)
            ):
                return connection
        return None

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

    def connect_wanted(self) -> layer.CommandGenerator[None]:
        """Give out connections; a stream that gets one may want another."""
        while self._wanted:
            event, reuse = self._wanted.pop(0)
            yield from self.connect(event, reuse=reuse)

    def stop_opening(self, stream: HttpStream) -> layer.CommandGenerator[None]:
        """A connection that takes too long: closing it makes the stream hear of its failure."""
        for get, connection in list(self._opening.items()):
            if self.command_sources.get(get) is stream:
                del self._opening[get]
                yield commands.CloseConnection(connection)


def fork(context: Context) -> Context:
    """Like its own `fork`, which makes a `Server` for every copy only to replace it."""
    copied = Context.__new__(Context)
    copied.client, copied.server = context.client, context.server
    copied.options, copied.layers = context.options, context.layers.copy()
    return copied


class Upstream(HttpClient):
    """The base's client, with our HTTP/1."""

    def __init__(self, context: Context, parent: PoolLayer) -> None:
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
            self.handle_event = self._handle_event = self.child_layer.handle_event  # type: ignore[method-assign]
            yield from self.child_layer.handle_event(event)
        yield RegisterHttpConnection(server, error)


def _takes_bursts(connection: layer.Layer) -> bool:
    """Whether it is one of ours, and not HTTP/2 or below TLS."""
    inner = connection.child_layer if isinstance(connection, Upstream) else connection
    return isinstance(inner, GuardedServer | GuardedClient)

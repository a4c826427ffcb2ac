"""One client connection in reverse mode: it takes the place of mitmproxy's `HttpLayer`.

Clocks: timers of the proxy core cannot be cancelled, and each keeps its stream alive. So the layer
asks for one short tick at a time while anything is open, and each stream looks at its own clocks
then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import GetHttpConnection

from arbstr.proxy.http1 import GuardedServer, Overdue
from arbstr.proxy.pool import PoolLayer, fork
from arbstr.proxy.service import Service, ShutDown, Tick
from arbstr.proxy.stream import FallbackStream

LARGE_BYTES = 64 << 10
"""What is sent alone: putting it together with its neighbours would cost more than it saves."""
LONGEST_TICK_S = 0.5
SHORTEST_TICK_S = 0.01


class FallbackLayer(PoolLayer):
    """One client connection, its streams, and the upstream connections they share."""

    def __init__(self, context: Context, service: Service, *, knows_offers: bool = False) -> None:
        """`knows_offers`: whether the connection's handler does (`offer.py`)."""
        super().__init__(context, service)
        self.knows_offers = knows_offers
        self._tick_at_s: float | None = None
        self._request_since_s: float | None = None
        self.started = False
        self.asked = False
        """Whether the client has sent anything."""
        # mitmproxy's options are slow to look up, so these two are asked once.
        self._limited = bool(context.options.body_size_limit or context.options.stream_large_bodies)

    @property
    def checks_heads(self) -> bool:
        """Whether mitmproxy has more to check of a request than `http1.py` has.

        That is its own limits on bodies, and what only HTTP/2 can say. The protocol is known once
        the first request comes, and not when this layer is made.
        """
        return self._limited or self.context.client.alpn == b"h2"

    # --- events -----------------------------------------------------------------------------------

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """What goes to one connection in one go is sent in one piece.

        Streams pause for replies, this layer never does: so it needs nothing of the base's for it.
        """
        return join_sends(self._handle_event(event))

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            yield from self.event_to_child(self.connections[event.connection], event)
            yield from self.connect_wanted()
            if event.connection is self.context.client:
                self.asked = True
                yield from self.watch_request()
        elif isinstance(event, Tick) or self.is_our_wakeup(event):
            yield from self.tick()
        elif isinstance(event, ShutDown):
            for stream in self.open_streams():
                yield from self.event_to_child(stream, event)
            yield from self.connect_wanted()
        else:
            if isinstance(event, events.Start):
                self.start()
            yield from super()._handle_event(event)
            yield from self.connect_wanted()
            if isinstance(event, events.ConnectionClosed):
                self._gone.add(event.connection)

    def start(self) -> None:
        """The protocol is known."""
        self.started = True
        if self.context.client.alpn != b"h2":
            server = GuardedServer(self.context.fork(), self.service.head_bytes)
            self.connections.setdefault(self.context.client, server)  # a replay has its own

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """Ours instead of the base's."""
        self.streams[stream_id] = FallbackStream(fork(self.context), stream_id, self)
        yield from ()

    def open_streams(self) -> list[FallbackStream]:
        """Every stream that still has something to do, once each."""
        found = dict.fromkeys(s for s in self.streams.values() if isinstance(s, FallbackStream))
        return list(found)

    def open_connection(self, event: GetHttpConnection) -> layer.CommandGenerator[None]:
        """Opening takes time, and time has limits."""
        yield from super().open_connection(event)
        yield from self.ask_for_tick()

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


def join_sends(orders: Iterable[commands.Command]) -> layer.CommandGenerator[None]:
    """Put sends together that follow each other: a head and its body, an event and the next."""
    held: commands.SendData | None = None
    for order in orders:
        if not isinstance(order, commands.SendData) or len(order.data) > LARGE_BYTES:
            if held is not None:
                yield held
                held = None
            yield order
        elif held is None:
            held = order
        elif held.connection is order.connection:
            held.data += order.data
        else:
            yield held
            held = order
    if held is not None:
        yield held


def _now() -> float:
    return time.monotonic()

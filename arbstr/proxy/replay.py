"""Replays from mitmproxy's list, its commands and its ``client_replay`` option go our way.

mitmproxy replays a flow through an HTTP layer of its own, past routing, fallback and ledger. Here
the loop of its `ClientPlayback` add-on is replaced by one that puts our layer in that place. All
else (the queue, the commands, the concurrency option) stays its own. Should that ever fail, the
guard refuses such a flow: it is on no connection of ours.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Literal

import msgspec
from mitmproxy import ctx, http
from mitmproxy import flow as mflow
from mitmproxy.addons.clientplayback import ClientPlayback, MockServer
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, server
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpErrorHook, HttpResponseHook

from arbstr.core.body import BadBodyError, read_members
from arbstr.core.secret import Secret
from arbstr.proxy import story
from arbstr.proxy.layer import FallbackLayer
from arbstr.proxy.masks import is_masked
from arbstr.proxy.viewing import Viewing

logger = logging.getLogger(__name__)

_CONNECTIONS_PER_UPSTREAM = 1000
_DRAIN_TICK_S = 0.2
_HERE = ("127.0.0.1", 0)
"""Whoever replays sits at mitmproxy, wherever the request once came from."""

type MakeLayer = Callable[[Context], FallbackLayer]


class Replay(server.ConnectionHandler):
    """One flow, replayed: a connection without a client."""

    layer: FallbackLayer

    def __init__(self, flow: http.HTTPFlow, options: Options, make_layer: MakeLayer) -> None:
        client = flow.client_conn.copy()
        client.state = ConnectionState.OPEN
        client.alpn = None
        client.peername = _HERE
        flow.client_conn = client
        context = Context(client, options)
        context.server = Server(address=(flow.request.host, flow.request.port))
        context.server.tls = flow.request.scheme == "https"
        super().__init__(context)
        self.max_conns = collections.defaultdict(
            lambda: asyncio.Semaphore(_CONNECTIONS_PER_UPSTREAM)
        )
        self.layer = make_layer(context)
        self.layer.connections[client] = MockServer(flow, context.fork())
        self._flow = flow
        self._answered = asyncio.Event()

    async def replay(self) -> None:
        """Send it; returns once there is an answer or an error."""
        await self.server_event(events.Start())
        await self._answered.wait()

    async def drain(self, seconds: float) -> None:
        """Read on what was given up, because the node bills it; then close all connections."""
        end = time.monotonic() + seconds
        while self.layer.open_streams() and time.monotonic() < end:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(_DRAIN_TICK_S)
        for timer in self.wakeup_timer:
            timer.cancel()
        handlers = [io.handler for io in self.transports.values() if io.handler is not None]
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    def log(
        self,
        message: str,
        level: int = logging.INFO,
        exc_info: Literal[True]
        | tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
        | None = None,
    ) -> None:
        """Say that it is a replay."""
        logger.log(level, "[replay] %s", message, exc_info=exc_info)  # type: ignore[arg-type]

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Offer an event to all add-ons."""
        (data,) = hook.args()
        await ctx.master.addons.handle_lifecycle(hook)
        if isinstance(data, mflow.Flow):
            await data.wait_for_resume()
        if data is self._flow and isinstance(hook, HttpResponseHook | HttpErrorHook):
            self._answered.set()


class Replays:
    """Takes the place of the loop in mitmproxy's `ClientPlayback`.

    `layers`: where the guard looks up connections of ours, by client id. `read_on_s`: how long what
    was given up is read on.
    """

    def __init__(
        self,
        viewing: Viewing,
        make_layer: MakeLayer,
        layers: dict[str, FallbackLayer],
        token: Callable[[], Secret | None],
        read_on_s: Callable[[], float],
    ) -> None:
        """`token`: the token that callers need, which a person at mitmproxy need not type."""
        self._viewing = viewing
        self._make_layer = make_layer
        self._layers = layers
        self._token = token
        self._read_on_s = read_on_s
        self._tasks: set[asyncio.Task[None]] = set()

    def take_over(self) -> None:
        """Replace the loop; mitmproxy's own `done` ends ours."""
        playback = ctx.master.addons.get("clientplayback")
        if not isinstance(playback, ClientPlayback):
            return
        if playback.playback_task is not None:
            playback.playback_task.cancel()
        playback.playback_task = asyncio.create_task(self._play(playback))

    async def _play(self, playback: ClientPlayback) -> None:
        while True:
            flow = playback.inflight = await playback.queue.get()
            try:
                task = asyncio.create_task(self._replay(flow))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                if ctx.options.client_replay_concurrency != -1:
                    await asyncio.shield(task)
            except Exception:
                logger.exception("a replay has failed")
            playback.queue.task_done()
            playback.inflight = None

    async def _replay(self, flow: http.HTTPFlow) -> None:
        prepare(flow, self._viewing, self._token())
        handler = Replay(flow, ctx.options, self._make_layer)
        client_id = handler.client.id
        self._layers[client_id] = handler.layer
        await handler.replay()
        drain = asyncio.create_task(self._drain(handler, client_id))
        self._tasks.add(drain)
        drain.add_done_callback(self._tasks.discard)

    async def _drain(self, handler: Replay, client_id: str) -> None:
        try:
            await handler.drain(self._read_on_s())
        finally:
            self._layers.pop(client_id, None)


def prepare(flow: http.HTTPFlow, viewing: Viewing, token: Secret | None) -> None:
    """Make a flow that was seen before one that can be sent again.

    A mask whose secret nobody knows any more (the flow was saved) goes away: then our own key pays,
    or the provider says that there is none.
    """
    told = story.read(flow)
    if told is not None and told.kind == "attempt":
        _as_asked(flow, told)
    hidden = viewing.adopt(flow)
    known: Mapping[tuple[bytes, bytes], bytes] = {} if hidden is None else hidden.values
    request = flow.request
    request.headers = http.Headers(
        (name, value)
        for name, value in request.headers.fields
        if not is_masked(value) or (name.lower(), value) in known
    )
    if token is not None:
        viewing.hide_header(flow, "x-arbstr-token", token.reveal())


def _as_asked(flow: http.HTTPFlow, told: story.Story) -> None:
    """A failed attempt was sent to a provider; what is sent again is what the client asked for."""
    request = flow.request
    request.path = told.endpoint
    request.headers["host"] = "localhost"
    if told.row.policy is not None:
        request.headers["x-arbstr-policy"] = told.row.policy
    if told.row.requested_model:
        set_model(request, told.row.requested_model)


def set_model(request: http.Request, model: str) -> None:
    """Ask for another model. Raises ValueError for a body that names none."""
    try:
        members = read_members(request.raw_content or b"")
    except BadBodyError as error:
        raise ValueError(str(error)) from None
    if "model" not in members:
        raise ValueError("the body names no model")
    request.raw_content = members.edited({"model": msgspec.json.encode(model)})

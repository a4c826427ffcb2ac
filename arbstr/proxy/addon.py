"""The mitmproxy add-on: options, hooks, and when what is started and stopped."""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import layer, tunnel
from mitmproxy.proxy.layers import ClientTLSLayer, modes
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode

from arbstr.config import Config, ConfigError, Provider, default_path, load
from arbstr.ledger.writer import LedgerError, Writer
from arbstr.mock.node import MockNode
from arbstr.mock.thread import ThreadedNode
from arbstr.proxy import guard
from arbstr.proxy.console import Console
from arbstr.proxy.endpoints import Endpoints
from arbstr.proxy.engine import Engine
from arbstr.proxy.handler import Handler, Listeners
from arbstr.proxy.intake import FAILED, NOT_READY, Intake, deny
from arbstr.proxy.keeper import Keeper
from arbstr.proxy.layer import FallbackLayer
from arbstr.proxy.outgoing import error_response
from arbstr.proxy.reload import Reload, while_running
from arbstr.proxy.service import FallbackPauseHook, ShutDown, Tick

logger = logging.getLogger(__name__)

_CONNECTIONS_PER_UPSTREAM = 1000
"""mitmproxy allows five for each client connection, for its whole life: too few for HTTP/2."""
_DRAIN_TICK_S = 0.5
_END_S = 3.0
"""How long interrupted streams may take to write their rows at shutdown."""
_LARGE_BYTES = 8 << 20
"""glibc gives memory back to the system, and takes it page by page again, for every block larger
than the largest so far (mallopt(3), M_MMAP_THRESHOLD): half of what a body of 1.5 MB took."""
_PLACEHOLDER = "http://127.0.0.1:9/v1"
"""Stands for the mock node's address while a config is only checked."""


class Arbstr:
    """Routes, falls back, meters, and keeps the ledger. One instance is one running arbstr."""

    name = "arbstr"

    def __init__(self, *, viewed: bool = True) -> None:
        """`viewed`: whether this mitmproxy has people, or add-ons of theirs, who look at flows."""
        self.engine: Engine | None = None
        self.config: Config | None = None
        self.denied: Counter[str] = Counter()
        self._writer: Writer | None = None
        self._endpoints: Endpoints | None = None
        self._intake: Intake | None = None
        self._mock: ThreadedNode | None = None
        self._layers: dict[str, FallbackLayer] = {}
        self._listeners = Listeners()
        self._keeper: Keeper | None = None
        self._reload: Reload | None = None
        self._console = Console(self._layers) if viewed else None
        self.addons = [] if self._console is None else [self._console]

    # --- start and stop ---------------------------------------------------------------------------

    def load(self, loader: Loader) -> None:
        """Add our options."""
        beside = str(default_path(os.environ, Path(__file__).parents[2]))
        loader.add_option("arbstr_config", str, beside, "The config file of arbstr.")
        loader.add_option(
            "arbstr_mock", bool, False, "Sell from an embedded mock node: no key, no network."
        )

    def configure(self, updated: set[str]) -> None:
        """Check the config before anything uses it."""
        if not updated & {"arbstr_config", "arbstr_mock"}:
            return
        try:
            config = self._load(_PLACEHOLDER)
            if self._reload is not None:
                self._reload.soon()
            else:
                self.config = config
        except ConfigError as error:
            if self.engine is not None:
                raise exceptions.OptionsError("\n".join(error.problems)) from None
            for problem in error.problems:
                logger.error(problem)  # noqa: TRY400 - an error of the user's, without a traceback

    def running(self) -> None:
        """Everything listens, or soon will: become a reverse proxy."""
        if self.engine is not None or self.config is None:
            return
        try:
            self.start()
        except (LedgerError, ConfigError, OSError) as error:
            logger.error(str(error))  # noqa: TRY400 - the same
            return
        set_options(self.config)

    def start(self) -> None:
        """Bring up the ledger, the mock, the engine, the price sync.

        Raises ConfigError, LedgerError, OSError.
        """
        assert self.config is not None
        check_listeners(self.config)
        bytearray(_LARGE_BYTES)  # never touched, and free again at once
        if ctx.options.arbstr_mock:
            self._mock = ThreadedNode(MockNode())
            self._mock.__enter__()
            self.config = self._load(self._mock.node.url)
        config = self.config
        assert config is not None
        for warning in config.warnings:
            logger.warning(warning)
        engine = Engine(config, _Unwritten())
        self._writer = Writer(
            config.database.path,
            instance=engine.instance,
            retention_days=config.database.retention_days,
        )
        self._writer.start()
        engine.ledger = self._writer
        engine.slow_client = self._is_slow
        engine.heard = lambda event: bool(self._listeners.of(event, ctx.master.addons))
        engine.denied = self.denied
        self.engine = engine
        self._keeper = Keeper(engine, self._writer)
        sync = self._keeper.sync
        self._reload = Reload(_config_path, self._load_now, self._use, sync.refused_config)
        self._reload.start(ctx.master.shutdown)
        if self._console is not None:
            self._console.start(engine, sync, self._reload)
        self._endpoints = Endpoints(engine, sync, self._writer.health, self.denied)
        self._intake = Intake(engine, self._endpoints, sync)

    async def done(self) -> None:
        """Let what runs run on for a while, then end it; write every row."""
        if self.engine is None or self._writer is None:
            return
        self.engine.closing = True
        grace_s = self.engine.state.config.fallback.grace_s
        await self._until_idle(grace_s)
        if self.engine.open or self._streams_open():
            for layer_id in list(self._layers):
                await self._inject(layer_id, ShutDown())
            await self._until_idle(_END_S)
        if self._keeper is not None:
            self._keeper.stop()
        if self._reload is not None:
            self._reload.close()
        if self._endpoints is not None:
            await asyncio.to_thread(self._endpoints.close)
        if not await asyncio.to_thread(self._writer.close):
            logger.error("the ledger could not be written to its end")
        if self._mock is not None:
            await asyncio.to_thread(self._mock.__exit__, None, None, None)
        self.engine = self._intake = None

    async def _until_idle(self, seconds: float) -> None:
        assert self.engine is not None
        end = time.monotonic() + seconds
        while self.engine.open and time.monotonic() < end:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)

    def _streams_open(self) -> bool:
        return any(found.open_streams() for found in self._layers.values())

    def _load(self, mock_url: str) -> Config:
        mock = mock_url if ctx.options.arbstr_mock else None
        return load(_config_path(), os.environ, mock_url=mock)

    def _load_now(self) -> Config:
        """The config file as it stands now, made to fit a running arbstr. Raises ConfigError."""
        assert self.config is not None
        mock_url = None if self._mock is None else self._mock.node.url
        config = while_running(self.config, load(_config_path(), os.environ, mock_url=mock_url))
        check_listeners(config)
        return config

    def _use(self, config: Config) -> None:
        """A reloaded config takes effect; requests that are under way keep theirs."""
        assert self.engine is not None
        assert self._keeper is not None
        self.config = config
        self.engine.use(config)
        self._keeper.sync.use(config)

    # --- connections ------------------------------------------------------------------------------

    def client_connected(self, client: Client) -> None:
        """Nothing but a reverse proxy, not for a moment."""
        reverse = isinstance(client.proxy_mode, ReverseMode) and client.transport_protocol == "tcp"
        if not reverse or self.engine is None:
            client.error = "arbstr is a reverse proxy, and not ready"
            return
        if (handler := _handler(client.id)) is not None:
            Handler.take_over(handler, self._listeners)
            handler.max_conns = collections.defaultdict(
                lambda: asyncio.Semaphore(_CONNECTIONS_PER_UPSTREAM)
            )
        asyncio.get_running_loop().call_later(self.engine.request_s, self._close_silent, client)

    def _close_silent(self, client: Client) -> None:
        """Close a connection on which nothing was asked in time; TLS may have got stuck."""
        found, handler = self._layers.get(client.id), _handler(client.id)
        io = None if handler is None else handler.transports.get(client)
        if (found is None or not found.asked) and io is not None and io.handler is not None:
            io.handler.cancel("nothing was asked")

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Put the fallback layer where mitmproxy would put its own."""
        context = nextlayer.context
        if nextlayer.layer is not None or self.engine is None:
            return
        if len(context.layers) != 1 or not isinstance(context.layers[0], modes.ReverseProxy):
            return
        data = nextlayer.data_client()
        stack = tunnel.LayerStack()
        if data[:1] == b"\x16" or starts_like_tls_record(data):
            stack /= ClientTLSLayer(context)
        handler = _handler(context.client.id)
        found = FallbackLayer(context, self.engine, knows_offers=isinstance(handler, Handler))
        stack /= found
        if isinstance(handler, Handler) and stack[0] is found:
            handler.shorten(found)
        self._layers[context.client.id] = found
        nextlayer.layer = stack[0]

    async def client_disconnected(self, client: Client) -> None:
        """Upstreams are cut when this returns: first read them to their end, the node bills it."""
        found = self._layers.get(client.id)
        if found is None or self.engine is None:
            return
        end = time.monotonic() + self.engine.read_on_s
        while found.open_streams() and time.monotonic() < end:
            await self._inject(client.id, Tick())
            await asyncio.sleep(_DRAIN_TICK_S if found.open_streams() else 0)
        if found.open_streams():
            await self._inject(client.id, ShutDown())
        self._layers.pop(client.id, None)

    async def _inject(self, client_id: str, event: Tick | ShutDown) -> None:
        handler = _handler(client_id)
        if handler is not None:
            await handler.server_event(event)

    def _is_slow(self, client: Client) -> bool:
        handler = _handler(client.id)
        io = None if handler is None else handler.transports.get(client)
        transport = None if io is None else getattr(io.writer, "transport", None)
        return transport is not None and transport.get_write_buffer_size() > 0

    # --- requests ---------------------------------------------------------------------------------

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """The guard: before the body, before any other add-on."""
        if not flow.live:
            return  # shown, not sent: a failed attempt, or a flow that was loaded from a file
        try:
            if self._intake is None or flow.client_conn.id not in self._layers:
                viewing = None if self.engine is None else self.engine.viewing
                deny(flow, NOT_READY, self.denied, viewing)
            else:
                self._intake.let_in(flow)
        except Exception:
            logger.exception("the guard has failed")
            flow.response = error_response(flow, FAILED)
        finally:
            if self.engine is not None and self.engine.viewing is not None:
                self.engine.viewing.hide_head(flow)

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Route it, or answer it ourselves; returns what is left of that where it takes a while."""
        if not flow.live or flow.response is not None or flow.error is not None:
            return None
        if self._intake is None:
            flow.response = error_response(flow, FAILED)
            return None
        return self._intake.take(flow)

    def response(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """The gate: the end of an answer waits for what this returns, the commit of its row."""
        written = None if self.engine is None else self.engine.written(flow)
        if self._console is not None:
            self._console.ended(flow)
        return written

    def error(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """A client that left: its row is written all the same."""
        return self.response(flow)

    async def fallback_pause(self, pause: FallbackPauseHook) -> None:
        """Wait before the same upstream is asked again."""
        await asyncio.sleep(pause.seconds)  # type: ignore[attr-defined]


class _Unwritten:
    """Stands in for the ledger until it is open; nothing is routed before that."""

    def begin(self, *_: object) -> None: ...

    def finish(self, *_: object) -> None: ...

    def late(self, *_: object) -> None: ...


def set_options(config: Config) -> None:
    """Make mitmproxy our reverse proxy. What the user has set by a flag stays as it is."""
    options = ctx.options
    wanted: dict[str, object] = {
        "connection_strategy": "lazy",
        "keep_host_header": True,
        "onboarding": False,
    }
    total_s = config.fallback.total_s + config.fallback.grace_s
    if options.tcp_timeout < 2 * total_s:
        wanted["tcp_timeout"] = int(2 * total_s) + 1
    if options.mode == ["regular"]:
        wanted["mode"] = [reverse_mode(config.providers[0])]
    if not options.listen_host:
        wanted["listen_host"] = config.server.listen_host
    if options.listen_port is None:
        wanted["listen_port"] = config.server.listen_port
    options.update(**{name: value for name, value in wanted.items() if name in options})


def check_listeners(config: Config) -> None:
    """Refuse what flags open beyond the config. Raises ConfigError."""
    own = ctx.options.listen_host or config.server.listen_host
    hosts = {ProxyMode.parse(spec).listen_host(own) for spec in ctx.options.mode}
    problems = [guard.check_listener(host, config.server) for host in sorted(hosts)]
    if found := tuple(problem for problem in problems if problem is not None):
        raise ConfigError(found)


def reverse_mode(provider: Provider) -> str:
    """The mode spec that names `provider` as the target."""
    host = f"[{provider.host}]" if ":" in provider.host else provider.host
    return f"reverse:{provider.scheme}://{host}:{provider.port}"


def _config_path() -> Path:
    return Path(ctx.options.arbstr_config).expanduser()


def _handler(client_id: str) -> ProxyConnectionHandler | None:
    server = ctx.master.addons.get("proxyserver")
    return None if server is None else server.connections.get(client_id)

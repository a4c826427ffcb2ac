"""arbstr in mitmproxy's own surfaces: options, commands, views, and how long the list is.

A sub-add-on, because ``arbstr serve`` has no surfaces and loads none of this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence

from mitmproxy import contentviews, ctx, exceptions, http
from mitmproxy import flow as mflow
from mitmproxy.addonmanager import Loader
from mitmproxy.addons.view import View
from mitmproxy.log import ALERT
from mitmproxy.proxy.context import Context
from tornado.web import Application

from arbstr.core.dialects import by_path
from arbstr.core.secret import Secret
from arbstr.ledger.queries import Filters, LedgerError, Reader, Totals
from arbstr.proxy import replay, story
from arbstr.proxy.engine import Engine
from arbstr.proxy.layer import FallbackLayer
from arbstr.proxy.reload import Reload
from arbstr.proxy.retention import Retention
from arbstr.proxy.routing import Refused
from arbstr.proxy.sync import Sync
from arbstr.proxy.viewing import Viewing
from arbstr.proxy.views import AnswerView, ReceiptView, RequestView
from arbstr.proxy.views_receipt import decision, in_sats
from arbstr.proxy.webui import show_comments

logger = logging.getLogger(__name__)

_WATCHED_BY = ("save_stream_file", "hardump")
"""Options that write flows to disk."""
_DAY_MS = 86_400_000
_DAYS = 7


class Console:
    """Options, commands and views. `layers`: where the guard looks up connections of ours."""

    name = "arbstr-console"

    def __init__(self, layers: dict[str, FallbackLayer]) -> None:
        self._layers = layers
        self._engine: Engine | None = None
        self._sync: Sync | None = None
        self._reload: Reload | None = None
        self._retention: Retention | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- start ------------------------------------------------------------------------------------

    def load(self, loader: Loader) -> None:
        """Add our options and commands."""
        loader.add_option(
            "arbstr_keep_flows",
            int,
            1000,
            "How many finished flows stay in the list. Marked and selected ones always do.",
        )
        loader.add_option(
            "arbstr_reveal",
            bool,
            False,
            "Show keys, tokens and cookies in flows. Takes effect for arbstr started with it.",
        )

        for command in (
            self.costs,
            self.explain,
            self.replay,
            self.policy,
            self.sync,
            self.reload,
        ):
            loader.add_command(f"arbstr.{command.__name__}", command)

    def configure(self, _updated: set[str]) -> None:
        """Flows may be saved from now on, or no more."""
        if self._engine is not None and self._engine.viewing is not None:
            self._engine.viewing.watched = _is_watched()

    def start(self, engine: Engine, sync: Sync, reload: Reload) -> None:
        """The engine is up: show what it does."""
        viewing = Viewing(engine.state.config, reveal=ctx.options.arbstr_reveal)
        viewing.watched = _is_watched()
        engine.viewing = viewing
        self._engine, self._sync, self._reload = engine, sync, reload
        for view in (ReceiptView(), AnswerView(viewing.mask), RequestView(viewing.mask)):
            contentviews.add(view)
        replay.Replays(
            viewing,
            self._make_layer,
            self._layers,
            token=self._token,
            read_on_s=lambda: engine.read_on_s,
        ).take_over()
        view_addon = ctx.master.addons.get("view")
        if isinstance(view_addon, View):
            app = getattr(ctx.master, "app", None)
            self._retention = Retention(view_addon, _keep_flows, web=app is not None)
            if isinstance(app, Application):
                app.settings["log_function"] = self._retention.web_request
                show_comments(app)

    def ended(self, flow: http.HTTPFlow) -> None:
        """A flow has its answer."""
        viewing = None if self._engine is None else self._engine.viewing
        if self._retention is not None and viewing is not None and viewing.is_ours(flow):
            self._retention.ended(flow)

    def _make_layer(self, context: Context) -> FallbackLayer:
        return FallbackLayer(context, self._running())

    def _token(self) -> Secret | None:
        return self._running().state.config.server.auth_token

    # --- commands ---------------------------------------------------------------------------------

    def costs(self) -> Sequence[str]:
        """What the last seven days have cost, by model."""
        now_ms = time.time_ns() // 1_000_000
        week = Filters(since_ms=now_ms - _DAYS * _DAY_MS)
        reader = Reader(self._running().state.config.database.path)
        try:
            day = reader.totals(Filters(since_ms=now_ms - _DAY_MS))
            groups = [*reader.groups(week, "model"), ("all", reader.totals(week))]
        except LedgerError as error:
            raise exceptions.CommandError(str(error)) from None
        finally:
            reader.close()
        rows = [(name or "(none)", totals) for name, totals in groups]
        return _told([f"last {_DAYS} days", *map(_cost_line, rows), _cost_line(("last 24 h", day))])

    def explain(self, flow: mflow.Flow) -> Sequence[str]:
        """How the request of a flow would be routed now. Nothing is sent."""
        request = _http(flow)
        dialect = by_path(request.request.path.partition("?")[0])
        if dialect is None:
            raise exceptions.CommandError("this request is not routed: it passes through")
        try:
            ticket = self._running().ticket(request, dialect)
        except Refused as refused:
            return _told([f"refused: {refused.problem.message}"])
        return _told(decision(story.tell_plan(request, ticket)).splitlines())

    def replay(self, flow: mflow.Flow, model: str) -> str:
        """Send the request of a flow again, to MODEL and its substitutes, whatever its policy."""
        again = self._again(flow, model, "none")
        return self._send(again, f"sent again, to {model}")

    def policy(self, flow: mflow.Flow, name: str) -> str:
        """Send the request of a flow again, under policy NAME ("none": without one)."""
        known = [rule.name for rule in self._running().state.config.policies.rules]
        if name not in (*known, "none"):
            raise exceptions.CommandError(f"no policy {name!r}; known: {', '.join(known)}, none")
        return self._send(self._again(flow, None, name), f"sent again, under policy {name}")

    def sync(self) -> str:
        """Fetch models and prices of all providers now."""
        self._running()
        assert self._sync is not None
        self._begin(self._sync_now(self._sync))
        return "fetching models and prices; the log says how it went"

    def reload(self) -> str:
        """Read the config file now. A broken one is refused, and the old one stays in force."""
        self._running()
        assert self._reload is not None
        self._begin(self._reload_now(self._reload))
        return "reading the config; the log says how it went"

    # --- behind them ------------------------------------------------------------------------------

    def _running(self) -> Engine:
        if self._engine is None:
            raise exceptions.CommandError("arbstr is not running")
        return self._engine

    def _again(self, flow: mflow.Flow, model: str | None, policy: str) -> http.HTTPFlow:
        """A copy of a flow, to be routed otherwise."""
        original = _http(flow)
        viewing = self._running().viewing
        assert viewing is not None
        again: http.HTTPFlow = original.copy()
        again.comment = again.marked = ""
        viewing.adopt(again, original)
        if model is not None:
            try:
                replay.set_model(again.request, model)
            except ValueError as error:
                raise exceptions.CommandError(str(error)) from None
        again.request.headers["x-arbstr-policy"] = policy
        return again

    def _send(self, flow: http.HTTPFlow, told: str) -> str:
        ctx.master.commands.call("replay.client", [flow])
        logger.log(ALERT, told)
        return told

    async def _sync_now(self, sync: Sync) -> None:
        await sync.all()
        for name, status in sync.told().items():
            error = status["error"]
            told = f"{status['models']} models" if error is None else f"not synced: {error}"
            logger.log(ALERT, "%s: %s", name, told)

    async def _reload_now(self, reload: Reload) -> None:
        errors = await reload.now()
        told = "the config was refused, the old one stays in force" if errors else "config reloaded"
        logger.log(ALERT, told)

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _keep_flows() -> int:
    kept: int = ctx.options.arbstr_keep_flows
    return max(1, kept)


def _is_watched() -> bool:
    """Whether somebody looks at flows, or saves them."""
    saved = any(getattr(ctx.options, name, None) for name in _WATCHED_BY)
    return saved or ctx.master.addons.get("view") is not None


def _http(flow: mflow.Flow) -> http.HTTPFlow:
    if not isinstance(flow, http.HTTPFlow) or flow.request.raw_content is None:
        raise exceptions.CommandError("this flow has no request that could be routed")
    return flow


def _told(lines: Iterable[str]) -> list[str]:
    """Lines as a command's result; mitmweb shows results in one line, and the log in full."""
    told = list(lines)
    logger.info("\n".join(told))
    return told


def _cost_line(row: tuple[str, Totals]) -> str:
    name, totals = row
    cost = in_sats(totals.cost_msats)
    return f"{name:<28}{totals.total:>8,} requests{cost:>16} sats"

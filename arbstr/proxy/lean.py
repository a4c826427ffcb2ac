"""mitmproxy's machinery for a headless reverse proxy: the same events, offered only to who listens.

Bare mitmdump spends most of its time on offering some ten events a request to some forty add-ons,
each in a task of its own that waits for the lock of its connection. Here

- `LeanAddons` knows who listens to what, and offers an event to nobody else;
- `LeanHandler` lets a hook that did not have to wait complete at once, without a turn of the loop;
- `LeanMode` is mitmproxy's reverse mode with that handler: mitmproxy makes handlers by mode.

Order and meaning are mitmproxy's: hooks run in the order of the add-ons, one event of a connection
after the other, and a failing hook is logged and leaves the others alone.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from typing import Literal, override

from mitmproxy import ctx, exceptions, flow, hooks, options
from mitmproxy.addonmanager import AddonManager, safecall
from mitmproxy.addons import termlog
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_servers import AsyncioServerInstance, ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import ReverseMode

type Listener = Callable[[object], object]


class LeanAddons(AddonManager):
    """An add-on manager that remembers who listens to which event."""

    def __init__(self, master: object) -> None:
        super().__init__(master)
        self._listeners: dict[str, list[Listener]] = {}

    @override
    def register(self, addon: object) -> object:
        self._listeners.clear()
        return super().register(addon)

    @override
    def remove(self, addon: object) -> None:
        self._listeners.clear()
        super().remove(addon)

    def listeners(self, event: hooks.Hook) -> list[Listener]:
        """The methods that want `event`, in the order of their add-ons."""
        found = self._listeners.get(event.name)
        if found is None:
            found = [f for addon in self.chain for _, f in self._iter_hooks(addon, event)]
            self._listeners[event.name] = found
        return found

    @override
    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """Offer one event of a connection or a flow."""
        if not await self._offer(event):
            return
        (argument,) = event.args()
        if isinstance(argument, flow.Flow):
            await self._offer(hooks.UpdateHook([argument]))

    async def _offer(self, event: hooks.Hook) -> bool:
        """Call every listener; False where there is none."""
        found = self.listeners(event)
        if not found:
            return False
        (argument,) = event.args()
        for listener in found:
            try:
                with safecall():
                    result = listener(argument)
                    if inspect.isawaitable(result):
                        await result
            except exceptions.AddonHalt:
                break
        return True


class LeanHandler(ProxyConnectionHandler):
    """One client connection."""

    master: LeanMaster

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._completed: deque[events.HookCompleted] = deque()

    @override
    async def handle_hook(self, hook: commands.StartHook) -> None:
        if self.master.addons.listeners(hook):
            await super().handle_hook(hook)

    @override
    async def hook_task(self, hook: commands.StartHook) -> None:
        await self.handle_hook(hook)
        if not hook.blocking:
            return
        if self._server_event_lock.locked():  # we are still inside the event that asked
            self._completed.append(events.HookCompleted(hook))
        else:
            await self.server_event(events.HookCompleted(hook))

    @override
    async def server_event(self, event: events.Event) -> None:
        await super().server_event(event)
        while self._completed:
            await super().server_event(self._completed.popleft())


class LeanMode(ReverseMode):
    """``lean:http://HOST:PORT``: mitmproxy's ``reverse:``, over TCP alone, with `LeanHandler`."""

    transport_protocol: Literal["tcp"] = "tcp"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.transport_protocol = "tcp"


class LeanInstance(AsyncioServerInstance[LeanMode]):
    """What listens."""

    @override
    def make_top_layer(self, context: Context) -> modes.ReverseProxy:
        return modes.ReverseProxy(context)

    @override
    async def handle_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        handler = LeanHandler(ctx.master, reader, writer, ctx.options, self.mode)
        handler.layer = self.make_top_layer(handler.layer.context)
        with self.manager.register_connection(handler.client.id, handler):
            await handler.handle_client()


class LeanMaster(Master):
    """A master whose add-ons hear only what they listen to; it logs, and does nothing else."""

    addons: LeanAddons

    def __init__(self, opts: options.Options) -> None:
        super().__init__(opts)
        self.addons = LeanAddons(self)
        self._termlog_addon = termlog.TermLog()
        self.addons.add(self._termlog_addon)

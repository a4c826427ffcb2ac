"""A client connection whose events are offered to those who listen, and to nobody else.

mitmproxy asks every add-on whether it has a method for an event, some forty add-ons ten times a
request: more than a third of bare mitmdump's time. And each event runs in a task that has to wait
for the lock of its connection, a turn of the event loop, though most hooks are over at once. Here
it is known who listens, and a hook that did not have to wait completes where it stands.

Order and meaning are mitmproxy's (`addonmanager.py`, `proxy/server.py`): add-ons in their order,
one event of a connection after the other; a failing hook is logged and leaves the others alone.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from typing import override

from mitmproxy import exceptions, flow, hooks
from mitmproxy.addonmanager import AddonManager, safecall, traverse
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

type Listener = Callable[[object], object]


class Listeners:
    """Who listens to what. Looked up once for an event, and again when the add-ons change."""

    def __init__(self) -> None:
        self._addons: list[object] = []
        self._found: dict[str, tuple[Listener, ...]] = {}

    def of(self, event: str, addons: AddonManager) -> tuple[Listener, ...]:
        """The methods for `event`, in the order of their add-ons."""
        known = list(addons.lookup.values())
        if known != self._addons:
            self._addons = known
            self._found.clear()
        found = self._found.get(event)
        if found is None:
            methods = (getattr(addon, event, None) for addon in traverse(addons.chain))
            found = tuple(method for method in methods if callable(method))
            self._found[event] = found
        return found


class Handler(ProxyConnectionHandler):
    """mitmproxy's, taken over once its client is known."""

    listeners: Listeners
    completed: deque[events.HookCompleted]
    """Hooks that were over at once, until the event that asked for them is through."""

    @classmethod
    def take_over(cls, handler: ProxyConnectionHandler, listeners: Listeners) -> None:
        """Make `handler` one of these."""
        handler.__class__ = cls
        assert isinstance(handler, Handler)
        handler.listeners = listeners
        handler.completed = deque()

    @override
    async def handle_hook(self, hook: commands.StartHook) -> None:
        (argument,) = hook.args()
        await self._offer(hook.name, argument)
        if isinstance(argument, flow.Flow):
            await self._offer(hooks.UpdateHook.name, [argument])
            if argument.intercepted:
                with self.timeout_watchdog.disarm():
                    await argument.wait_for_resume()

    async def _offer(self, event: str, argument: object) -> None:
        """Call who listens to `event`."""
        for listener in self.listeners.of(event, self.master.addons):
            try:
                result = listener(argument)
                if result is not None and inspect.isawaitable(result):
                    with self.timeout_watchdog.disarm():
                        await result
            except exceptions.AddonHalt:
                break
            except Exception:
                with safecall():
                    raise

    @override
    async def hook_task(self, hook: commands.StartHook) -> None:
        await self.handle_hook(hook)
        if not hook.blocking:
            return
        if self._server_event_lock.locked():  # we are still inside the event that asked
            self.completed.append(events.HookCompleted(hook))
        else:
            await self.server_event(events.HookCompleted(hook))

    @override
    async def server_event(self, event: events.Event) -> None:
        await super().server_event(event)
        while self.completed:
            await super().server_event(self.completed.popleft())

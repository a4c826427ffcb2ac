"""A client connection whose events are offered to those who listen, and to nobody else.

mitmproxy asks every add-on whether it has a method for an event, some forty add-ons ten times a
request: more than a third of bare mitmdump's time. And each event runs in a task that has to wait
for the lock of its connection, a turn of the event loop, though most hooks are over at once. Here
it is known who listens, a hook that does not have to wait completes where it stands, and bytes
come and go without a task of their own (`wire.py`).

Order and meaning are mitmproxy's (`addonmanager.py`, `proxy/server.py`): add-ons in their order,
one event of a connection after the other; a failing hook is logged and leaves the others alone.
What is not frequent is left to the base class, whose `server_event` never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, override

from mitmproxy import exceptions, flow, hooks
from mitmproxy.addonmanager import AddonManager, safecall, traverse
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.utils import asyncio_utils

from arbstr.proxy.gate import Landing
from arbstr.proxy.offer import Offer, Wait, WaitCompleted
from arbstr.proxy.wire import Wire

if TYPE_CHECKING:
    from arbstr.proxy.layer import FallbackLayer

type Listener = Callable[[object], object]
type Error = Exception | None
type Waited = asyncio.Future[Error] | Landing
type Steps = Generator[Awaitable[object], None, None]
"""A hook on its way through its listeners: stops wherever one has to be waited for."""


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
    frequent: _Frequent
    wires: dict[Connection, Wire]
    coming: deque[events.Event]
    """The event that is being handled, and those that have come meanwhile."""
    hooks: set[asyncio.Future[Error]]
    """Those that are waited for: the event loop alone would not keep them."""

    @classmethod
    def take_over(cls, handler: ProxyConnectionHandler, listeners: Listeners) -> None:
        """Make `handler` one of these, before anything has been read."""
        handler.__class__ = cls
        assert isinstance(handler, Handler)
        handler.listeners = listeners
        handler.wires = {}
        handler.coming = deque()
        handler.hooks = set()
        handler.frequent = _Frequent(handler, handler.layer)
        handler.layer = handler.frequent  # type: ignore[assignment] # all that the base calls

    def shorten(self, direct: FallbackLayer) -> None:
        """Nothing is above `direct` that has more to do once it has started."""
        self.frequent.direct = direct

    # --- events -----------------------------------------------------------------------------------

    @override
    async def server_event(self, event: events.Event) -> None:
        self.take(event)

    def take(self, event: events.Event) -> None:
        """Handle `event` at once, or right after the one that is being handled."""
        self.coming.append(event)
        if len(self.coming) > 1:
            return
        while self.coming:
            try:
                _run(super().server_event(self.coming[0]))
            finally:
                self.coming.popleft()

    @override
    async def handle_connection(self, connection: Connection) -> None:
        io = self.transports[connection]
        assert isinstance(io.reader, asyncio.StreamReader)
        assert isinstance(io.writer, asyncio.StreamWriter)
        transport = io.writer.transport
        assert isinstance(transport, asyncio.Transport)
        wire = Wire(
            io.reader, transport, lambda data: self._received(connection, data), self._all_wires
        )
        self.wires[connection] = wire
        io.reader = wire  # type: ignore[assignment] # all that is asked of it
        try:
            await super().handle_connection(connection)
        finally:
            del self.wires[connection]
            wire.resume_writing()  # whatever it has not sent yet holds up nobody any more

    def _received(self, connection: Connection, data: bytes) -> None:
        if connection.state is not ConnectionState.CLOSED:  # by us, a moment ago
            self.take(events.DataReceived(connection, data))

    def _all_wires(self) -> Sequence[Wire]:
        return tuple(self.wires.values())

    def send(self, command: commands.SendData) -> None:
        """What the base does with this command."""
        io = self.transports.get(command.connection)
        if io is not None:
            assert io.writer is not None
            if not io.writer.is_closing():
                io.writer.write(command.data)

    # --- hooks ------------------------------------------------------------------------------------

    def start(self, hook: commands.StartHook) -> None:
        """Have add-ons called; the reply is the next event where nobody has to be waited for."""
        self._go_on(self._steps(hook), lambda: self._over(hook))

    def _over(self, hook: commands.StartHook) -> None:
        if hook.blocking:
            self.take(events.HookCompleted(hook))

    def offer(self, offered: Offer) -> None:
        """Have add-ons called, while the layer stands still."""
        self._go_on(self._steps(offered.hook), lambda: self._offered(offered))

    def _offered(self, offered: Offer) -> None:
        offered.over = True
        wait, offered.wait = offered.wait, None  # they name each other
        if wait is not None:
            self.take(WaitCompleted(wait))

    @override
    async def handle_hook(self, hook: commands.StartHook) -> None:
        steps = self._steps(hook)
        error: Error = None
        with contextlib.suppress(StopIteration):
            while True:
                step = next(steps) if error is None else steps.throw(error)
                error = await self._patiently(step)

    def _steps(self, hook: commands.StartHook) -> Steps:
        (argument,) = hook.args()
        yield from self._call(hook.name, argument)
        if isinstance(argument, flow.Flow):
            yield from self._call(hooks.UpdateHook.name, [argument])
            if argument.intercepted:
                yield argument.wait_for_resume()

    def _call(self, event: str, argument: object) -> Steps:
        """Call who listens to `event`; what has to be waited for is yielded."""
        for listener in self.listeners.of(event, self.master.addons):
            try:
                result = listener(argument)
                if result is not None and inspect.isawaitable(result):
                    yield result
            except exceptions.AddonHalt:
                break
            except Exception:
                with safecall():
                    raise

    def _go_on(self, steps: Steps, then: Callable[[], None], waited: Waited | None = None) -> None:
        """Take the steps of a hook until one has to be waited for; after the last one, `then`."""
        try:
            while waited is None or waited.done():
                error = None
                if isinstance(waited, asyncio.Future) and not waited.cancelled():
                    error = waited.result()
                waited = self._begin(next(steps) if error is None else steps.throw(error))
        except StopIteration:
            then()
        else:
            waited.add_done_callback(lambda done: self._go_on(steps, then, done))

    def _begin(self, step: Awaitable[object]) -> Waited:
        """The gate's rows are there in a moment; what else takes time may take its time."""
        if isinstance(step, Landing):
            return step
        task = asyncio_utils.create_task(
            self._patiently(step), name="hook", keep_ref=False, client=self.client.peername
        )
        if not task.done():
            self.hooks.add(task)
            task.add_done_callback(self.hooks.discard)
        return task

    async def _patiently(self, step: Awaitable[object]) -> Error:
        """Wait; the error that it has come to."""
        try:
            with self.timeout_watchdog.disarm():
                await step
        except Exception as error:  # noqa: BLE001 - who called the listener deals with it
            return error
        return None


class _Frequent:
    """In the place of a connection's top layer: carries out what is frequent, hands on the rest."""

    def __init__(self, handler: Handler, top: layer.Layer) -> None:
        self.context = top.context
        self.direct: FallbackLayer | None = None
        self._handler = handler
        self._top = top

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The base handler calls nothing else of its layer."""
        direct = self.direct
        top = self._top if direct is None or not direct.started else direct
        for command in top.handle_event(event):
            if isinstance(command, commands.SendData):
                self._handler.send(command)
            elif isinstance(command, Offer):
                self._handler.offer(command)
            elif isinstance(command, Wait):
                command.offer.wait = command
            elif isinstance(command, commands.StartHook):
                self._handler.start(command)
            else:
                yield command


def _run(never_waits: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that has nothing to wait for.

    mitmproxy's `server_event` says so of itself, and its lock is free, because `take` lets in one
    event at a time.
    """
    try:
        never_waits.send(None)
    except StopIteration:
        return
    raise AssertionError("server_event has waited")

"""Hooks as the handler has them called: mitmproxy's order and meaning, without the waiting."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from mitmproxy import exceptions, flow
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow

from arbstr.proxy.handler import Handler, Listeners
from arbstr.proxy.offer import offer

type Commands = Generator[commands.Command, Any, None]
type Ask = Callable[[commands.StartHook], Commands]

WAIT_S = 10.0


@dataclass
class AskedHook(commands.StartHook):
    """A hook that is no flow's."""

    said: list[str]


class Asking(layer.Layer):
    """Has a hook called on every `Start`."""

    ask: Ask
    hook: commands.StartHook
    said: list[str]

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            self.said.append("asks")
            yield from self.ask(self.hook)
            self.said.append("goes on")
        else:
            self.said.append(type(event).__name__)
            yield from ()


def plain(hook: commands.StartHook) -> Commands:
    yield hook


def offered(hook: commands.StartHook) -> Commands:
    yield from offer(hook, known=True)


WAYS = pytest.mark.parametrize("ask", [plain, offered])


class Listening:
    """Says that it was called."""

    def __init__(self, said: list[str], name: str = "called") -> None:
        self._said = said
        self.name = name

    def asked(self, _: object) -> None:
        self._said.append(self.name)


class Patient(Listening):
    """Takes its time, until it may go on."""

    def __init__(self, said: list[str], error: BaseException | None = None) -> None:
        super().__init__(said, "patient")
        self.may_go_on = asyncio.Event()
        self._error = error

    async def asked(self, _: object) -> None:  # type: ignore[override]
        self._said.append("waits")
        await self.may_go_on.wait()
        self._said.append("has waited")
        if self._error is not None:
            raise self._error


class Failing(Listening):
    """Raises what it is told to."""

    def __init__(self, said: list[str], error: BaseException) -> None:
        super().__init__(said, "fails")
        self._error = error

    def asked(self, _: object) -> None:
        self._said.append("fails")
        raise self._error


@asynccontextmanager
async def handler(ask: Ask, said: list[str]) -> AsyncIterator[tuple[Handler, taddons.context]]:
    """A handler of a real connection, with `Asking` as its layer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    reader, writer = await asyncio.open_connection(sock=ours)
    with taddons.context(Proxyserver()) as context, peer:
        made = ProxyConnectionHandler(
            context.master, reader, writer, context.options, ProxyMode.parse("reverse:http://a:1")
        )
        asking = Asking(made.layer.context)
        asking.ask, asking.hook, asking.said = ask, AskedHook(said), said
        made.layer = asking
        Handler.take_over(made, Listeners())
        assert isinstance(made, Handler)
        try:
            yield made, context
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)  # the transport closes its socket in the next turn


async def until(said: list[str], last: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while said[-1] != last:  # noqa: ASYNC110 - a turn of the loop at a time
            await asyncio.sleep(0)


@WAYS
def test_who_does_not_wait_is_not_waited_for(ask: Ask) -> None:
    async def talk() -> list[str]:
        said: list[str] = []
        async with handler(ask, said) as (made, context):
            context.master.addons.add(Listening(said, "first"), Listening(said, "second"))
            made.take(events.Start())
            return list(said)

    assert asyncio.run(talk()) == ["asks", "first", "second", "goes on"]


@WAYS
def test_who_waits_is_waited_for_and_the_next_comes_after(ask: Ask) -> None:
    async def talk() -> None:
        said: list[str] = []
        async with handler(ask, said) as (made, context):
            patient = Patient(said)
            context.master.addons.add(patient, Listening(said, "next"))
            made.take(events.Start())
            await until(said, "waits")
            made.take(events.Wakeup(commands.RequestWakeup(1)))
            assert said == ["asks", "waits"], "an event overtakes the one that is being handled"
            patient.may_go_on.set()
            await until(said, "Wakeup")
            assert said == ["asks", "waits", "has waited", "next", "goes on", "Wakeup"]

    asyncio.run(talk())


@WAYS
@pytest.mark.parametrize("waits", [False, True])
def test_a_hook_that_fails_is_logged_and_leaves_the_others_alone(
    ask: Ask, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk() -> list[str]:
        said: list[str] = []
        async with handler(ask, said) as (made, context):
            error = ValueError("broken")
            failing: Listening = Patient(said, error) if waits else Failing(said, error)
            context.master.addons.add(failing, Listening(said, "next"))
            made.take(events.Start())
            if isinstance(failing, Patient):
                failing.may_go_on.set()
            await until(said, "goes on")
            return said

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(talk())[-2:] == ["next", "goes on"]
    assert "broken" in caplog.text


@WAYS
@pytest.mark.parametrize("waits", [False, True])
def test_a_halt_keeps_the_hook_from_the_others(ask: Ask, waits: bool) -> None:
    async def talk() -> list[str]:
        said: list[str] = []
        async with handler(ask, said) as (made, context):
            halt = exceptions.AddonHalt()
            halting: Listening = Patient(said, halt) if waits else Failing(said, halt)
            context.master.addons.add(halting, Listening(said, "next"))
            made.take(events.Start())
            if isinstance(halting, Patient):
                halting.may_go_on.set()
            await until(said, "goes on")
            return said

    assert "next" not in asyncio.run(talk())


@WAYS
def test_a_flow_that_somebody_intercepts_is_waited_for(ask: Ask) -> None:
    class Intercepting:
        def request(self, intercepted: flow.Flow) -> None:
            intercepted.intercept()

    async def talk() -> list[str]:
        said: list[str] = []
        async with handler(ask, said) as (made, context):
            context.master.addons.add(Intercepting())
            shown = tflow.tflow()
            made.layer._top.hook = HttpRequestHook(shown)  # type: ignore[attr-defined]
            made.take(events.Start())
            await asyncio.sleep(0)
            assert said == ["asks"]
            shown.resume()
            await until(said, "goes on")
            return said

    assert asyncio.run(talk()) == ["asks", "goes on"]


def test_hooks_of_connections_are_offered_too() -> None:
    async def talk() -> list[str]:
        said: list[str] = []
        async with handler(plain, said) as (made, context):
            context.master.addons.add(Failing(said, ValueError()), Listening(said, "next"))
            await made.handle_hook(AskedHook(said))
            return said

    assert asyncio.run(talk()) == ["fails", "next"]


def test_a_handler_that_knows_no_offers_gets_the_hook_itself() -> None:
    hook = AskedHook([])
    assert list(offer(hook, known=False)) == [hook]

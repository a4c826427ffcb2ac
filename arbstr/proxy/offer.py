"""Hooks that are over before their layer looks.

A hook of mitmproxy's is a command that its layer waits for: even if no add-on has anything to wait
for, the reply comes as an event of its own, down through all layers. An `Offer` is not waited for:
a handler that knows it (`handler.py`) calls the add-ons while the layer stands at its ``yield``,
and where all of them are done by then, the layer just goes on. Else it waits after all.
"""

from __future__ import annotations

from dataclasses import dataclass

from mitmproxy.proxy import commands, events, layer


@dataclass(eq=False)
class Offer(commands.Command):
    """Have add-ons called. `over`: they are done. `wait`: who waits for that."""

    hook: commands.StartHook
    over: bool = False
    wait: Wait | None = None
    blocking = False


@dataclass(eq=False)
class Wait(commands.Command):
    """An add-on takes its time."""

    offer: Offer
    blocking = True


@dataclass(repr=False)
class WaitCompleted(events.CommandCompleted):
    """The reply to `Wait`."""

    command: Wait
    reply: None = None


def offer(hook: commands.StartHook, *, known: bool) -> layer.CommandGenerator[None]:
    """Have `hook` run to its end. `known`: whether the handler knows offers."""
    if not known:
        yield hook
        return
    command = Offer(hook)
    yield command
    if not command.over:
        yield Wait(command)

"""What the fallback layer and the add-on say to each other: a protocol, a hook, two events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events

from arbstr.core import exchange as core
from arbstr.core.exchange import Attempt, Exchange


class Service(Protocol):
    """What the layer needs of the add-on. All calls are on the event loop and return at once."""

    @property
    def shows_attempts(self) -> bool:
        """Whether somebody looks: then a failed attempt becomes a flow of its own."""
        ...

    @property
    def head_bytes(self) -> int:
        """The largest head accepted, of requests and of responses."""
        ...

    @property
    def body_bytes(self) -> int:
        """The largest request body accepted."""
        ...

    @property
    def request_s(self) -> float:
        """How long a client may take to send its request."""
        ...

    @property
    def read_on_s(self) -> float:
        """How long an attempt that was given up is read on for its bill."""
        ...

    def is_heard(self, event: str) -> bool:
        """Whether an add-on listens to `event`: to offer it takes a while."""
        ...

    def too_large(self, flow: http.HTTPFlow) -> http.Response:
        """The answer to a body over the limit."""
        ...

    def exchange(self, flow: http.HTTPFlow) -> Exchange | None:
        """What the ``request`` hook decided for `flow`; None where it decided nothing."""
        ...

    def upstream_request(
        self, flow: http.HTTPFlow, exchange: Exchange, order: core.Try
    ) -> http.Request:
        """The whole request of one attempt, its destination included."""
        ...

    def head(self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt) -> http.Response:
        """The head of a streamed answer."""
        ...

    def answer(self, flow: http.HTTPFlow, exchange: Exchange, answer: core.Answer) -> http.Response:
        """A whole answer."""
        ...

    def response_down(self, flow: http.HTTPFlow) -> http.Response:
        """The answer for the client, where the flow's own holds masks for secrets."""
        ...

    def last_bytes(self, exchange: Exchange) -> bytes:
        """What ends a streamed answer: from the end marker on."""
        ...

    def settle(self, flow: http.HTTPFlow, exchange: Exchange) -> Callable[[], object]:
        """Queue the row, which the ``response`` hook waits for.

        Returns what is to be called once the answer has gone down, and need not hold it up.
        """
        ...

    def late(self, exchange: Exchange, attempt: Attempt) -> None:
        """An attempt that was given up has come to its end."""
        ...

    def sent_down(self, flow: http.HTTPFlow, data: bytes) -> None:
        """A piece of a streamed answer went to the client."""
        ...

    def attempt_flow(
        self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt, request: http.Request
    ) -> http.HTTPFlow:
        """A failed attempt, to be shown beside the flow it belongs to."""
        ...

    def is_slow(self, client: Client) -> bool:
        """Whether bytes wait for `client` to read them, so that nothing is read from upstreams."""
        ...


@dataclass
class FallbackPauseHook(commands.StartHook):
    """A stream waits before it asks the same upstream again. The add-on's method sleeps."""

    pause: core.Pause


@dataclass(repr=False)
class Tick(events.Event):
    """Time has passed: look at the clocks."""


@dataclass(repr=False)
class ShutDown(events.Event):
    """The proxy stops: end what is under way."""

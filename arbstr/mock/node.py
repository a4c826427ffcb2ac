"""The mock node: a Routstr node on loopback that sells play answers for play sats."""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Coroutine

from tornado.httpserver import HTTPServer

from arbstr.mock.account import Account
from arbstr.mock.desk import Desk
from arbstr.mock.models import MockModel, Shelf
from arbstr.mock.seen import Seen
from arbstr.mock.stock import DEFAULT_MODELS, FAULT_MODELS
from arbstr.mock.wire import Exchange, Intake

log = logging.getLogger("arbstr.mock")

DEFAULT_KEY = "sk-mock-0000000000000000"
"""A key for the mock node; any other `sk-…` of 8 characters or more does as well."""


class MockNode:
    """A Routstr node to try things with, in the running asyncio loop.

    Args:
        models: what it sells.
        faults: whether it sells the misbehaving models too (`faults.FAULTS`).
        balance_msats: what is on its one account; every key pays from it.
        keys: the only keys it takes; `None`: any `sk-…` of 8 characters or more.
        token_delay_ms: pause before every token of every answer; a model's own wins.
        stall_ms: how long `mock-stall` and `mock-stall-mid` are silent.
        keep_requests: how many of the last requests `requests` holds.

    Attributes:
        requests: the last requests that came in, the newest at the end.

    Raises:
        ValueError: two models answer to the same name.
    """

    def __init__(
        self,
        *,
        models: tuple[MockModel, ...] = DEFAULT_MODELS,
        faults: bool = True,
        balance_msats: int = 10_000_000,
        keys: frozenset[str] | None = None,
        token_delay_ms: float = 0.0,
        stall_ms: float = 600_000.0,
        keep_requests: int = 1_000,
    ) -> None:
        self.requests: deque[Seen] = deque(maxlen=keep_requests)
        self._account = Account(balance_msats)
        self._faults = faults
        self._desk = Desk(
            shelf=self._shelf(models),
            account=self._account,
            keys=keys,
            token_delay_ms=token_delay_ms,
            stall_ms=stall_ms,
        )
        self._server = HTTPServer(Intake(self._answer))
        self._count = 0
        self._arrival = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._address: tuple[str, int] | None = None

    @property
    def url(self) -> str:
        """The base URL for clients, `http://HOST:PORT/v1`.

        Raises:
            RuntimeError: it was not started.
        """
        if self._address is None:
            raise RuntimeError("the mock node is not running")
        host, port = self._address
        return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"

    @property
    def balance_msats(self) -> int:
        """What is on the account, reservations included."""
        return self._account.balance_msats

    @property
    def billed_msats(self) -> int:
        """Everything charged so far, for answers that nobody waited for too."""
        return self._account.billed_msats

    def sell(self, models: tuple[MockModel, ...]) -> None:
        """Sell these models from now on: prices that move, models that come and go.

        Raises:
            ValueError: two models answer to the same name.
        """
        self._desk.shelf = self._shelf(models)

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Listen; port 0 takes any that is free.

        Raises:
            OSError: the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
        listener.settimeout(0)
        self._address = listener.getsockname()[:2]
        self._server.add_sockets([listener])

    async def arrived(self, count: int = 1) -> None:
        """Wait until so many requests have come in since the start."""
        while self._count < count:
            self._arrival.clear()
            await self._arrival.wait()

    async def idle(self) -> None:
        """Wait until no answer is being played: everything that will be billed has been."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Close everything; an answer in progress is not billed."""
        self._server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.close_all_connections()
        self._address = None

    def _shelf(self, models: tuple[MockModel, ...]) -> Shelf:
        return Shelf((*models, *FAULT_MODELS) if self._faults else models)

    def _answer(self, exchange: Exchange) -> None:
        seen = Seen(exchange.method, exchange.path, exchange.headers, exchange.body)
        self.requests.append(seen)
        self._count += 1
        self._arrival.set()
        exchange.play(self._desk.serve(exchange, seen), self._spawn)

    def _spawn(self, play: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(play)
        self._tasks.add(task)
        task.add_done_callback(self._played)

    def _played(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an answer of the mock node failed", exc_info=error)

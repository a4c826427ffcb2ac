"""The upstream: real sockets on loopback, and a behaviour picked by the model that is asked for.

A model is named ``FAULT[=ARGUMENT]@CASE.N``. Ports: plain HTTP; TLS with a certificate of our CA,
HTTP/2 or 1.1 by ALPN; TLS with a certificate of nobody's; one that accepts and closes; one that
answers TLS with noise; some that refuse, and of these some that can be woken.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from decimal import Decimal
from types import TracebackType
from typing import Self

from tests.faults import answers, bodies, chaos, cuts, good, h2wire, heads, nothing, odd, statuses
from tests.faults.answers import Rates
from tests.faults.certs import Certificates
from tests.faults.wire import Exchange, Http1, Try, read_request

type _Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_ROOMS = (good, heads, statuses, bodies, nothing, cuts, odd, chaos)
BEHAVIOURS = {name: one for room in _ROOMS for name, one in room.BEHAVIOURS.items()}
LIMIT_BYTES = 1 << 20
SLEEPERS = ("down-plain", "down-streamed")
"""Providers that refuse connections until they are woken."""
UNSEEN = ("refused", "no-host", "self-signed", "tls-noise", "accept-close", *SLEEPERS)
"""Providers where an attempt may end before a request has reached the upstream."""


class Upstream:
    """Serves while it is entered. One event loop; nothing here is thread-safe.

    `rates`: what each model costs, msats per token; whoever adds a case adds its models. `listed`:
    those that ``GET /v1/models`` tells of, and the most a request may cost, sats. `urls`: the
    providers' base URLs by name. `hang_s`: how long a silent fault stays silent.
    """

    def __init__(self, certificates: Certificates, hang_s: float = 20.0) -> None:
        """`certificates`: for the TLS ports."""
        self.rates: dict[str, Rates] = {}
        self.listed: dict[str, Decimal] = {}
        self.tries: list[Try] = []
        self.urls: dict[str, str] = {"no-host": "http://nowhere.invalid/v1"}
        self.accepted: collections.Counter[str] = collections.Counter()
        self.hang_s = hang_s
        self.unexpected: list[str] = []
        self._certificates = certificates
        self._counts: collections.Counter[str] = collections.Counter()
        self._by_nonce: dict[str, list[Try]] = {}
        self._seen: dict[str, asyncio.Event] = {}
        self._came: dict[str, asyncio.Event] = {}
        self._left: dict[str, asyncio.Event] = {}
        self._ids = itertools.count(1)
        self._servers: list[asyncio.Server] = []
        self._sockets: dict[str, socket.socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def seen(self, nonce: str) -> asyncio.Event:
        """Set by the client of request `nonce` as soon as it has some text."""
        return self._seen.setdefault(nonce, asyncio.Event())

    def came(self, nonce: str) -> asyncio.Event:
        """Set as soon as request `nonce` has reached the upstream."""
        return self._came.setdefault(nonce, asyncio.Event())

    def left(self, nonce: str) -> asyncio.Event:
        """Set by the client of request `nonce` when it has left."""
        return self._left.setdefault(nonce, asyncio.Event())

    def count(self, model: str) -> int:
        """How often `model` has been asked."""
        return self._counts[model]

    def tries_of(self, nonce: str) -> list[Try]:
        """The tries of one client request, in order."""
        return self._by_nonce.get(nonce, [])

    def record(self, turn: Try) -> None:
        """A request has come."""
        self.tries.append(turn)
        self._counts[turn.model] += 1
        self._by_nonce.setdefault(turn.nonce, []).append(turn)
        self.came(turn.nonce).set()

    async def answer(self, exchange: Exchange) -> None:
        """Behave as the model's name says."""
        behaviour = BEHAVIOURS.get(exchange.fault)
        if behaviour is None or exchange.model not in self.rates:
            self.unexpected.append(
                f"{exchange.request.method} {exchange.request.path} {exchange.model}"
            )
            await exchange.reply(418, b'{"error": {"message": "no such fault"}}')
            return
        await behaviour(exchange)

    async def __aenter__(self) -> Self:
        await self._listen("up", "http", self._http1)
        await self._listen("secure", "https", self._by_alpn, self._certificates.server_context())
        await self._listen("self-signed", "https", self._http1, self._certificates.stray_context())
        await self._listen("accept-close", "http", self._accept_close)
        await self._listen("tls-noise", "https", self._noise)
        self.urls["other"] = self.urls["listed"] = self.urls["up"]
        for name in ("refused", *SLEEPERS):
            self._reserve(name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        for unused in self._sockets.values():
            unused.close()

    async def wake(self, name: str) -> None:
        """Let a port of `SLEEPERS`, which refused every connection, answer from now on."""
        handler = self._tracked(name, self._http1)
        bound = self._sockets.pop(name)
        self._servers.append(await asyncio.start_server(handler, sock=bound, limit=LIMIT_BYTES))

    def _reserve(self, name: str) -> None:
        """A provider whose port is taken and refuses every connection."""
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        bound.bind(("127.0.0.1", 0))
        self._sockets[name] = bound
        self.urls[name] = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"

    async def _listen(
        self, name: str, scheme: str, handler: _Handler, context: ssl.SSLContext | None = None
    ) -> None:
        server = await asyncio.start_server(
            self._tracked(name, handler), "127.0.0.1", 0, ssl=context, limit=LIMIT_BYTES
        )
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        self.urls[name] = f"{scheme}://127.0.0.1:{port}/v1"

    def _tracked(
        self, name: str, handler: _Handler
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (ConnectionError, ssl.SSLError):
                pass  # the proxy left: what that means is for the case to say
            except Exception as error:  # noqa: BLE001 - a bug here must not look like a fault
                self.unexpected.append(f"upstream: {error!r}")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.accepted[name] += 1
            task = asyncio.ensure_future(run(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return start

    async def _http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = next(self._ids)
        served = 0
        while (request := await read_request(reader)) is not None:
            if request.method == "GET":
                await self._list_models(writer)
                continue
            exchange = Http1(self, request, (reader, writer), connection=connection, served=served)
            await self.answer(exchange)
            if exchange.closed:
                return
            served += 1

    async def _list_models(self, writer: asyncio.StreamWriter) -> None:
        models = [
            answers.listed_model(name, self.rates[name], most) for name, most in self.listed.items()
        ]
        body = json.dumps({"data": models}).encode()
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    async def _by_alpn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != "h2":
            await self._http1(reader, writer)
            return
        await h2wire.Connection(self, reader, writer, next(self._ids)).serve()

    async def _accept_close(
        self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.close()

    async def _noise(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(LIMIT_BYTES)
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()

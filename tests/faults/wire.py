"""One request at the upstream and the means to answer it: well, badly, or to the byte wrong."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
import re
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tests.faults import answers

if TYPE_CHECKING:
    from tests.faults.upstream import Upstream

KEPT_BYTES = 4096
"""How much of an answer is kept for ``--verbose``."""
PATIENCE_S = 8.0
"""How long a behaviour waits for somebody else before it goes on and says so."""

LEAVING_S = 0.3
"""How long an upstream goes on behind the back of a client that has left."""

_NONCE = re.compile(r"nonce=([0-9a-z]+)")
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Try:
    """One request that reached the upstream, and what became of it.

    `n`: how often this model had been asked before. `billed_msats`: what the node took, None where
    nothing was said of a cost; `source` as the ledger must word it. `notes`: what the upstream
    itself found wrong.
    """

    model: str
    nonce: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    n: int
    connection: int
    http2: bool
    at: float = field(default_factory=time.monotonic)
    billed_msats: int | None = None
    source: Literal["billed", "computed", "unknown"] = "unknown"
    sent: bytearray = field(default_factory=bytearray)
    sent_bytes: int = 0
    whole: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it stood on the wire. Header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def members(self) -> dict[str, object]:
        """The JSON body; empty where it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def nonce_of(body: bytes) -> str:
    """The mark of the client's request, "" where it carries none."""
    match = _NONCE.search(body.decode(errors="replace"))
    return match[1] if match else ""


class Exchange(abc.ABC):
    """A request and the connection that it came on.

    `served`: requests answered on this connection before. `argument`: what follows ``=`` in the
    fault's name.
    """

    http2 = False

    def __init__(self, upstream: Upstream, request: Request, connection: int, served: int) -> None:
        """Records the try at once: a fault that answers nothing is still one."""
        members = request.members
        self.upstream = upstream
        self.request = request
        self.served = served
        self.model = str(members.get("model", ""))
        self.stream = members.get("stream") is True
        self.nonce = nonce_of(request.body)
        self.fault, _, self.argument = self.model.partition("@")[0].partition("=")
        self.closed = False
        self.turn = Try(
            model=self.model,
            nonce=self.nonce,
            path=request.path,
            headers=request.headers,
            body=request.body,
            n=upstream.count(self.model),
            connection=connection,
            http2=self.http2,
        )
        upstream.record(self.turn)

    @abc.abstractmethod
    async def raw(self, data: bytes) -> None:
        """Send bytes as they are. HTTP/1.1 only."""

    @abc.abstractmethod
    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send a response head; without a content-length the body is chunked."""

    @abc.abstractmethod
    async def write(self, data: bytes) -> None:
        """Send a part of the body."""

    @abc.abstractmethod
    async def end(self) -> None:
        """End the body as it should end."""

    @abc.abstractmethod
    async def reset(self) -> None:
        """RST: of the connection, in HTTP/2 of the stream."""

    @abc.abstractmethod
    async def close(self) -> None:
        """FIN, wherever the answer stands."""

    @abc.abstractmethod
    async def gone(self) -> None:
        """Wait (bounded) until the other side has given up."""

    async def reply(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole answer with a content-length, JSON unless `headers` say otherwise."""
        fixed = {"content-type": "application/json", "content-length": str(len(body))}
        await self.head(status, fixed | dict(headers or {}))
        await self.write(body)
        await self.end()

    def bill(self) -> answers.Bill:
        """Take the money: a node does so for every answer, wherever the client is by then."""
        made = self._make_bill()
        self.turn.billed_msats = made.msats
        self.turn.source = "billed"
        return made

    def unbilled_usage(self) -> answers.Bill:
        """Counts without a word on cost: the ledger computes, and must come to the same."""
        made = self.bill()
        self.turn.source = "computed"
        return made

    def _make_bill(self) -> answers.Bill:
        return answers.make_bill(
            self.nonce, self.model, self.turn.n, self.upstream.rates[self.model]
        )

    async def client_has_text(self) -> None:
        """Wait until the client has seen some text: what is sent on before that was held back."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.upstream.seen(self.nonce).wait()
        except TimeoutError:
            self.turn.notes.append("the client got no text while the stream was still open")

    async def client_left(self) -> None:
        """Wait until the client has gone, and a moment more for the proxy to notice."""
        async with asyncio.timeout(PATIENCE_S):
            await self.upstream.left(self.nonce).wait()
        await asyncio.sleep(LEAVING_S)

    def _keep(self, data: bytes) -> None:
        self.turn.sent_bytes += len(data)
        if len(self.turn.sent) < KEPT_BYTES:
            self.turn.sent += data[: KEPT_BYTES - len(self.turn.sent)]


type Behaviour = Callable[[Exchange], Coroutine[None, None, None]]


def table(
    *behaviours: Callable[[Exchange], Coroutine[None, None, None]],
) -> Mapping[str, Behaviour]:
    """Behaviours by the names they are asked for: the function's, with dashes."""
    return MappingProxyType({one.__name__.replace("_", "-"): one for one in behaviours})


class Http1(Exchange):
    """An exchange on HTTP/1.1."""

    def __init__(
        self,
        upstream: Upstream,
        request: Request,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        connection: int,
        served: int,
    ) -> None:
        """`streams`: the connection's reader and writer."""
        super().__init__(upstream, request, connection, served)
        self._reader, self._writer = streams
        self._chunked = False

    async def raw(self, data: bytes) -> None:
        self._keep(data)
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._chunked = "content-length" not in headers
        lines = [
            f"HTTP/1.1 {status} Because",
            "server: fault",
            "date: Mon, 23 Nov 2026 00:20:06 GMT",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += ["transfer-encoding: chunked"] if self._chunked else []
        await self.raw("\r\n".join((*lines, "", "")).encode())

    async def write(self, data: bytes) -> None:
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        if self._chunked:
            await self.raw(b"0\r\n\r\n")
        self.turn.whole = True

    async def reset(self) -> None:
        self.closed = True
        linger: socket.socket = self._writer.get_extra_info("socket")
        linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def close(self) -> None:
        self.closed = True
        self._writer.close()

    async def gone(self) -> None:
        self.closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.upstream.hang_s):
                while await self._reader.read(4096):
                    pass


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None at its end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    method, path, _ = first.split(" ", 2)
    return Request(method, path, headers, body)

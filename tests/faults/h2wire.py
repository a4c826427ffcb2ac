"""HTTP/2 at the upstream: the same exchanges, many on one connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests.faults.wire import Exchange, Request

if TYPE_CHECKING:
    from tests.faults.upstream import Upstream


class Http2(Exchange):
    """An exchange on one stream of an HTTP/2 connection."""

    http2 = True

    def __init__(
        self, upstream: Upstream, request: Request, link: Connection, stream_id: int
    ) -> None:
        """`link`: the connection; `stream_id`: this exchange's stream on it."""
        super().__init__(upstream, request, link.number, stream_id // 2)
        self._link = link
        self._id = stream_id

    async def raw(self, data: bytes) -> None:
        raise TypeError(f"{self.fault} is a fault of HTTP/1.1 alone: {data[:40]!r}")

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        pairs = [(":status", str(status)), *headers.items()]
        self._keep(repr(pairs).encode())
        self._link.h2.send_headers(self._id, pairs)
        await self._link.flush()

    async def write(self, data: bytes) -> None:
        self._keep(data)
        while data:
            room = await self._link.room(self._id)
            self._link.h2.send_data(self._id, data[:room])
            data = data[room:]
            await self._link.flush()

    async def end(self) -> None:
        self._link.h2.end_stream(self._id)
        self.turn.whole = True
        await self._link.flush()

    async def reset(self) -> None:
        self._link.h2.reset_stream(self._id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        await self._link.flush()

    async def close(self) -> None:
        await self._link.shut()

    async def gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.upstream.hang_s):
                await self._link.given_up(self._id)


class Connection:
    """One HTTP/2 connection. `number`: its id at the upstream; `h2`: the protocol's state."""

    def __init__(
        self,
        upstream: Upstream,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
    ) -> None:
        """`reader` and `writer`: the TLS connection."""
        self.number = number
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self._upstream = upstream
        self._reader = reader
        self._writer = writer
        self._heads: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._given_up: set[int] = set()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until the other side closes."""
        self.h2.initiate_connection()
        await self.flush()
        try:
            while data := await self._reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._on(event)
                await self.flush()
                async with self._changed:
                    self._changed.notify_all()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def flush(self) -> None:
        """Send what the protocol has ready."""
        self._writer.write(self.h2.data_to_send())
        await self._writer.drain()

    async def shut(self) -> None:
        """GOAWAY and FIN: every open stream dies."""
        self.h2.close_connection()
        await self.flush()
        self._writer.close()

    async def room(self, stream_id: int) -> int:
        """How much may be sent on a stream now; waits until it is something."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._window(stream_id) > 0)
        return min(self._window(stream_id), self.h2.max_outbound_frame_size)

    async def given_up(self, stream_id: int) -> None:
        """Wait for the other side's RST_STREAM."""
        async with self._changed:
            await self._changed.wait_for(lambda: stream_id in self._given_up)

    def _window(self, stream_id: int) -> int:
        if stream_id in self._given_up:
            raise ConnectionResetError
        return self.h2.local_flow_control_window(stream_id)

    def _on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived) and event.stream_id is not None:
            pairs = ((str(name), str(value)) for name, value in event.headers or ())
            self._heads[event.stream_id] = dict(pairs)
            self._bodies[event.stream_id] = bytearray()
        elif isinstance(event, h2.events.DataReceived) and event.stream_id is not None:
            self._bodies[event.stream_id] += event.data or b""
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamReset) and event.stream_id is not None:
            self._given_up.add(event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id is not None:
            task = asyncio.ensure_future(self._answer(event.stream_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream_id: int) -> None:
        head = self._heads.pop(stream_id)
        headers = {name: value for name, value in head.items() if not name.startswith(":")}
        body = bytes(self._bodies.pop(stream_id))
        request = Request(head[":method"], head[":path"], headers, body)
        with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
            await self._upstream.answer(Http2(self._upstream, request, self, stream_id))

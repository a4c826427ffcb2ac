"""Bytes of a connection, over real sockets: in order, to the end, no faster than they go out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arbstr.proxy.wire import Wire

FULL = 64 << 20
"""More than the buffers of a socket hold."""
WAIT_S = 10.0


class End:
    """Our end of a connection, and the peer's as a plain socket."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: socket.socket
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.peer = peer
        self.got = bytearray()
        self.came = asyncio.Event()

    def wire(self, wires: list[Wire]) -> Wire:
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        made = Wire(self.reader, transport, self.receive, lambda: wires)
        wires.append(made)
        return made

    def receive(self, data: bytes) -> None:
        self.got += data
        self.came.set()


@asynccontextmanager
async def connection() -> AsyncIterator[End]:
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    with peer:
        try:
            yield End(reader, writer, peer)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)  # the transport closes its socket in the next turn


async def until_buffered(end: End, text: bytes) -> None:
    """The stream's reader holds `text` and has not been asked for it."""
    async with asyncio.timeout(WAIT_S):
        while not end.reader._buffer.endswith(text):  # type: ignore[attr-defined] # noqa: ASYNC110
            await asyncio.sleep(0)


async def read_all(end: End, size: int) -> None:
    loop = asyncio.get_running_loop()
    left = size
    async with asyncio.timeout(WAIT_S):
        while left:
            left -= len(await loop.sock_recv(end.peer, 1 << 20))


def test_what_came_before_comes_first() -> None:
    async def talk() -> None:
        async with connection() as end:
            end.peer.send(b"early ")
            await until_buffered(end, b"early ")
            wire = end.wire([])
            end.receive(await wire.read(1))
            end.peer.send(b"late")
            async with asyncio.timeout(WAIT_S):
                while end.got != b"early late":
                    end.came.clear()
                    await end.came.wait()

    asyncio.run(talk())


def test_the_end_is_read_once_the_peer_has_ended() -> None:
    async def talk() -> None:
        async with connection() as end:
            wire = end.wire([])
            end.peer.send(b"last")
            end.peer.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(WAIT_S):
                assert await wire.read(1) == b""
            assert end.got == b"last"

    asyncio.run(talk())


def test_an_end_that_came_before_is_not_missed() -> None:
    async def talk() -> None:
        async with connection() as end:
            end.peer.send(b"all there is")
            end.peer.shutdown(socket.SHUT_WR)
            await until_buffered(end, b"is")
            async with asyncio.timeout(WAIT_S):
                while not end.reader._eof:  # type: ignore[attr-defined] # noqa: ASYNC110
                    await asyncio.sleep(0)
                wire = end.wire([])
                assert await wire.read(1) == b"all there is"
                assert await wire.read(1) == b""

    asyncio.run(talk())


def test_a_connection_that_breaks_has_ended() -> None:
    async def talk() -> None:
        async with connection() as end:
            wire = end.wire([])
            end.writer.transport.abort()
            async with asyncio.timeout(WAIT_S):
                assert await wire.read(1) == b""

    asyncio.run(talk())


def test_nothing_is_read_from_others_while_a_peer_is_slow() -> None:
    async def talk() -> None:
        async with connection() as slow, connection() as fast:
            wires: list[Wire] = []
            slow.wire(wires)
            fast.wire(wires)
            slow.writer.write(bytes(FULL))
            assert wires[0].full
            fast.peer.send(b"more")
            await asyncio.sleep(0.05)
            assert fast.got == b""
            await read_all(slow, FULL)
            async with asyncio.timeout(WAIT_S):
                await fast.came.wait()
            assert fast.got == b"more"

    asyncio.run(talk())


def test_the_slow_peer_itself_is_heard() -> None:
    async def talk() -> None:
        async with connection() as slow:
            wire = slow.wire([])
            slow.writer.write(bytes(FULL))
            slow.peer.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(WAIT_S):
                assert await wire.read(1) == b""
            slow.writer.transport.abort()

    asyncio.run(talk())


def test_a_new_connection_is_not_read_while_a_peer_is_slow() -> None:
    async def talk() -> None:
        async with connection() as slow, connection() as new:
            wires: list[Wire] = []
            slow.wire(wires)
            slow.writer.write(bytes(FULL))
            new.wire(wires)
            new.peer.send(b"more")
            await asyncio.sleep(0.05)
            assert new.got == b""
            slow.writer.transport.abort()  # whoever is gone holds up nobody
            async with asyncio.timeout(WAIT_S):
                await new.came.wait()

    asyncio.run(talk())

"""The bytes of one TCP connection, handed on as they come.

mitmproxy reads through `asyncio.StreamReader`: what a socket brings is put into a buffer, a future
wakes the task that waits for it, and that task takes it out again, one turn of the event loop
later. Here the socket's protocol hands it to the handler where it stands, in pieces as large as
they come. To mitmproxy's `handle_connection`, which goes on seeing to a connection's end, a `Wire`
is a reader that never has a byte to give.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import override


class Wire(asyncio.Protocol):
    """One connection, from the moment on at which it is made."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        transport: asyncio.Transport,
        receive: Callable[[bytes], None],
        others: Callable[[], Iterable[Wire]],
    ) -> None:
        """Take the place of the protocol that feeds `reader`.

        `receive`: called with every piece. `others`: the wires that are not read while this one
        cannot be written, so that nothing piles up before a slow peer.
        """
        self.full = False
        self._transport = transport
        self._receive = receive
        self._others = others
        self._ended = asyncio.get_running_loop().create_future()
        transport.set_protocol(self)
        # What came before is still in the reader, which has no public way to say so.
        self._before = bytes(reader._buffer)  # type: ignore[attr-defined] # noqa: SLF001
        if reader._eof or reader.exception() is not None:  # type: ignore[attr-defined] # noqa: SLF001
            self._end()
        self.go_on()  # a reader that has much stops its transport
        if any(wire.full for wire in others()):
            self.hold()

    async def read(self, _: int) -> bytes:
        """What came before the wire was there; then b"", once the peer has ended."""
        if self._before:
            before, self._before = self._before, b""
            return before
        await self._ended
        return b""

    @override
    def data_received(self, data: bytes) -> None:
        self._receive(data)

    @override
    def eof_received(self) -> bool:
        self._end()
        return True  # half-closed: our side may still write

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self.resume_writing()

    @override
    def pause_writing(self) -> None:
        self.full = True
        for wire in self._others():
            if wire is not self:
                wire.hold()

    @override
    def resume_writing(self) -> None:
        self.full = False
        wires = list(self._others())
        for wire in wires:
            if not any(other.full for other in wires if other is not wire):
                wire.go_on()

    def hold(self) -> None:
        """Read no more, for now."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

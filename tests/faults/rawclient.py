"""A client on a bare socket: one that leaves when it likes, or reads when it likes."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)


class RawClient:
    """One connection to a proxy on loopback. `received`: every byte read so far."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        """`receive_buffer_bytes`: of the socket; small makes a slow reader felt early."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._port = port
        self.received = bytearray()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def ask(
        self, model: str, content: str, *, stream: bool, headers: Mapping[str, str]
    ) -> None:
        """Send one chat request; do not wait for anything."""
        messages = [{"role": "user", "content": content}]
        body = json.dumps({"model": model, "messages": messages, "stream": stream}).encode()
        fixed = {
            "host": f"127.0.0.1:{self._port}",
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
        lines = [f"{name}: {value}" for name, value in (fixed | dict(headers)).items()]
        head = "\r\n".join(("POST /v1/chat/completions HTTP/1.1", *lines, "", ""))
        await asyncio.get_running_loop().sock_sendall(self._socket, head.encode() + body)

    async def read(self, limit_bytes: int = 65536) -> bytes:
        """Something more; b"" at the end."""
        data = await asyncio.get_running_loop().sock_recv(self._socket, limit_bytes)
        self.received += data
        return data

    async def read_until(self, mark: bytes) -> None:
        """Read until `mark` has come. Raises ConnectionError if it never does."""
        while mark not in self.received[-(1 << 17) :]:
            if not await self.read():
                raise ConnectionError(
                    f"the end came before {mark!r}: {bytes(self.received[-300:])!r}"
                )

    def close(self) -> None:
        """FIN; RST where something is unread."""
        self._socket.close()

    def reset(self) -> None:
        """RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()

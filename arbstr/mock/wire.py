"""Tornado's side: requests come in whole, scripts go out.

Heads are written as bytes of our own, not by `write_headers`: the node's have lower-case names and
one of them twice.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine, Generator

from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from arbstr.mock.script import End, Pause, Step

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, zero seconds


class Exchange(HTTPMessageDelegate):
    """One request, and the connection its answer goes down.

    Attributes:
        method: of the request.
        path: with the query, as it came.
        headers: names in lower case; of a repeated one the values joined by commas.
        body: whole.
        close: whether the client wants the connection closed.
    """

    def __init__(self, conn: HTTP1Connection, answer: "Callable[[Exchange], None]") -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.close = False
        self._conn = conn
        self._answer = answer
        self._parts: list[bytes] = []

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """Keep the head."""
        assert isinstance(start_line, RequestStartLine)  # noqa: S101 - a server reads requests
        self.method, self.path = start_line.method, start_line.path
        self.headers = {name.lower(): value for name, value in headers.items()}
        wish = self.headers.get("connection", "").lower()
        self.close = wish == "close" or start_line.version == "HTTP/1.0"

    def data_received(self, chunk: bytes) -> None:
        """Keep a part of the body."""
        self._parts.append(chunk)

    def finish(self) -> None:
        """Answer."""
        self.body = b"".join(self._parts)
        self._answer(self)

    def play(
        self,
        steps: Generator[Step, None, None],
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        """Write a script: at once if it can be, else from its first pause on in the background."""
        ready: list[bytes] = []
        for step in steps:
            if isinstance(step, bytes):
                ready.append(step)
            else:
                if ready:
                    self._conn.write(b"".join(ready))
                spawn(self._play_on(step, steps))
                return
        self._conn.write(b"".join(ready))
        self._conn.finish()

    async def _play_on(self, step: Step, steps: Generator[Step, None, None]) -> None:
        """The rest of a script. A client that has gone does not stop it."""
        stream = self._conn.stream
        while True:
            if isinstance(step, Pause):
                await asyncio.sleep(step.ms / 1000)
            elif isinstance(step, End):
                if step is End.RESET and stream.socket is not None:
                    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self._conn.close()
                steps.close()
                return
            elif not stream.closed():
                await self._conn.write(step)
            following = next(steps, None)
            if following is None:
                break
            step = following
        if not stream.closed():
            self._conn.finish()


class Intake(HTTPServerConnectionDelegate):
    """Makes an `Exchange` of every request.

    Args:
        answer: called with each, as soon as its body is whole.
    """

    def __init__(self, answer: Callable[[Exchange], None]) -> None:
        self._answer = answer

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Exchange:
        """Tornado asks who takes the next request of a connection."""
        del server_conn
        assert isinstance(request_conn, HTTP1Connection)  # noqa: S101 - tornado has no other
        return Exchange(request_conn, self._answer)

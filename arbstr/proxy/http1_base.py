"""What the two sides of HTTP/1 have in common: `http1.py` and `http1_client.py`."""

from __future__ import annotations

from typing import override

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http._events import HttpEvent
from mitmproxy.proxy.layers.http._http1 import Http1Connection

from arbstr.proxy.framing import Framing, ends_with_connection


class Chunks(ChunkedReader):
    """Reads chunks, drops trailers, and bounds what is neither: chunk headers and trailers."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    @override
    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        found = super().__call__(buf)
        if found is None and len(buf) > self._limit_bytes:
            raise h11.RemoteProtocolError("the header of a chunk does not end")
        return h11.EndOfMessage() if isinstance(found, h11.EndOfMessage) else found


class GuardedConnection(Http1Connection):
    """Nothing here waits for the reply to a command, so events need not be kept for later."""

    said = Framing([], [], closes=False)
    """What the head of the response says."""

    @override
    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, HttpEvent):
            return self.send(event)
        if isinstance(event, events.DataReceived):
            self.buf += event.data
        commanded: layer.CommandGenerator[None] = self.state(event)
        return commanded

    @override
    def mark_done(
        self, *, request: bool = False, response: bool = False
    ) -> layer.CommandGenerator[None]:
        self.request_done = self.request_done or request
        self.response_done = self.response_done or response
        if not (self.request_done and self.response_done):
            return
        assert self.request is not None
        assert self.response is not None
        if (
            self.said.closes
            or self.closes_by_request()
            or ends_with_connection(self.request, self.response, self.said)
        ):
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        self.request_done = self.response_done = False
        self.request = self.response = None
        self.stream_id = self.next_stream_id()
        self.state = self.read_headers
        if self.buf:
            yield from self.read_headers(events.DataReceived(self.conn, b""))

    def closes_by_request(self) -> bool:
        """Whether the request wants the connection closed after it."""
        raise NotImplementedError

    def next_stream_id(self) -> int | None:
        """The stream that comes next, None where it says itself which it is."""
        raise NotImplementedError

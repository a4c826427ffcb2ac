"""HTTP/1 as mitmproxy speaks it, with bounds: heads that end, and no room for two readings of one.

mitmproxy waits for ever for the end of a head, keeps whatever a client sends ahead, is lenient
about line ends, logs what it cannot read (keys are in it), gives up on trailers with an exception,
and takes a 1xx for the final response. All of it happens below the hooks, so this is where it is
put right: here the side of the client, in `http1_client.py` that of the upstream.

Every byte passes through here, so it is also where time is saved: a head is parsed once, by those
who judge it, and what its fields say of the connection is looked up once. Nothing here waits for
the reply to a command, so `handle_event` does without what a `Layer` has for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import override

import h11
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    Http1Server,
    ReceiveHttp,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._events import ErrorCode, HttpEvent

from arbstr.proxy.burst import Burst
from arbstr.proxy.framing import framing
from arbstr.proxy.head import END, Head, Refusal, Watch, error_body, target
from arbstr.proxy.http1_base import Chunks, GuardedConnection
from arbstr.proxy.messages import head_bytes, make_request

_CODES = {400: "bad_request", 408: "request_timeout", 413: "body_too_large"}
_CRLF = b"\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_HTTP1 = (b"HTTP/1.0", b"HTTP/1.1")


def error_response(status: int, code: str, message: str, path: str) -> bytes:
    """A whole HTTP/1 error response in the dialect of `path`; the connection closes after it."""
    headers = http.Headers(Connection="close", Content_Type="application/json")
    response = http.Response.make(status, error_body(status, code, message, path), headers)
    whole: bytes = http1.assemble_response(response)
    return whole


@dataclass(repr=False)
class Overdue(events.Event):
    """The client takes too long to send its request."""

    message: str


class GuardedServer(GuardedConnection, Http1Server):
    """The client's side. `head_bytes`: the largest head accepted."""

    def __init__(self, context: Context, head_bytes: int) -> None:
        super().__init__(context)
        self._head_bytes = head_bytes
        self._watch = Watch(head_bytes)
        self._left_bytes: int | None = None
        """How much of a body of known size is still to come; None: it comes in chunks."""
        self._chunks = Chunks(head_bytes)
        self._sends_chunks = False

    @override
    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, Overdue):
            return self.refuse(408, event.message)
        if isinstance(event, events.DataReceived):
            left = self._left_bytes
            if left and len(event.data) <= left and not self.buf and self.state == self.read_body:
                return self._body(event.data)
        return super().handle_event(event)

    @property
    def mid_request(self) -> bool:
        """Whether a request has begun to come in and is not whole."""
        return bool(self.buf) if self.request is None else not self.request_done

    def refuse(self, status: int, message: str, code: str = "") -> layer.CommandGenerator[None]:
        """Close, with an error where nothing was answered yet. A stream, if any, is told."""
        if self.response is None and self.conn.state & ConnectionState.CAN_WRITE:
            yield self._say(status, code or _CODES[status], message)
        yield commands.CloseConnection(self.conn)
        self.state = self.done
        if self.request is not None:
            gone = RequestProtocolError(self.stream_id, message, ErrorCode.CLIENT_DISCONNECTED)
            yield ReceiveHttp(gone)

    # --- in ---------------------------------------------------------------------------------------

    @override
    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if not isinstance(event, events.DataReceived):
            # Without the base's log line: it tells what has come, and keys are in it.
            yield commands.CloseConnection(self.conn)
            return
        buffer = self.buf._data  # noqa: SLF001 - bytes(self.buf) would copy it for each byte
        while buffer.startswith(_CRLF):  # RFC 9112, 2.2: empty lines before a request
            self.buf.maybe_extract_at_most(len(_CRLF))
        found = self._watch.look(buffer)
        if isinstance(found, Refusal):
            yield from self.refuse(found.status, found.message, found.code)
        elif found is not None:
            yield from self._begin(found)

    def _begin(self, head: Head) -> layer.CommandGenerator[None]:
        """A head is there."""
        self.buf.maybe_extract_at_most(head.length)
        self.request = make_request(
            host="",
            port=0,
            method=head.method,
            scheme=b"",
            path=head.target,
            fields=head.fields,
            content=None,
            version=head.version,
        )
        begin = RequestHeaders(self.stream_id, self.request, end_stream=head.body_bytes == 0)
        if head.body_bytes is not None and head.body_bytes <= len(self.buf):
            yield from self._whole(begin, head.body_bytes)
            return
        self._left_bytes = head.body_bytes
        if head.body_bytes is None:
            self._chunks = Chunks(self._head_bytes)
        yield ReceiveHttp(begin)
        self.state = self.read_body
        yield from self.read_body(events.DataReceived(self.conn, b""))

    def _whole(self, begin: RequestHeaders, body_bytes: int) -> layer.CommandGenerator[None]:
        """All of a request has come."""
        self._left_bytes = 0
        self.state = self.read_body
        body = self.buf.maybe_extract_at_most(body_bytes)
        data = [RequestData(self.stream_id, bytes(body))] if body else []
        burst = (begin, *data, RequestEndOfMessage(self.stream_id))
        yield ReceiveHttp(Burst(self.stream_id, burst))
        if self.state == self.read_body:
            yield from self.mark_done(request=True)

    @override
    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if not isinstance(event, events.DataReceived):
            yield commands.CloseConnection(self.conn)
            cut = "the client has closed its connection before its request was whole"
            error = RequestProtocolError(self.stream_id, cut, ErrorCode.GENERIC_CLIENT_ERROR)
            yield ReceiveHttp(error)
        elif self._left_bytes is None:
            yield from self._read_chunks()
        else:
            yield from self._body(bytes(self.buf.maybe_extract_at_most(self._left_bytes) or b""))

    def _body(self, data: bytes) -> layer.CommandGenerator[None]:
        """More of a body of known size; b"" where it has none, or none yet."""
        assert self._left_bytes is not None
        self._left_bytes -= len(data)
        if data:
            yield ReceiveHttp(RequestData(self.stream_id, data))
        if self._left_bytes == 0 and self.state == self.read_body:
            yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
            yield from self.mark_done(request=True)

    def _read_chunks(self) -> layer.CommandGenerator[None]:
        """Like the base's `read_body`, but chunks that are malformed get an answer."""
        while self.state == self.read_body:
            try:
                found = self._chunks(self.buf)
            except h11.ProtocolError:
                yield from self.refuse(400, "the chunks of the request's body cannot be read")
                return
            if found is None:
                return
            if isinstance(found, h11.EndOfMessage):
                yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
                yield from self.mark_done(request=True)
                return
            yield ReceiveHttp(RequestData(self.stream_id, bytes(found.data)))

    @override
    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is on its way. What the client sends ahead is kept, up to a bound."""
        if isinstance(event, events.DataReceived) and len(self.buf) > self._head_bytes:
            yield from self.refuse(400, "too much was sent before the answer was read")
            return
        yield from super().wait(event)

    # --- out --------------------------------------------------------------------------------------

    @override
    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Errors of the proxy core go out as JSON, not as its HTML page; to HEAD nothing does."""
        if isinstance(event, Burst):
            for part in event.events:
                yield from self.send(part)
        elif isinstance(event, ResponseHeaders):
            yield from self._send_head(event)
        elif isinstance(event, ResponseData):
            if event.data and not self._is_head:  # RFC 9110, 9.3.2: to HEAD, no body
                yield commands.SendData(self.conn, self._framed(event.data))
        elif isinstance(event, ResponseEndOfMessage):
            if self._sends_chunks and not self._is_head:
                yield commands.SendData(self.conn, _LAST_CHUNK)
            yield from self.mark_done(response=True)
        elif isinstance(event, ResponseProtocolError) and self.response is None:
            status = event.code.http_status_code()
            if self.conn.state & ConnectionState.CAN_WRITE:
                if status is not None:
                    yield self._say(status, _CODES.get(status, "upstream_error"), event.message)
                yield commands.CloseConnection(self.conn)
        else:
            yield from super().send(event)

    def _send_head(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        data = event.response.data
        self.said = framing(event.response)
        self._sends_chunks = self.said.is_chunked
        if data.http_version not in _HTTP1:
            yield from super().send(event)
            return
        self.response = event.response
        line = b"%b %d %b" % (data.http_version, data.status_code, data.reason)
        yield commands.SendData(self.conn, head_bytes(line, event.response))

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._sends_chunks else data

    @override
    def mark_done(
        self, *, request: bool = False, response: bool = False
    ) -> layer.CommandGenerator[None]:
        if request and not self.response_done:
            self.state = self.wait
        yield from super().mark_done(request=request, response=response)

    @override
    def closes_by_request(self) -> bool:
        return self.request is not None and framing(self.request).closes

    @override
    def next_stream_id(self) -> int:
        return self.stream_id + 2

    def _say(self, status: int, code: str, message: str) -> commands.SendData:
        error = error_response(status, code, message, self._path())
        if self._is_head:
            error = error[: error.index(END) + len(END)]
        return commands.SendData(self.conn, error)

    @property
    def _is_head(self) -> bool:
        if self.request is not None:
            return self.request.data.method == b"HEAD"
        return bytes(self.buf).startswith(b"HEAD ")

    def _path(self) -> str:
        """Which path is asked for, as far as it is known."""
        if self.request is not None:
            return self.request.path.partition("?")[0]
        return target(bytes(self.buf))

"""HTTP/1 as mitmproxy speaks it, with bounds: heads that end, and no room for two readings of one.

mitmproxy waits for ever for the end of a head, keeps whatever a client sends ahead, is lenient
about line ends, logs what it cannot read (keys are in it), gives up on trailers with an exception,
and takes a 1xx for the final response. All of it happens below the hooks, so this is where it is
put right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import ConnectionState
from mitmproxy.http import Headers, Response
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    Http1Client,
    Http1Server,
    ReceiveHttp,
    RequestData,
    RequestEndOfMessage,
    RequestProtocolError,
    ResponseData,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._events import ErrorCode, HttpEvent

from arbstr.proxy.head import END, Refusal, Watch, error_body, target

_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CODES = {400: "bad_request", 408: "request_timeout", 413: "body_too_large"}
_CRLF = b"\r\n"


def error_response(status: int, code: str, message: str, path: str) -> bytes:
    """A whole HTTP/1 error response in the dialect of `path`; the connection closes after it."""
    headers = Headers(Connection="close", Content_Type="application/json")
    response = Response.make(status, error_body(status, code, message, path), headers)
    whole: bytes = http1.assemble_response(response)
    return whole


class _Chunks(ChunkedReader):
    """Reads chunks, drops trailers, and bounds what is neither: chunk headers and trailers."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        found = super().__call__(buf)
        if found is None and len(buf) > self._limit_bytes:
            raise h11.RemoteProtocolError("the header of a chunk does not end")
        return h11.EndOfMessage() if isinstance(found, h11.EndOfMessage) else found


def _bound_chunks(connection: Http1Client | Http1Server, limit_bytes: int) -> None:
    """Before the first chunk of a body is read: put our reader in place."""
    if type(connection.body_reader) is ChunkedReader:
        connection.body_reader = _Chunks(limit_bytes)


@dataclass(repr=False)
class Overdue(events.Event):
    """The client takes too long to send its request."""

    message: str


class GuardedServer(Http1Server):
    """The client's side. `head_bytes`: the largest head accepted."""

    def __init__(self, context: Context, head_bytes: int) -> None:
        super().__init__(context)
        self._head_bytes = head_bytes
        self._watch = Watch(head_bytes)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, Overdue):
            yield from self.refuse(408, event.message)
        else:
            yield from super()._handle_event(event)

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

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Look at a head before it is parsed."""
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
            yield from super().read_headers(event)

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Like the base's, but a body that is malformed gets an answer."""
        if not isinstance(event, events.DataReceived):
            yield from super().read_body(event)
            return
        _bound_chunks(self, self._head_bytes)
        while self.state == self.read_body:
            try:
                found = self.body_reader(self.buf)
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

    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is on its way. What the client sends ahead is kept, up to a bound."""
        if isinstance(event, events.DataReceived) and len(self.buf) > self._head_bytes:
            yield from self.refuse(400, "too much was sent before the answer was read")
            return
        yield from super().wait(event)

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Errors of the proxy core go out as JSON, not as its HTML page; to HEAD nothing does."""
        if isinstance(event, ResponseData) and self._is_head:
            return  # RFC 9110, 9.3.2: the client would read it as its next answer
        if isinstance(event, ResponseProtocolError) and self.response is None:
            status = event.code.http_status_code()
            if status is not None and self.conn.state & ConnectionState.CAN_WRITE:
                yield self._say(status, _CODES.get(status, "upstream_error"), event.message)
                yield commands.CloseConnection(self.conn)
                return
        yield from super().send(event)

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


class GuardedClient(Http1Client):
    """The upstream's side: a 1xx is skipped, and a head that never ends is an error."""

    def __init__(self, context: Context, head_bytes: int) -> None:
        super().__init__(context)
        self._head_bytes = head_bytes
        self._skipped_bytes = 0

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Skip what is not the final head; give up on one that is too long."""
        if isinstance(event, events.DataReceived):
            if self.request is None:  # the base would log what came: our key may be echoed in it
                yield commands.CloseConnection(self.conn)
                self.state = self.done
                return
            while _INFORMATIONAL.match(bytes(self.buf)):
                size = len(self.buf)
                if self.buf.maybe_extract_lines() is None:
                    break
                self._skipped_bytes += size - len(self.buf)
            endless = len(self.buf) > self._head_bytes and not _HEAD_END.search(bytes(self.buf))
            if endless or self._skipped_bytes > self._head_bytes:
                assert self.stream_id is not None
                yield commands.CloseConnection(self.conn)
                yield ReceiveHttp(
                    ResponseProtocolError(
                        self.stream_id,
                        f"the response's head is larger than {self._head_bytes:,} bytes",
                        ErrorCode.GENERIC_SERVER_ERROR,
                    )
                )
                self.state = self.done
                return
        yield from super().read_headers(event)

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Like the base's, but for trailers."""
        self._skipped_bytes = 0
        _bound_chunks(self, self._head_bytes)
        yield from super().read_body(event)

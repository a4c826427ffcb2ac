"""HTTP/1 as mitmproxy speaks it, with bounds: heads that end, and no room for two readings of one.

mitmproxy waits for ever for the end of a head and is lenient about line ends; and it takes a 1xx
for the final response. Both happen below the hooks, so this is where it is put right.
"""

from __future__ import annotations

import re

import h11
import msgspec
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
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._events import ErrorCode, HttpEvent

_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FOLDED = re.compile(rb"\r?\n[ \t]")
_SPACE_IN_NAME = re.compile(rb"\n[^:\r\n]*[ \t][^:\r\n]*:")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CODES = {400: "bad_request", 408: "request_timeout", 413: "body_too_large", 431: "head_too_large"}


def error_response(status: int, message: str) -> bytes:
    """A whole HTTP/1 error response in OpenAI's shape, after which the connection closes."""
    code = _CODES.get(status, "upstream_error")
    kind = "invalid_request_error" if status < 500 else "upstream_error"
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "code": code}})
    headers = Headers(Connection="close", Content_Type="application/json")
    whole: bytes = http1.assemble_response(Response.make(status, body, headers))
    return whole


class _NoTrailers(ChunkedReader):
    """Reads chunks and drops trailers, on which mitmproxy's HTTP/1 gives up with an exception."""

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        found = super().__call__(buf)
        return h11.EndOfMessage() if isinstance(found, h11.EndOfMessage) else found


def _without_trailers(connection: Http1Client | Http1Server) -> None:
    """Before the first chunk of a body is read: put our reader in place."""
    if type(connection.body_reader) is ChunkedReader:
        connection.body_reader = _NoTrailers()


class GuardedServer(Http1Server):
    """The client's side. `head_bytes`: the largest head accepted."""

    def __init__(self, context: Context, head_bytes: int) -> None:
        super().__init__(context)
        self._head_bytes = head_bytes

    @property
    def mid_request(self) -> bool:
        """Whether a request has begun to come in and is not whole."""
        return bool(self.buf) if self.request is None else not self.request_done

    def refuse(self, status: int, message: str) -> layer.CommandGenerator[None]:
        """Answer with an error and close."""
        yield commands.SendData(self.conn, error_response(status, message))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Look at a head before it is parsed."""
        if isinstance(event, events.DataReceived) and (problem := self._problem()) is not None:
            yield from self.refuse(*problem)
            return
        yield from super().read_headers(event)

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Like the base's, but for trailers."""
        _without_trailers(self)
        yield from super().read_body(event)

    def _problem(self) -> tuple[int, str] | None:
        head = bytes(self.buf)
        match = _HEAD_END.search(head)
        if match is not None:
            head = head[: match.end()]
        if len(head) > self._head_bytes:
            return 431, f"the request's head is larger than {self._head_bytes:,} bytes"
        if _BARE_LF.search(head):
            return 400, "a line of the request's head ends without CR"
        if _FOLDED.search(head):
            return 400, "a header of the request is folded over two lines"
        if _SPACE_IN_NAME.search(head):
            return 400, "a header name of the request holds white space"
        return None

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Errors of the proxy core go out as JSON, not as its HTML page."""
        if isinstance(event, ResponseProtocolError):
            status = event.code.http_status_code()
            if (
                self.response is None
                and status is not None
                and (self.conn.state & ConnectionState.CAN_WRITE)
            ):
                yield commands.SendData(self.conn, error_response(status, event.message))
                yield commands.CloseConnection(self.conn)
                return
        yield from super().send(event)


class GuardedClient(Http1Client):
    """The upstream's side: a 1xx is skipped, and a head that never ends is an error."""

    def __init__(self, context: Context, head_bytes: int) -> None:
        super().__init__(context)
        self._head_bytes = head_bytes

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Skip what is not the final head; give up on one that is too long."""
        if isinstance(event, events.DataReceived) and self.request is not None:
            while _INFORMATIONAL.match(bytes(self.buf)):
                if self.buf.maybe_extract_lines() is None:
                    break
            if len(self.buf) > self._head_bytes and not _HEAD_END.search(bytes(self.buf)):
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
        _without_trailers(self)
        yield from super().read_body(event)

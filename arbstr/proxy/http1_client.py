"""The upstream's side of HTTP/1: a 1xx is skipped, and a head that never ends is an error."""

from __future__ import annotations

import re
from typing import override

from h11._readers import ChunkedReader
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    Http1Client,
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
from mitmproxy.proxy.layers.http._http1 import make_body_reader

from arbstr.proxy.burst import Burst
from arbstr.proxy.framing import body_bytes, framing
from arbstr.proxy.head import read_fields
from arbstr.proxy.http1_base import Chunks, GuardedConnection
from arbstr.proxy.messages import head_bytes, make_response

_STATUS = re.compile(rb"(HTTP/1\.[01]) ([1-9]\d\d) ?([\x20-\x7e]*)")
_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")


def read_head(lines: list[bytes]) -> http.Response:
    """The head of a response. Raises ValueError.

    mitmproxy reads more than is right, such as folded lines, but takes ten times as long.
    """
    status = _STATUS.fullmatch(lines[0])
    fields = read_fields(b"\r\n".join(lines[1:]))
    if status is None or len(fields) < len(lines) - 1:
        lenient: http.Response = http1.read_response_head(lines)
        return lenient
    version, code, reason = status.groups()
    return make_response(int(code), fields, None, version=version, reason=reason)


class GuardedClient(GuardedConnection, Http1Client):
    """`head_bytes`: the largest head accepted. Requests are ours: HTTP/1.1, with a length."""

    def __init__(self, context: Context, head_bytes: int) -> None:
        super().__init__(context)
        self._head_bytes = head_bytes
        self._skipped_bytes = 0

    @override
    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, Burst):
            for part in event.events:
                yield from self.send(part)
        elif isinstance(event, RequestProtocolError):
            yield commands.CloseConnection(self.conn)
        elif isinstance(event, RequestHeaders):
            assert self.stream_id is None
            self.stream_id, self.request = event.stream_id, event.request
            data = event.request.data
            line = b"%b %b %b" % (data.method, data.path, data.http_version)
            yield commands.SendData(self.conn, head_bytes(line, event.request))
        elif isinstance(event, RequestData):
            yield commands.SendData(self.conn, event.data)
        elif isinstance(event, RequestEndOfMessage):
            yield from self.mark_done(request=True)
        else:
            raise TypeError(f"an upstream is not sent {event}")

    @override
    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if not isinstance(event, events.DataReceived):
            yield from super().read_headers(event)
            return
        if self.request is None:  # the base would log what came: our key may be echoed in it
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        self._skip_informational()
        lines = self.buf.maybe_extract_lines()
        if self._is_endless(found=lines is not None):
            yield commands.CloseConnection(self.conn)
            yield self._broken(f"the response's head is larger than {self._head_bytes:,} bytes")
            self.state = self.done
        elif lines:
            yield from self._begin([bytes(line) for line in lines], event)

    def _skip_informational(self) -> None:
        """RFC 9110, 15.2: any number of them may come before the final response."""
        while _INFORMATIONAL.match(self.buf._data):  # noqa: SLF001 - bytes(self.buf) would copy it
            size = len(self.buf)
            if self.buf.maybe_extract_lines() is None:
                break
            self._skipped_bytes += size - len(self.buf)

    def _is_endless(self, *, found: bool) -> bool:
        return self._skipped_bytes > self._head_bytes or (
            not found and len(self.buf) > self._head_bytes
        )

    def _begin(
        self, lines: list[bytes], event: events.ConnectionEvent
    ) -> layer.CommandGenerator[None]:
        """A head is there."""
        assert self.stream_id is not None
        assert self.request is not None
        try:
            self.response = read_head(lines)
            self.said = framing(self.response)
            size = body_bytes(self.request, self.response, self.said)
        except ValueError as error:
            yield commands.CloseConnection(self.conn)
            yield self._broken(f"Cannot parse HTTP response: {error}")
            return
        begin = ResponseHeaders(self.stream_id, self.response, end_stream=size == 0)
        self._skipped_bytes = 0
        if size is not None and 0 <= size <= len(self.buf):
            yield from self._whole(begin, size)
            return
        yield ReceiveHttp(begin)
        self.body_reader = make_body_reader(size)
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = Chunks(self._head_bytes)
        self.state = self.read_body
        yield from self.read_body(event)

    def _whole(self, begin: ResponseHeaders, size: int) -> layer.CommandGenerator[None]:
        """All of a response has come."""
        body = self.buf.maybe_extract_at_most(size)
        data = [ResponseData(begin.stream_id, bytes(body))] if body else []
        burst = (begin, *data, ResponseEndOfMessage(begin.stream_id))
        yield ReceiveHttp(Burst(begin.stream_id, burst))
        yield from self.mark_done(response=True)

    def _broken(self, message: str) -> ReceiveHttp:
        assert self.stream_id is not None
        return ReceiveHttp(
            ResponseProtocolError(self.stream_id, message, ErrorCode.GENERIC_SERVER_ERROR)
        )

    @override
    def closes_by_request(self) -> bool:
        return False  # it is ours

    @override
    def next_stream_id(self) -> None:
        return None

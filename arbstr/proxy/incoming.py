"""A client's request, until it is whole: the half of a stream that needs no upstream."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseHeaders,
    SendHttp,
)

from arbstr.proxy.messages import make_response
from arbstr.proxy.offer import offer

if TYPE_CHECKING:
    from arbstr.proxy.layer import FallbackLayer  # it builds streams, and they know it


class IncomingStream(HttpStream):
    """mitmproxy's stream, with a bound on bodies and without what `http1.py` has checked already.

    Its `make_server_connection` is where a request goes that no add-on has answered.
    """

    def __init__(self, context: Context, stream_id: int, parent: FallbackLayer) -> None:
        super().__init__(context, stream_id)
        self.parent = parent
        self.service = parent.service
        self.client_state = self.state_wait_for_request_headers

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        """Answer a request that is refused by its head before its body has come."""
        if event.replay_flow is not None or self.parent.checks_heads:
            yield from super().state_wait_for_request_headers(event)
        else:
            yield from self.begin(event.request)
        if not event.end_stream:
            yield from self.answer_early()

    def begin(self, request: http.Request) -> layer.CommandGenerator[None]:
        """What the base does with a head, without the checks that `http1.py` has made already."""
        server = self.context.server
        assert server.address is not None
        request.data.host, request.data.port = server.address
        request.data.scheme = b"https" if server.tls else b"http"
        self.flow = http.HTTPFlow(self.context.client, server)
        self.flow.request = request
        self.flow.live = True
        yield from self.offer(HttpRequestHeadersHook(self.flow))
        if (yield from self.check_killed(emit_error_hook=True)):
            return
        if "expect" in request.headers:
            yield from self.ask_to_continue(request)
        self.client_state = self.state_consume_request_body
        self.server_state = self.state_wait_for_response_headers

    def ask_to_continue(self, request: http.Request) -> layer.CommandGenerator[None]:
        """RFC 9110, 10.1.1: the client waits before it sends its body."""
        if request.headers.pop("expect").lower() == "100-continue":
            go_on = ResponseHeaders(self.stream_id, make_response(100, (), None), end_stream=False)
            yield SendHttp(go_on, self.context.client)

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Keep no body that is over the limit."""
        if isinstance(event, RequestData):
            size = len(self.request_body_buf) + len(event.data)
            if size > self.service.body_bytes:
                self.flow.response = self.service.too_large(self.flow)
                yield from self.answer_early()
                return
        if self.parent.checks_heads:
            yield from super().state_consume_request_body(event)
        elif isinstance(event, RequestData):
            self.request_body_buf += event.data
        else:
            yield from self.request_is_whole()

    def request_is_whole(self) -> layer.CommandGenerator[None]:
        """What the base does at the end of a request."""
        request = self.flow.request
        request.data.timestamp_end = time.time()
        request.data.content = bytes(self.request_body_buf)
        self.request_body_buf.clear()
        self.client_state = self.state_done
        yield from self.offer(HttpRequestHook(self.flow))
        if (yield from self.check_killed(emit_error_hook=True)):
            return
        if self.flow.response is None:
            yield from self.make_server_connection()
            return
        yield from self.offer(HttpResponseHeadersHook(self.flow))
        if not (yield from self.check_killed(emit_error_hook=True)):
            yield from self.send_response()

    def offer(self, hook: commands.StartHook) -> layer.CommandGenerator[None]:
        """Have add-ons called, and wait until they are done."""
        return offer(hook, known=self.parent.knows_offers)

    def answer_early(self) -> layer.CommandGenerator[None]:
        """Send the answer, if there is one, and take no notice of the rest of the body.

        The connection closes, but not before the body has ended or its time is up: the client may
        still be writing, and a reset would take the answer away from it (RFC 9112, 9.6).
        """
        if self.client_state != self.state_consume_request_body or self.flow.response is None:
            return
        self.request_body_buf.clear()
        self.flow.response.headers["connection"] = "close"
        self.client_state = self.state_ignore_request_body
        yield HttpResponseHeadersHook(self.flow)
        yield from self.send_response()

    def state_ignore_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is out; wait for the end of the request."""
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

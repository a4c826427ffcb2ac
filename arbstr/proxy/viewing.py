"""What people who look at the traffic get to see, kept apart from what is sent.

The engine tells a `Viewing`, where there is one, what happens. It keeps secrets out of flows
(`masks.py`), keeps a copy of what was streamed, puts each request's story on its flow (`story.py`)
and makes flows of failed attempts. ``arbstr serve`` has nobody who looks, and no `Viewing`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec
from mitmproxy import ctx, http
from mitmproxy import flow as mflow
from mitmproxy.hooks import UpdateHook
from mitmproxy.net.http import status_codes

from arbstr.config import Config
from arbstr.core.dialects import by_path
from arbstr.core.dialects.base import Problem
from arbstr.core.exchange import Attempt, Exchange, Ticket
from arbstr.core.record import RequestRow
from arbstr.core.sse import comment
from arbstr.proxy import story
from arbstr.proxy.masks import Hidden, Masks

_HEAD_BYTES = 768 << 10
_TAIL_BYTES = 256 << 10
"""What is kept of one streamed body: its beginning, and its end with the usage."""


class Kept:
    """A streamed body, bounded: whole pieces from its beginning and its end."""

    __slots__ = ("_head", "_head_bytes", "_left_out_bytes", "_tail", "_tail_bytes")

    def __init__(self) -> None:
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._head_bytes = self._tail_bytes = self._left_out_bytes = 0

    def add(self, piece: bytes) -> None:
        """The next piece, which ends where an event ends."""
        if not self._tail and self._head_bytes + len(piece) <= _HEAD_BYTES:
            self._head.append(piece)
            self._head_bytes += len(piece)
            return
        self._tail.append(piece)
        self._tail_bytes += len(piece)
        while self._tail_bytes > _TAIL_BYTES:
            dropped = len(self._tail.popleft())
            self._tail_bytes -= dropped
            self._left_out_bytes += dropped

    def body(self, *, events: bool) -> bytes:
        """What was kept. `events`: a comment says how much is missing, and where."""
        gap = b""
        if self._left_out_bytes and events:
            gap = comment(f"arbstr keeps no more: {self._left_out_bytes:,} bytes are left out here")
        return b"".join((*self._head, gap, *self._tail))


class Viewing:
    """Lives on the event loop, as the engine does.

    `watched`: whether anybody looks at flows or saves them. Where nobody does (plain mitmdump),
    secrets are still masked, for other add-ons may print flows, and nothing else is done.
    """

    def __init__(self, config: Config, *, reveal: bool) -> None:
        self.watched = False
        self._reveal = reveal
        self._masks = self._make_masks(config)
        self._hidden: WeakKeyDictionary[mflow.Flow, Hidden] = WeakKeyDictionary()
        self._kept: WeakKeyDictionary[mflow.Flow, Kept] = WeakKeyDictionary()
        self._flows: WeakValueDictionary[str, http.HTTPFlow] = WeakValueDictionary()
        self._told: WeakValueDictionary[tuple[int, int], http.HTTPFlow] = WeakValueDictionary()

    def use(self, config: Config) -> None:
        """A reloaded config."""
        self._masks = self._make_masks(config)

    def _make_masks(self, config: Config) -> Masks:
        keys = [provider.api_key for provider in config.providers]
        own = [key.reveal() for key in (*keys, config.server.auth_token) if key]
        return Masks(own, reveal=self._reveal)

    def is_ours(self, flow: mflow.Flow) -> bool:
        """Whether it came through us in this run, and not from a file."""
        return self._flows.get(flow.id) is flow

    # --- requests ---------------------------------------------------------------------------------

    def hide_head(self, flow: http.HTTPFlow) -> None:
        """Mask what the head of a request holds, before anybody else sees the flow.

        A replayed flow is masked already, but for what somebody has changed in it.
        """
        hidden = self._hidden.get(flow)
        if hidden is None:
            hidden = Hidden(self._masks.with_client(flow.request.headers.fields))
            self._hidden[flow] = hidden
        hidden.hide_head(flow.request)
        self._flows[flow.id] = flow

    def hide_body(self, flow: http.HTTPFlow) -> None:
        """Mask what its body holds, once it is whole."""
        if (hidden := self._hidden.get(flow)) is not None:
            hidden.hide_content(flow.request, members=_is_wallet(flow))

    def real(self, flow: http.HTTPFlow) -> http.Request:
        """The request as the client sent it, or as somebody has changed it since."""
        hidden = self._hidden.get(flow)
        return flow.request if hidden is None else hidden.real(flow.request)

    def mask(self, text: str, flow: mflow.Flow) -> str:
        """Any text that belongs to `flow`."""
        return self._masks_of(flow).text(text)

    def _masks_of(self, flow: mflow.Flow) -> Masks:
        hidden = self._hidden.get(flow)
        return self._masks if hidden is None else hidden.masks

    def adopt(self, flow: http.HTTPFlow, original: mflow.Flow | None = None) -> Hidden | None:
        """What the masks of `flow` stand for; None: nobody knows any more.

        `original`: the flow that it is a copy of; without one, its story names it.
        """
        if (hidden := self._hidden.get(flow)) is not None:
            return hidden
        told = story.read(flow)
        if original is None and told is not None:
            original = self._flows.get(told.flow)
        found = None if original is None else self._hidden.get(original)
        if found is None:
            return None
        hidden = msgspec.structs.replace(found, values=dict(found.values), response=None)
        self._hidden[flow] = hidden
        return hidden

    def hide_header(self, flow: http.HTTPFlow, name: str, secret: str) -> None:
        """Give `flow` a header that shows as a mask."""
        hidden = self._hidden.setdefault(flow, Hidden(self._masks))
        fields = ((name.encode(), secret.encode("utf-8", "surrogateescape")),)
        ((key, shown),) = Masks((), reveal=self._reveal).fields(fields)
        hidden.values[key.lower(), shown] = fields[0][1]
        flow.request.headers[name] = shown.decode("utf-8", "surrogateescape")

    # --- answers ----------------------------------------------------------------------------------

    def hide_response(self, flow: http.HTTPFlow, response: http.Response) -> http.Response:
        """The answer to show in place of `response`, which `response_down` gives back."""
        masks = self._masks_of(flow)
        fields = response.headers.fields
        content = response.raw_content
        shown_fields = masks.fields(fields)
        shown = None if content is None else masks.body(content, members=_is_wallet(flow))
        if shown_fields == fields and shown == content:
            return response
        masked = http.Response(**vars(response.data))
        masked.headers = http.Headers(shown_fields)
        masked.raw_content = shown
        hidden = self._hidden.setdefault(flow, Hidden(masks))
        hidden.response = response
        return masked

    def response_down(self, flow: http.HTTPFlow) -> http.Response:
        """The answer for the client."""
        assert flow.response is not None
        hidden = self._hidden.get(flow)
        if hidden is None or hidden.response is None:
            return flow.response
        response, hidden.response = hidden.response, None
        return response

    def keep(self, flow: http.HTTPFlow, data: bytes) -> None:
        """A piece of a streamed answer went down."""
        if self.watched:
            kept = self._kept.get(flow)
            if kept is None:
                kept = self._kept[flow] = Kept()
            kept.add(data)

    # --- stories ----------------------------------------------------------------------------------

    def finished(
        self, flow: http.HTTPFlow, exchange: Exchange, last: Callable[[Exchange], bytes]
    ) -> None:
        """A request has ended. `last`: what ends its streamed answer and is still to be sent."""
        if not self.watched:
            return
        response = flow.response
        if response is not None and response.raw_content is None:
            kept = self._kept.pop(flow, None) or Kept()
            if exchange.client_here:
                kept.add(last(exchange))
            body = kept.body(events=exchange.current.tryout.shape == "stream")
            response.raw_content = self._masks_of(flow).body(body, members=_is_wallet(flow))
        story.write(flow, story.tell(flow, exchange), self._masks_of(flow))
        self._told[exchange.ticket.id, 0] = flow

    def refused(
        self, flow: http.HTTPFlow, ticket: Ticket, row: RequestRow, problem: Problem
    ) -> None:
        """A request was refused by us, after it was read."""
        if self.watched:
            told = story.tell_refusal(flow, ticket, row, problem)
            story.write(flow, told, self._masks_of(flow))

    def denied(self, flow: http.HTTPFlow, code: str) -> None:
        """A request was turned away by the guard."""
        if self.watched:
            story.note(flow, f"refused: {code}", story.REFUSED)

    def late(self, exchange: Exchange, attempt: Attempt) -> None:
        """The bill of an attempt that was given up has come: its stories change."""
        changed: list[mflow.Flow] = []
        if (flow := self._told.get((exchange.ticket.id, 0))) is not None:
            story.write(flow, story.tell(flow, exchange), self._masks_of(flow))
            changed.append(flow)
        if (shown := self._told.get((exchange.ticket.id, attempt.n))) is not None:
            told = story.tell_attempt(shown, exchange, attempt)
            story.write(shown, told, self._masks_of(shown))
            changed.append(shown)
        if changed:
            ctx.master.addons.trigger(UpdateHook(changed))

    def attempt_flow(
        self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt, request: http.Request
    ) -> http.HTTPFlow:
        """A failed attempt as a flow of its own, to be announced through the ordinary hooks."""
        masks = self._masks_of(flow)
        shown = http.HTTPFlow(flow.client_conn, flow.server_conn)
        shown.is_replay = "request"
        shown.request = http.Request(**vars(request.data))
        hidden = Hidden(masks)
        hidden.hide_head(shown.request)
        hidden.hide_content(shown.request, members=_is_wallet(flow))
        # Our key must not come back as if it were the client's: only its own are remembered.
        own = self._hidden.get(flow)
        self._hidden[shown] = Hidden(masks, {} if own is None else dict(own.values))
        failure = attempt.failure
        if attempt.tryout.status is None:
            shown.error = mflow.Error(
                masks.text("no answer" if failure is None else failure.message)
            )
        else:
            shown.response = _response_of(attempt, masks)
        told = msgspec.structs.replace(story.tell_attempt(shown, exchange, attempt), flow=shown.id)
        story.write(shown, told, masks)
        self._flows[shown.id] = shown
        self._told[exchange.ticket.id, attempt.n] = shown
        return shown


def _response_of(attempt: Attempt, masks: Masks) -> http.Response:
    """What an upstream answered, as far as it was read."""
    tryout = attempt.tryout
    status = tryout.status or 0
    fields = tuple((n, v) for n, v in tryout.headers if n.lower() != b"transfer-encoding")
    body = tryout.body[:_HEAD_BYTES]
    started = attempt.started_ms / 1000
    return http.Response(
        b"HTTP/1.1",
        status,
        status_codes.RESPONSES.get(status, "").encode(),
        http.Headers(masks.fields(fields)),
        masks.body(body, members=True),
        None,
        started,
        time.time(),
    )


def _is_wallet(flow: http.HTTPFlow) -> bool:
    """Whether bodies may hold keys in members named so: on paths where no conversation is."""
    return by_path(flow.request.path.partition("?")[0]) is None

"""Response heads as the node sends them: lower case, `date` twice where an upstream had answered.

One function for each set of headers that was seen (captures/*/response.http).
"""

import secrets
import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from arbstr.mock.money import Bill

_CORS = (
    "access-control-allow-origin: *",
    "access-control-allow-methods: GET, POST, DELETE, OPTIONS",
    "access-control-allow-headers: *",
    "access-control-expose-headers: X-Total-Count, X-Request-Id",
)
_JSON = "content-type: application/json"
_CHUNKED = "transfer-encoding: chunked"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_EVENTS = "content-type: text/event-stream"


def own(
    status: int, rid: str | None, length: int, *, kind: str = _JSON, more: Sequence[str] = ()
) -> list[str]:
    """The node's own answers: errors, lists, balances. A crash has no request id."""
    tail = [] if rid is None else [_request_id(rid)]
    return [*_start(status), *more, f"content-length: {length}", kind, *tail]


def passed(rid: str, bill: Bill, length: int) -> list[str]:
    """A plain answer of the upstream's, with its price."""
    costs = bill.header_lines()
    return [
        *(*_start(200), *_CORS, _JSON, _date(), *costs),
        *(f"content-length: {length}", _request_id(rid)),
    ]


def passed_error(status: int, rid: str, length: int, more: Sequence[str] = ()) -> list[str]:
    """An upstream's 4xx, passed on with the upstream's headers."""
    return [
        *(*_start(status), _upstream_id(), *_CORS, _JSON, *more, _date()),
        *(f"content-length: {length}", _request_id(rid)),
    ]


def stream(rid: str) -> list[str]:
    """A streamed answer: no cost headers."""
    return [
        *(*_start(200), _upstream_id(), *_CORS, _EVENTS),
        *("cache-control: no-cache", "connection: keep-alive", _date()),
        *(_CHUNKED, _request_id(rid)),
    ]


def messages(rid: str, bill: Bill, length: int) -> list[str]:
    """A plain answer of `/v1/messages`."""
    costs = bill.header_lines()
    return [*_start(200), *costs, f"content-length: {length}", _JSON, _request_id(rid)]


def messages_stream(rid: str) -> list[str]:
    """A streamed answer of `/v1/messages`."""
    return [
        *(*_start(200), "cache-control: no-cache", "connection: keep-alive"),
        *(f"{_EVENTS}; charset=utf-8", _request_id(rid), _CHUNKED),
    ]


def paid_by_token(rid: str, bill: Bill, change: str, length: int | None) -> list[str]:
    """An answer paid with `X-Cashu`: price and change in the head, streamed or not."""
    start = [*_start(200), _upstream_id(), *_CORS]
    costs, coin = bill.header_lines(), f"x-cashu: {change}"
    if length is None:
        flow = (_EVENTS, "cache-control: no-cache", "connection: keep-alive", _date())
        return [*start, *flow, coin, *costs, _request_id(rid), _CHUNKED]
    return [*start, _JSON, _date(), *costs, coin, f"content-length: {length}", _request_id(rid)]


def encode(lines: list[str], *, close: bool) -> bytes:
    """The bytes of a head, blank line included; `close` says that this is the last answer."""
    if close:
        # Chunked framing that the node's server added itself stands behind it.
        at = len(lines) - (lines[-1] == _CHUNKED)
        lines = [*lines[:at], "connection: close", *lines[at:]]
    return f"{'\r\n'.join(lines)}\r\n\r\n".encode("latin-1")


def _start(status: int) -> tuple[str, str, str]:
    return f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}", _date(), "server: uvicorn"


def _request_id(rid: str) -> str:
    return f"x-routstr-request-id: {rid}"


def _upstream_id() -> str:
    return f"x-request-id: req-{secrets.token_urlsafe(12)}"


def _date() -> str:
    return _date_at(int(time.time()))


@lru_cache(maxsize=2)
def _date_at(second: int) -> str:
    return f"date: {formatdate(second, usegmt=True)}"

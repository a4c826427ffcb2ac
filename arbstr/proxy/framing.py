"""Where an HTTP/1 message ends, and whether its connection does: looked up once a message."""

from __future__ import annotations

import re

import msgspec
from mitmproxy import http
from mitmproxy.net.http import http1

_NAMES = (b"content-length", b"transfer-encoding", b"connection")
_SIZES = frozenset(map(len, _NAMES))
_SIZE = re.compile(rb"0|[1-9][0-9]*")
_WITH_BODY = (b"DELETE", b"GET", b"PATCH", b"POST", b"PUT")
_KEEP_ALIVE = (b"HTTP/1.1", b"HTTP/2.0")


class Framing(msgspec.Struct, frozen=True):
    """What a head says of it. `closes`: its connection closes after it (RFC 9112, 9.3)."""

    lengths: list[bytes]
    codings: list[bytes]
    closes: bool

    @property
    def is_chunked(self) -> bool:
        """Whether the body goes out in chunks, as mitmproxy's HTTP/1 sends them."""
        return any(b"chunked" in coding.lower() for coding in self.codings)


def framing(message: http.Message) -> Framing:
    """Read what the head of `message` says."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    for name, said in message.data.headers.fields:
        if len(name) not in _SIZES:
            continue
        lower = name.lower()
        if lower == b"content-length":
            lengths.append(said)
        elif lower == b"transfer-encoding":
            codings.append(said)
        elif lower == b"connection":
            connection += [token.strip().lower() for token in said.split(b",")]
    closes = b"close" in connection or (
        message.data.http_version not in _KEEP_ALIVE and b"keep-alive" not in connection
    )
    return Framing(lengths, codings, closes)


def body_bytes(request: http.Request, response: http.Response, said: Framing) -> int | None:
    """The size of a response's body: None where it is chunked, -1 where it ends with a connection.

    Like mitmproxy's `expected_http_body_size`, which it asks in all but the usual cases. Raises
    ValueError for a size that cannot be read.
    """
    status = response.data.status_code
    if request.data.method in _WITH_BODY and status >= 200 and status not in (204, 304):
        if len(said.lengths) == 1 and not said.codings and _SIZE.fullmatch(said.lengths[0]):
            return int(said.lengths[0])
        if said.codings == [b"chunked"] and not said.lengths:
            return None
    size: int | None = http1.expected_http_body_size(request, response)
    return size


def ends_with_connection(request: http.Request, response: http.Response, said: Framing) -> bool:
    """Whether a response ends where its connection does. `said`: by the response."""
    try:
        return body_bytes(request, response, said) == -1
    except ValueError:  # an add-on has set a length that is none
        return False

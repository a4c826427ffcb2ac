"""HTTP messages on the hot path: read and made without mitmproxy's general machinery.

`Headers.get` decodes, folds and goes through four layers of multi-dictionary, and it is asked some
twenty times a request; `http.Request(...)` checks the type of every field it is given. Together
that was a sixth of a request's time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from mitmproxy import http
from mitmproxy.net.http import http1, status_codes

_SIZE = re.compile(rb"0|[1-9][0-9]*")
_WITH_BODY = (b"DELETE", b"GET", b"PATCH", b"POST", b"PUT")
_KEEP_ALIVE = (b"HTTP/1.1", b"HTTP/2.0")

type Fields = Iterable[tuple[bytes, bytes]]


def values(message: http.Message, name: bytes) -> list[str]:
    """Every value of a header field, text as mitmproxy decodes it. `name`: in lower case."""
    size = len(name)
    return [
        value.decode("utf-8", "surrogateescape")
        for key, value in message.headers.fields
        if len(key) == size and key.lower() == name
    ]


def value(message: http.Message, name: bytes) -> str | None:
    """A header field, its values joined as RFC 9110, 5.3, allows; None where there is none."""
    found = values(message, name)
    return ", ".join(found) if found else None


def is_chunked(message: http.Message) -> bool:
    """Whether its body goes out in chunks, as mitmproxy's HTTP/1 sends them."""
    return any("chunked" in coding.lower() for coding in values(message, b"transfer-encoding"))


def closes(message: http.Message) -> bool:
    """Whether its connection closes after it (RFC 9112, 9.3)."""
    said = value(message, b"connection")
    tokens = () if said is None else [token.strip().lower() for token in said.split(",")]
    if "close" in tokens:
        return True
    return message.data.http_version not in _KEEP_ALIVE and "keep-alive" not in tokens


def body_bytes(request: http.Request, response: http.Response) -> int | None:
    """The size of a response's body: None where it is chunked, -1 where it ends with a connection.

    Like mitmproxy's `expected_http_body_size`, which it asks in all but the usual cases. Raises
    ValueError for a size that cannot be read.
    """
    length = _only(response, b"content-length", b"transfer-encoding")
    coding = _only(response, b"transfer-encoding", b"content-length")
    status = response.data.status_code
    if request.data.method in _WITH_BODY and status >= 200 and status not in (204, 304):
        if length is not None and _SIZE.fullmatch(length):
            return int(length)
        if coding == b"chunked":
            return None
    size: int | None = http1.expected_http_body_size(request, response)
    return size


def _only(message: http.Message, name: bytes, without: bytes) -> bytes | None:
    """A field that stands there once, and without another; None where it does not."""
    found = None
    for key, said in message.headers.fields:
        if len(key) in (len(name), len(without)) and (lower := key.lower()) in (name, without):
            if found is not None or lower == without:
                return None
            found = said
    return found


def head_bytes(first_line: bytes, message: http.Message) -> bytes:
    """A head on the wire of HTTP/1."""
    fields = [name + b": " + value for name, value in message.headers.fields]
    return b"\r\n".join((first_line, *fields, b"", b""))


def make_request(
    *,
    host: str,
    port: int,
    method: bytes,
    scheme: bytes,
    path: bytes,
    fields: Fields,
    content: bytes | None,
    version: bytes = b"HTTP/1.1",
) -> http.Request:
    """A request to `host`. `content`: None where the body is still to come."""
    now_s = time.time()
    data = http.RequestData.__new__(http.RequestData)
    vars(data).update(
        host=host,
        port=port,
        method=method,
        scheme=scheme,
        authority=b"",
        path=path,
        http_version=version,
        headers=_headers(fields),
        content=content,
        trailers=None,
        timestamp_start=now_s,
        timestamp_end=None if content is None else now_s,
    )
    request = http.Request.__new__(http.Request)
    request.data = data
    return request


def make_response(status: int, fields: Fields, content: bytes | None) -> http.Response:
    """A response. `content`: None where the body is streamed."""
    now_s = time.time()
    data = http.ResponseData.__new__(http.ResponseData)
    vars(data).update(
        http_version=b"HTTP/1.1",
        status_code=status,
        reason=status_codes.RESPONSES.get(status, "").encode(),
        headers=_headers(fields),
        content=content,
        trailers=None,
        timestamp_start=now_s,
        timestamp_end=now_s if content else None,
    )
    response = http.Response.__new__(http.Response)
    response.data = data
    return response


def _headers(fields: Fields) -> http.Headers:
    headers = http.Headers.__new__(http.Headers)
    headers.fields = tuple(fields)
    return headers

"""HTTP messages on the hot path: read and made without mitmproxy's general machinery.

`Headers.get` decodes, folds and goes through four layers of multi-dictionary, and it is asked some
twenty times a request; `http.Request(...)` checks the type of every field it is given. Together
that was a sixth of a request's time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from mitmproxy import http
from mitmproxy.net.http import status_codes

type Fields = Iterable[tuple[bytes, bytes]]


def values(message: http.Message, name: bytes) -> list[str]:
    """Every value of a header field, text as mitmproxy decodes it. `name`: in lower case."""
    return [
        value.decode("utf-8", "surrogateescape")
        for key, value in message.headers.fields
        if key.lower() == name
    ]


def value(message: http.Message, name: bytes) -> str | None:
    """A header field, its values joined as RFC 9110, 5.3, allows; None where there is none."""
    found = values(message, name)
    return ", ".join(found) if found else None


def make_request(
    *,
    host: str,
    port: int,
    method: bytes,
    scheme: bytes,
    path: bytes,
    fields: Fields,
    content: bytes,
) -> http.Request:
    """A whole request over HTTP/1.1 to `host`."""
    now_s = time.time()
    data = http.RequestData.__new__(http.RequestData)
    vars(data).update(
        host=host,
        port=port,
        method=method,
        scheme=scheme,
        authority=b"",
        path=path,
        http_version=b"HTTP/1.1",
        headers=_headers(fields),
        content=content,
        trailers=None,
        timestamp_start=now_s,
        timestamp_end=now_s,
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

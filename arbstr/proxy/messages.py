"""HTTP messages on the hot path: read and made without mitmproxy's general machinery.

`Headers.get` decodes, folds and goes through four layers of multi-dictionary, and it is asked some
twenty times a request; `http.Request(...)` checks the type of every field it is given. Together
that was a sixth of a request's time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import override

from mitmproxy import http
from mitmproxy.net.http import status_codes

type Fields = Iterable[tuple[bytes, bytes]]


class Headers(http.Headers):
    """mitmproxy's, with an index of their names: made for the first look, anew after a change."""

    _index: Mapping[bytes, list[bytes]] = {}
    _indexed: tuple[tuple[bytes, bytes], ...] | None = None

    def raw(self, name: bytes) -> Sequence[bytes]:
        """Every value of a field. `name`: in lower case."""
        if self._indexed is not self.fields:  # a change replaces the tuple
            index: dict[bytes, list[bytes]] = {}
            for key, said in self.fields:
                index.setdefault(key.lower(), []).append(said)
            self._index, self._indexed = index, self.fields
        return self._index.get(name, ())

    @override
    def get_all(self, name: str | bytes) -> list[str]:
        key = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
        return [_text(said) for said in self.raw(key.lower())]


def values(message: http.Message, name: bytes) -> list[str]:
    """Every value of a header field, text as mitmproxy decodes it. `name`: in lower case."""
    headers = message.data.headers
    if type(headers) is Headers:
        found = headers.raw(name)
        return [_text(said) for said in found] if found else []
    return [_text(said) for key, said in headers.fields if key.lower() == name]


def _text(said: bytes) -> str:
    return said.decode("utf-8", "surrogateescape")


def value(message: http.Message, name: bytes) -> str | None:
    """A header field, its values joined as RFC 9110, 5.3, allows; None where there is none."""
    found = values(message, name)
    return ", ".join(found) if found else None


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


def make_response(
    status: int,
    fields: Fields,
    content: bytes | None,
    *,
    version: bytes = b"HTTP/1.1",
    reason: bytes | None = None,
) -> http.Response:
    """A response. `content`: None where the body is streamed. `reason`: None for the usual one."""
    now_s = time.time()
    if reason is None:
        reason = status_codes.RESPONSES.get(status, "").encode()
    data = http.ResponseData.__new__(http.ResponseData)
    vars(data).update(
        http_version=version,
        status_code=status,
        reason=reason,
        headers=_headers(fields),
        content=content,
        trailers=None,
        timestamp_start=now_s,
        timestamp_end=now_s if content else None,
    )
    response = http.Response.__new__(http.Response)
    response.data = data
    return response


def _headers(fields: Fields) -> Headers:
    headers = Headers.__new__(Headers)
    headers.fields = tuple(fields)
    return headers

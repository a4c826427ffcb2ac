"""Which headers go up, and which come down."""

from __future__ import annotations

import re
from collections.abc import Iterable

from arbstr.core.secret import Secret
from arbstr.core.veil import Keys

type Fields = tuple[tuple[bytes, bytes], ...]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110, 7.6.1."""
_NOT_UP = _HOP_BY_HOP | {
    b"accept-encoding",
    b"content-length",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"http2-settings",
    b"origin",
    b"referer",
    b"via",
    b"x-real-ip",
    # Some servers let these change the path or the method that the guard has seen.
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
    b"x-original-url",
    b"x-rewrite-url",
}
_NOT_UP_PREFIXES = (b"x-arbstr-", b"x-forwarded-", b"sec-", b":")
_NOT_DOWN = _HOP_BY_HOP | {
    b"alt-svc",
    b"content-encoding",
    b"content-length",
    b"set-cookie",
    b"strict-transport-security",
}
_NOT_DOWN_PREFIXES = (b"access-control-", b"x-arbstr-", b":")
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]+ ?")
_ONCE = frozenset({b"date", b"server", b"content-type"})


def upstream(fields: Fields, *, host: bytes, key: Secret | None, body_bytes: int | None) -> Fields:
    """The headers of an attempt.

    `key`: ours, which replaces the client's; None: the client's goes up. `body_bytes`: the length
    of the body, None for a request without one. A client that has its key in ``x-api-key`` alone
    gets it as a bearer token, because a node reads no other (capture ``messages_x_api_key``).
    """
    named = _named_by_connection(fields)
    kept = [
        (name, value)
        for name, value in fields
        if (lower := name.lower()) not in _NOT_UP
        and lower not in named
        and not lower.startswith(_NOT_UP_PREFIXES)
    ]
    if key is not None:
        kept = [(n, v) for n, v in kept if n.lower() not in (b"authorization", b"x-api-key")]
        kept.append((b"authorization", b"Bearer " + key.reveal().encode()))
    elif not any(name.lower() == b"authorization" for name, _ in kept):
        own = [value for name, value in kept if name.lower() == b"x-api-key"]
        kept += [(b"authorization", b"Bearer " + value) for value in own[:1]]
    if body_bytes is not None:
        kept.append((b"content-length", str(body_bytes).encode()))
    return ((b"host", host), *kept, (b"accept-encoding", b"identity"))


def downstream(fields: Fields, keys: Keys) -> list[tuple[bytes, bytes]]:
    """What of an upstream's headers the client gets.

    Not: what is about the upstream's connection or origin, what holds one of our `keys`, and a
    second ``date`` (routstr.md).
    """
    named = _named_by_connection(fields)
    kept: list[tuple[bytes, bytes]] = []
    seen: set[bytes] = set()
    for name, value in fields:
        lower = name.lower()
        if lower in _NOT_DOWN or lower in named or lower.startswith(_NOT_DOWN_PREFIXES):
            continue
        if keys.are_in(value):
            continue
        if lower in _ONCE:
            if lower in seen:
                continue
            seen.add(lower)
        # What an upstream folds over two lines is one line here (RFC 9112, 5.2).
        kept.append((name, _CONTROLS.sub(b" ", value)))
    return kept


def own(pairs: Iterable[tuple[str, str | None]]) -> list[tuple[bytes, bytes]]:
    """Our ``x-arbstr-…`` headers; a value of None is left out.

    Values may be anybody's (the model that a client names): what is no printable ASCII is escaped,
    so that no value ends its line.
    """
    return [
        (b"x-arbstr-" + name.encode(), _one_line(value))
        for name, value in pairs
        if value is not None
    ]


def _one_line(value: str) -> bytes:
    if value.isascii() and value.isprintable() and "\\" not in value:
        return value.encode()  # as it nearly always is
    return value.encode("unicode_escape")


def _named_by_connection(fields: Fields) -> frozenset[bytes]:
    return frozenset(
        token.strip().lower()
        for name, value in fields
        if name.lower() == b"connection"
        for token in value.split(b",")
    )

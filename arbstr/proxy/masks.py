"""What must not show: keys, tokens and cookies, in everything that people look at or save.

mitmproxy shows and saves a flow as it is, so a flow holds masks where the secrets were, and the
real values stay beside it, in memory only (`Hidden`). What goes up to the provider, and down to
the client, is put together from both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from mitmproxy import http

from arbstr.core.secret import Secret

type Fields = tuple[tuple[bytes, bytes], ...]
type Parts = tuple[Fields, bytes, bytes, bytes | None]

_NAMES = frozenset(
    {
        b"authorization",
        b"proxy-authorization",
        b"api-key",
        b"x-api-key",
        b"x-cashu",
        b"cookie",
        b"set-cookie",
        b"x-arbstr-token",
    }
)
_NAME_ENDINGS = (b"-api-key", b"-token", b"-secret", b"-password")
_MASKED = "***"
_SHORTEST = 8
"""What is shorter is found in any text by chance."""
_PATTERNS = (
    (b"cashu", re.compile(rb"cashu[AB][\w=-]{16,}")),
    (b"sk-", re.compile(rb"(?<![A-Za-z0-9])sk-[\w-]{20,}")),
)
"""Cashu tokens (NUT-00) and the keys of Routstr, OpenAI and Anthropic; before each, bytes that a
text without one does not hold: they are found a hundred times faster."""
_MEMBER = re.compile(
    rb'("[\w-]*(?:api_key|apikey|token|secret|password|cashu)"\s*:\s*")([^"\\]{8,})(?=")',
    re.IGNORECASE,
)
_QUERY = re.compile(r"([?&][\w-]*(?:key|token|secret|password|cashu)=)([^&#]+)", re.IGNORECASE)


class Masks:
    """Masks what is secret in one flow.

    `own`: the keys and tokens that are ours. `reveal`: mask nothing (option ``arbstr_reveal``).
    """

    __slots__ = ("_known", "_reveal")

    def __init__(self, own: Iterable[str], *, reveal: bool = False) -> None:
        self._known = tuple(_to_bytes(text) for text in sorted(set(own), key=len, reverse=True))
        self._reveal = reveal

    def with_client(self, fields: Fields) -> Masks:
        """These masks, and what the client itself sent as a secret: errors may echo it."""
        sent = [part for name, value in fields if _is_secret(name) for part in _parts(value)]
        if self._reveal or not sent:
            return self
        both = Masks(())
        both._known = tuple(sorted({*self._known, *sent}, key=len, reverse=True))
        return both

    def fields(self, fields: Fields) -> Fields:
        """Headers: those that are secret by their name are masked, secrets in others as well."""
        if self._reveal:
            return fields
        return tuple(
            (name, _masked_header(value) if _is_secret(name) else self.body(value))
            for name, value in fields
        )

    def path(self, path: str) -> str:
        """A request target: what its query holds. Plain ASCII stays plain ASCII."""
        if self._reveal:
            return path
        path = _QUERY.sub(lambda found: found[1] + _mask(found[2]).replace("…", ""), path)
        return self.text(path).replace("…***", "***")

    def text(self, text: str) -> str:
        """Any text."""
        if self._reveal:
            return text
        masked = self.body(_to_bytes(text))
        return masked.decode("utf-8", "surrogateescape")

    def body(self, data: bytes, *, members: bool = False) -> bytes:
        """A body. `members`: mask JSON members named as a secret too (wallet endpoints)."""
        if self._reveal or not data:
            return data
        # CPython looks for a short text from the end three times as fast as from the start.
        for key in self._known:
            if data.rfind(key) >= 0:
                data = data.replace(key, _mask_bytes(key))
        for sign, pattern in _PATTERNS:
            if data.rfind(sign) >= 0:
                data = pattern.sub(lambda found: _mask_bytes(found[0]), data)
        if members:
            data = _MEMBER.sub(lambda found: found[1] + _mask_bytes(found[2]), data)
        return data


class Hidden(msgspec.Struct):
    """What a flow's masks stand for. `values`: by header name and masked value."""

    masks: Masks
    values: dict[tuple[bytes, bytes], bytes] = {}
    path: tuple[str, str] | None = None
    """Masked, and real."""
    content: tuple[bytes, bytes] | None = None
    """Masked, and real."""
    response: http.Response | None = None
    """The real answer, where the flow's holds masks."""
    _made: tuple[Parts, http.Request] | None = None
    """The real request as it was put together last, and from what."""

    def hide_head(self, request: http.Request) -> None:
        """Mask the head of `request`."""
        fields = request.headers.fields
        masked = self.masks.fields(fields)
        for (name, shown), (_, value) in zip(masked, fields, strict=True):
            if shown != value:
                self.values[name.lower(), shown] = value
        if self.values:
            request.headers = http.Headers(masked)
        path = self.masks.path(request.path)
        if path != request.path:
            self.path = (path, request.path)
            request.path = path

    def hide_content(self, request: http.Request, *, members: bool) -> None:
        """Mask the body of `request`, once it is whole."""
        content = request.raw_content or b""
        masked = self.masks.body(content, members=members)
        if masked != content:
            self.content = (masked, content)
            request.raw_content = masked

    def real(self, shown: http.Request) -> http.Request:
        """`shown` as the client sent it.

        Whatever was changed in it since, by a person or an add-on, stays changed.
        """
        if not self.values and self.path is None and self.content is None:
            return shown
        data = shown.data
        parts = (shown.headers.fields, data.method, data.path, data.content)
        if self._made is not None and self._made[0] == parts:
            return self._made[1]
        request = http.Request(**vars(data))
        request.headers = http.Headers(
            (name, self.values.get((name.lower(), value), value))
            for name, value in shown.headers.fields
        )
        if self.path is not None and request.path == self.path[0]:
            request.path = self.path[1]
        if self.content is not None and request.raw_content == self.content[0]:
            request.raw_content = self.content[1]
        self._made = (parts, request)
        return request


def is_masked(value: bytes) -> bool:
    """Whether a header's value is a mask, so that what it stood for is not in it."""
    return value.endswith(_MASKED.encode())


def _is_secret(name: bytes) -> bool:
    lower = name.lower()
    return lower in _NAMES or lower.endswith(_NAME_ENDINGS)


def _parts(value: bytes) -> Iterable[bytes]:
    """The secrets in a header's value: the whole, what follows a scheme, each cookie."""
    pieces = (value, value.partition(b" ")[2], *(c.partition(b"=")[2] for c in value.split(b";")))
    return (piece.strip() for piece in pieces if len(piece.strip()) >= _SHORTEST)


def _masked_header(value: bytes) -> bytes:
    scheme, _, rest = value.partition(b" ")
    if rest and scheme.isalpha():
        return scheme + b" " + _mask_bytes(rest)
    return _mask_bytes(value)


def _mask_bytes(value: bytes) -> bytes:
    return _to_bytes(_mask(value.decode("utf-8", "surrogateescape")))


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _mask(text: str) -> str:
    """Masking twice masks once."""
    return text if text.endswith(_MASKED) else str(Secret(text))

"""A JSON request body: read once, changed in place, everything else byte for byte as it came."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_NESTS = (dict, list)
_BEFORE = re.compile(
    rb"[ \t\r\n]*+[{,]"
    rb'[ \t\r\n]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"'
    rb"[ \t\r\n]*+:[ \t\r\n]*+"
)
"""What stands before a value: a brace or a comma, the key, a colon."""
_END = re.compile(rb"[ \t\r\n]*+}")
_NAMED_BYTES = 1 << 20
"""Up to here a body is read once more, slowly, only to say what is wrong with it."""
_MOST_MEMBERS = 1_000
"""No API has a tenth of it; millions would hold up everybody else for seconds."""


class BadBodyError(ValueError):
    """A body that is refused before anything is sent. `code`: for the error's ``code`` member."""

    def __init__(self, message: str, code: str = "invalid_body", status: int = 400) -> None:
        """`message` is shown to the client."""
        self.code = code
        self.status = status
        super().__init__(message)


class Members:
    """The top-level members of a JSON object, and where in the body each value stands."""

    __slots__ = ("_spans", "_values", "body")

    def __init__(
        self, body: bytes, values: Mapping[str, object], spans: Mapping[str, tuple[int, int]]
    ) -> None:
        """`values`: decoded; `spans`: name to (start, end) of its value in `body`."""
        self.body = body
        self._values: Mapping[str, object] | None = values
        self._spans = spans

    def __contains__(self, name: str) -> bool:
        return name in self._spans

    def raw(self, name: str) -> bytes | None:
        """The value's bytes, None where there is no such member."""
        span = self._spans.get(name)
        return None if span is None else self.body[span[0] : span[1]]

    def value(self, name: str) -> object:
        """The value, decoded; None where it is absent or null."""
        if self._values is not None:
            return self._values.get(name)
        raw = self.raw(name)
        return None if raw is None else _ANY.decode(raw)

    def shrink(self) -> None:
        """Let go of all that is decoded, which is another body nearly; `value` decodes it again."""
        self._values = None

    def size(self, name: str) -> int:
        """How many bytes the value has; 0 where there is no such member."""
        start, end = self._spans.get(name, (0, 0))
        return end - start

    def edited(self, changes: Mapping[str, bytes]) -> bytes:
        """The body with these values put in; a member that was not there becomes the first one."""
        pieces: list[bytes | memoryview] = []
        added = [
            msgspec.json.encode(name) + b":" + value
            for name, value in changes.items()
            if name not in self._spans
        ]
        comma = [b""] if added and self._spans else []
        first = self.body.index(b"{") + 1
        edits = [(first, first, b",".join((*added, *comma)))] if added else []
        edits += [(*self._spans[n], v) for n, v in changes.items() if n in self._spans]
        unchanged = memoryview(self.body)  # to cut it up would copy it once more
        position = 0
        for start, end, value in sorted(edits):
            pieces += (unchanged[position:start], value)
            position = end
        return b"".join((*pieces, unchanged[position:]))


def read_members(body: bytes, *, max_depth: int = 128) -> Members:
    """Find the top-level members of `body`.

    Raises:
        BadBodyError: not a JSON object in UTF-8, nested deeper than `max_depth` (of what a repeated
            key hides further in nobody knows), more members than any API has, or a top-level key
            that stands twice (two readers of such a body may read two different requests).
    """
    try:
        values = _ANY.decode(body)
    except UnicodeDecodeError:
        raise BadBodyError("the body is not UTF-8", "invalid_json") from None
    except RecursionError:
        raise BadBodyError("the body is nested too deeply", "body_too_deep") from None
    except msgspec.DecodeError as error:
        raise BadBodyError(f"the body is not valid JSON: {error}", "invalid_json") from None
    if _is_deeper_than(values, max_depth):
        raise BadBodyError(f"the body is nested deeper than {max_depth}", "body_too_deep")
    if not isinstance(values, dict):
        raise BadBodyError("the body is not a JSON object")
    if len(values) > _MOST_MEMBERS:
        raise BadBodyError(f"the body has more than {_MOST_MEMBERS:,} members", "too_many_members")
    return Members(body, values, _locate(body, _RAW_MEMBERS.decode(body)))


def _is_deeper_than(value: object, limit: int) -> bool:
    """Whether lists and objects nest deeper than `limit`. Looks at one level after the other."""
    level: list[Any] = [value] if isinstance(value, _NESTS) else []
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _NESTS)
        ]
        if not level:
            return False
    return bool(level)


def _locate(body: bytes, raw: Mapping[str, msgspec.Raw]) -> dict[str, tuple[int, int]]:
    """Where each value starts and ends. Raises BadBodyError.

    Of a key that stands twice the decoder dropped the first value. A walk by the values that it
    kept comes upon another value then, or does not come to the end.
    """
    position = 0
    spans: dict[str, tuple[int, int]] = {}
    for name, value in raw.items():
        before = _BEFORE.match(body, position)
        if before is None or not body.startswith(value, before.end()):
            break
        start, position = before.end(), before.end() + len(value)
        spans[name] = (start, position)
    if len(spans) < len(raw) or (spans and _END.match(body, position) is None):
        raise BadBodyError(f"{_repeated_key(body)} stands twice in the body", "repeated_key")
    return spans


def _repeated_key(body: bytes) -> str:
    """The first top-level key that stands twice, for people; too large a body is not read again."""
    if len(body) > _NAMED_BYTES:
        return "a key"
    pairs = json.loads(body, object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    return f"the key {next(key for n, key in enumerate(keys) if key in keys[:n])!r}"

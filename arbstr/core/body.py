"""A JSON request body: read once, changed in place, everything else byte for byte as it came."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate

import msgspec

_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_STRINGS = re.compile(rb'"[^"]*"')
_UP_OR_DOWN = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""+1 and -1, as signed bytes."""
_MOST_MEMBERS = 1_000
"""No API has a tenth of it; millions would hold up everybody else for seconds."""
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))


class BadBodyError(ValueError):
    """A body that is refused before anything is sent. `code`: for the error's ``code`` member."""

    def __init__(self, message: str, code: str = "invalid_body", status: int = 400) -> None:
        """`message` is shown to the client."""
        self.code = code
        self.status = status
        super().__init__(message)


class Members:
    """The top-level members of a JSON object, and where in the body each value stands."""

    __slots__ = ("_open", "_spans", "body")

    def __init__(self, body: bytes, spans: Mapping[str, tuple[int, int]], open_: int) -> None:
        """`spans`: name to (start, end) of its value; `open_`: where the first member would go."""
        self.body = body
        self._spans = spans
        self._open = open_

    def __contains__(self, name: str) -> bool:
        return name in self._spans

    def raw(self, name: str) -> bytes | None:
        """The value's bytes, None where there is no such member."""
        span = self._spans.get(name)
        return None if span is None else self.body[span[0] : span[1]]

    def value(self, name: str) -> object:
        """The value, decoded; None where it is absent or null."""
        raw = self.raw(name)
        return None if raw is None else decode(raw)

    def edited(self, changes: Mapping[str, bytes]) -> bytes:
        """The body with these values put in; a member that was not there becomes the first one."""
        pieces: list[bytes] = []
        added = [
            msgspec.json.encode(name) + b":" + value
            for name, value in changes.items()
            if name not in self._spans
        ]
        comma = [b""] if added and self._spans else []
        edits = [(self._open, self._open, b",".join((*added, *comma)))] if added else []
        edits += [(*self._spans[n], v) for n, v in changes.items() if n in self._spans]
        position = 0
        for start, end, value in sorted(edits):
            pieces += (self.body[position:start], value)
            position = end
        return b"".join((*pieces, self.body[position:]))


def decode(raw: bytes) -> object:
    """Decode JSON. Raises BadBodyError for what is malformed or nested beyond all reason."""
    try:
        return _ANY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBodyError(f"the body is not valid JSON: {error}", "invalid_json") from None
    except RecursionError:
        raise BadBodyError("the body is nested too deeply", "body_too_deep") from None


def read_members(body: bytes, *, max_depth: int = 128) -> Members:
    """Find the top-level members of `body`.

    Raises:
        BadBodyError: not a JSON object in UTF-8, nested deeper than `max_depth`, more members than
            any API has, or a top-level key that stands twice (two readers of such a body may read
            two different requests).
    """
    try:
        if not body.isascii():
            body.decode()
        if _deeper_than(body, max_depth):
            raise BadBodyError(f"the body is nested deeper than {max_depth}", "body_too_deep")
        values = _RAW_MEMBERS.decode(body)
    except UnicodeDecodeError:
        raise BadBodyError("the body is not UTF-8", "invalid_json") from None
    except RecursionError:  # brackets that open and never close
        raise BadBodyError("the body is nested too deeply", "body_too_deep") from None
    except msgspec.ValidationError:
        raise BadBodyError("the body is not a JSON object") from None
    except msgspec.DecodeError as error:
        raise BadBodyError(f"the body is not valid JSON: {error}", "invalid_json") from None
    if len(values) > _MOST_MEMBERS:
        raise BadBodyError(f"the body has more than {_MOST_MEMBERS:,} members", "too_many_members")
    return _locate(body, values)


def _locate(body: bytes, values: Mapping[str, msgspec.Raw]) -> Members:
    """Walk over the members.

    The decoder kept the last value of each key; a value that is not where
    the walk expects it is one that the decoder dropped, so its key stands twice.
    """
    position = open_ = body.index(b"{") + 1
    spans: dict[str, tuple[int, int]] = {}
    for _ in values:
        position = _skip(body, position)
        match = _STRING.match(body, position)
        name = str(_ANY.decode(match.group())) if match else ""
        value = values.get(name)
        position = _skip(body, _skip(body, match.end() if match else position) + 1)
        raw = b"" if value is None else bytes(value)
        end = _skip(body, position + len(raw))
        if (
            value is None
            or name in spans
            or not body.startswith(raw, position)
            or (body[end : end + 1] not in (b",", b"}"))
        ):
            raise BadBodyError(f"the key {name!r} stands twice in the body", "repeated_key")
        spans[name] = (position, position + len(raw))
        position = end + 1
    if body[_skip(body, open_) if not spans else position - 1 :][:1] != b"}":
        raise BadBodyError("a key stands twice in the body", "repeated_key")
    return Members(body, spans, open_)


def _skip(body: bytes, position: int) -> int:
    match = _SPACE.match(body, position)
    return match.end() if match else position


def _deeper_than(body: bytes, limit: int) -> bool:
    """Whether brackets nest deeper than `limit`. Strings are taken out first."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
    steps = _STRINGS.sub(b"", plain).translate(_UP_OR_DOWN)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > limit

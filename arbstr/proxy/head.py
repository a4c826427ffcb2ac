"""Heads of HTTP/1 requests, read strictly: what two readers could read in two ways is refused.

Source: RFC 9112, 2.2 (bare CR and LF), 3 (request line), 5.1 (no space before the colon), 5.2
(obs-fold), 6.1 and 6.3 (transfer-encoding and content-length). Stricter than it in this: no
absolute-form, no transfer coding but ``chunked``, no content-length twice even if both are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from arbstr.core.dialects import PASS_THROUGH, by_path
from arbstr.core.dialects.base import Problem

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(%s) (\S+) (HTTP/\d\.\d)" % _TOKEN)
_FIELD = re.compile(rb"(?m)^(%s):([\t\x20-\x7e\x80-\xff]*)(?:\r\n|\Z)" % _TOKEN)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")

END = b"\r\n\r\n"

type Fields = tuple[tuple[bytes, bytes], ...]


class Head(msgspec.Struct, frozen=True):
    """A good head. `length`: of the head, with the blank line; `body_bytes`: None if chunked."""

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    body_bytes: int | None
    length: int


class Refusal(msgspec.Struct, frozen=True):
    """Why a head, or what comes in place of one, is refused. The connection closes."""

    status: int
    code: str
    message: str


class Watch:
    """Looks at a head while it comes in. Each byte is looked at once."""

    __slots__ = ("_limit_bytes", "_seen")

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: the largest head accepted."""
        self._limit_bytes = limit_bytes
        self._seen = 0

    def look(self, buffer: bytearray) -> Refusal | Head | None:
        """Judge what has come so far: a Refusal, the Head once it is whole, or None: wait."""
        start = max(0, self._seen - len(END) + 1)
        self._seen = len(buffer)
        end = buffer.find(END, start)
        length = len(buffer) if end < 0 else end + len(END)
        if length > self._limit_bytes:
            return Refusal(
                431,
                "head_too_large",
                f"the request's head is larger than {self._limit_bytes:,} bytes "
                "(limits.header_bytes)",
            )
        if _BARE_LF.search(buffer, start, length):
            return Refusal(400, "bad_head", "a line of the request's head ends without CR")
        if end < 0:
            return None
        self._seen = 0
        return _read(bytes(buffer[:end]), length)


def target(head: bytes) -> str:
    """The path that a head, or the start of one, asks for, without its query; "" without one."""
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    return parts[1].partition(b"?")[0].decode("latin-1") if len(parts) > 1 else ""


def error_body(status: int, code: str, message: str, path: str) -> bytes:
    """An error of ours in the dialect of `path`."""
    kind = "invalid_request_error" if status < 500 else "api_error"
    dialect = by_path(path) or PASS_THROUGH
    return dialect.error_body(Problem(status, message, kind, code))


def _read(head: bytes, length: int) -> Refusal | Head:
    """Read a head without the blank line at its end, if it can be read in one way only."""
    first, _, rest = head.partition(b"\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        return Refusal(400, "bad_head", "the request line is malformed")
    method, what, version = match.groups()
    if version not in _VERSIONS:
        return Refusal(505, "bad_version", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method == b"CONNECT" or not what.startswith(b"/"):
        return Refusal(400, "not_a_proxy", "the request target must be a path")
    lines = rest.split(b"\r\n") if rest else []
    fields = read_fields(rest)
    if len(fields) < len(lines):
        wrong = next(line for line in lines if not _FIELD.fullmatch(line))
        return Refusal(400, "bad_head", _what_is_wrong(wrong))
    body_bytes = _body_bytes(version, fields)
    if isinstance(body_bytes, Refusal):
        return body_bytes
    return Head(method, what, version, fields, body_bytes, length)


def read_fields(lines: bytes) -> Fields:
    """The fields of a head, each in a line of its own; a line that is none is left out."""
    return tuple((name, said.strip(b" \t")) for name, said in _FIELD.findall(lines))


def _body_bytes(version: bytes, fields: Iterable[tuple[bytes, bytes]]) -> Refusal | int | None:
    """How long the body is; None if it is chunked."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-length":
            lengths.append(value)
        elif lower == b"transfer-encoding":
            codings.append(value.lower())
    if len(lengths) + len(codings) > 1:
        return Refusal(400, "bad_framing", "the request's length is given more than once")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        return Refusal(400, "bad_framing", "the content-length is no number")
    if codings and codings[0] != b"chunked":
        return Refusal(400, "bad_framing", "no transfer-encoding is known here but chunked")
    if codings and version == b"HTTP/1.0":
        return Refusal(400, "bad_framing", "there is no transfer-encoding in HTTP/1.0")
    return None if codings else int(lengths[0]) if lengths else 0


def _what_is_wrong(line: bytes) -> str:
    if line[:1] in (b" ", b"\t"):
        return "a header of the request is folded over two lines"
    name, colon, _ = line.partition(b":")
    if colon and re.search(rb"\s", name):
        return "a header name of the request holds white space"
    return "a header of the request is malformed"

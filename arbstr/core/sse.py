"""Server-sent events, cut where they end and otherwise left as they came.

Source: HTML standard, "Server-sent events", "Interpreting an event stream". Lines end with LF,
CR LF or CR; an event ends with an empty line; a line that starts with a colon is a comment.
"""

from __future__ import annotations

import re

import msgspec

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True):
    """One event. `raw`: its bytes with the blank line, to be sent on unchanged.

    `data`: the ``data`` lines joined by LF, None where there is none (a comment, a lone ``event``).
    `name`: the ``event`` field, b"" without one.
    """

    raw: bytes
    data: bytes | None
    name: bytes = b""


class TooLargeError(ValueError):
    """An event grew over the limit before it ended."""


class Splitter:
    """Bytes in, whole events out. Keeps at most `limit_bytes` of an unfinished event.

    An event is scanned once: a feed looks only at the new bytes and the last three old ones.
    """

    __slots__ = ("_buffer", "_limit", "_scanned", "_start")

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: the largest event accepted."""
        self._buffer = bytearray()
        self._limit = limit_bytes
        self._scanned = 0
        self._start = True

    @property
    def pending_bytes(self) -> int:
        """How much of an unfinished event is kept."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Event]:
        """Take more of the stream; the events that ended in it. Raises TooLargeError."""
        if not self._buffer and not self._start and _is_one_event(data):
            if len(data) > self._limit:
                raise TooLargeError(self._too_large)
            return [parse(data, data)]
        self._buffer += data
        cuts = self._cuts()
        events: list[Event] = []
        start = 0
        for end in cuts:
            events.append(self._event(bytes(self._buffer[start:end])))
            start = end
        del self._buffer[:start]
        self._scanned = len(self._buffer)
        if self._scanned > self._limit or any(len(e.raw) > self._limit for e in events):
            raise TooLargeError(self._too_large)
        return events

    def _cuts(self) -> list[int]:
        """Where events end in the buffer."""
        cuts: list[int] = []
        look = max(0, self._scanned - 3)
        while (match := _BLANK_LINE.search(self._buffer, look)) is not None:
            look = match.end()
            if look == len(self._buffer) and self._buffer.endswith(b"\r"):
                break  # the CR may be the first half of a CR LF that is still on its way
            cuts.append(look)
        return cuts

    @property
    def _too_large(self) -> str:
        return f"an event is larger than {self._limit:,} bytes"

    def finish(self) -> Event | None:
        """The stream has ended: what is left is an event only if it was ended, else it is no event.

        A last event whose blank line is missing is handed out so that the caller can judge it; its
        `raw` gets the missing line ends.
        """
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        if not rest.strip():
            return None
        return self._event(rest.rstrip(b"\r\n") + b"\n\n")

    def _event(self, raw: bytes) -> Event:
        if self._start:
            self._start = False
            if raw.startswith(_BOM):
                return parse(raw, raw.removeprefix(_BOM))
        return parse(raw, raw)


def _is_one_event(data: bytes) -> bool:
    return data.endswith(b"\n\n") and data.find(b"\n\n") == len(data) - 2 and b"\r" not in data


def parse(raw: bytes, text: bytes) -> Event:
    """Read the fields of one event. `raw` is kept as it is; `text` is what is read."""
    if (
        text.startswith(b"data: ")
        and text.endswith(b"\n\n")
        and text.find(b"\n", 0, -2) < 0
        and b"\r" not in text
    ):
        return Event(raw, text[6:-2])  # by far the most frequent shape
    name = b""
    data: list[bytes] = []
    for line in _LINE_END.split(text):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(raw, b"\n".join(data) if data else None, name)


def encode(data: bytes, name: bytes = b"") -> bytes:
    """One event on the wire. `data` is one line."""
    head = b"event: " + name + b"\n" if name else b""
    return head + b"data: " + data + b"\n\n"


def comment(text: str) -> bytes:
    """A comment on the wire, to stand right before the lines of an event: every parser skips it.

    No event of its own: once an ``id`` was seen, the official OpenAI client takes the blank line
    behind a comment for the end of an empty event. Line ends in `text` become blanks.
    """
    return b": " + _LINE_END.sub(b" ", text.encode(errors="replace")) + b"\n"

"""Our keys do not come back: whatever an upstream sends down, they are masked in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from arbstr.core.secret import Secret

_SHORTEST = 12
"""A shorter text may stand in an answer by chance (``ollama``), and is no key worth hiding."""


class Keys:
    """The keys that are hidden. Made once for a config."""

    __slots__ = ("in_bytes", "in_text")

    def __init__(self, keys: Iterable[Secret]) -> None:
        """`keys`: empty ones are left out."""
        known = [key for key in keys if key]
        self.in_text = tuple((key.reveal(), str(key)) for key in known)
        self.in_bytes = tuple(
            (key.reveal().encode(), str(key).encode())
            for key in known
            if len(key.reveal()) >= _SHORTEST
        )

    def and_also(self, keys: Iterable[str]) -> Keys:
        """These and more, which are hidden in texts alone: a client's own keys."""
        more = Keys(())
        more.in_text = (*self.in_text, *((k, str(Secret(k))) for k in keys if len(k) >= _SHORTEST))
        more.in_bytes = self.in_bytes
        return more

    def redact(self, text: str) -> str:
        """`text`, the keys masked."""
        for key, mask in self.in_text:
            if key in text:
                text = text.replace(key, mask)
        return text

    def are_in(self, data: bytes) -> bool:
        """Whether one of them stands in `data`."""
        for key, _ in self.in_bytes:  # noqa: SIM110 - asked of every header; no generator for it
            if key in data:
                return True
        return False


NO_KEYS = Keys(())


def redacted(value: object, redact: Callable[[str], str]) -> object:
    """Decoded JSON, `redact` applied to every text of it."""
    match value:
        case str():
            return redact(value)
        case dict():
            return {redact(str(k)): redacted(v, redact) for k, v in value.items()}
        case list():
            return [redacted(item, redact) for item in value]
        case _:
            return value


class Veil(msgspec.Struct):
    """Masks keys in a body as it passes. Holds back only what may be the start of a key."""

    keys: Keys
    held: bytes = b""

    def mask(self, data: bytes) -> bytes:
        """A whole body, or a whole event."""
        for key, mask in self.keys.in_bytes:
            if key in data:
                data = data.replace(key, mask)
        return data

    def feed(self, data: bytes) -> bytes:
        """More of a body: what of it may go down now."""
        if not self.keys.in_bytes:
            return data
        data = self.mask(self.held + data if self.held else data)
        kept = max(_overlap(data, key) for key, _ in self.keys.in_bytes)
        self.held = data[len(data) - kept :]
        return data[: len(data) - kept]

    def flush(self) -> bytes:
        """The body has ended: what was held back."""
        rest, self.held = self.held, b""
        return rest


def _overlap(data: bytes, key: bytes) -> int:
    """How many bytes at the end of `data` are the start of `key`."""
    start = data.rfind(key[:1], max(0, len(data) - len(key) + 1))
    longest = 0
    while start >= 0:
        if key.startswith(data[start:]):
            longest = len(data) - start
        start = data.rfind(key[:1], max(0, len(data) - len(key) + 1), start)
    return longest

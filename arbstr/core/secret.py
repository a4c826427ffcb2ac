"""A key that does not show."""

from __future__ import annotations

import hmac
from typing import Never, SupportsIndex, final

_SHOWN = 4
_LONG_ENOUGH_TO_SHOW = 12
"""Four characters of a shorter key would give too much of it away."""


@final
class Secret:
    """A key or token. It prints as ``sk-a…***``; only `reveal` gives it out.

    Equal to another Secret of the same text, compared in constant time; never equal to a plain
    string. It cannot be pickled, and msgspec and json refuse it, so it reaches no file by accident.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """`text`: the key itself; "" is false."""
        self._text = text

    def reveal(self) -> str:
        """Give the key out: for the header that carries it, and nothing else."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._text), _bytes(other._text))

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        shown = self._text[:_SHOWN] if len(self._text) >= _LONG_ENOUGH_TO_SHOW else ""
        return f"{shown}…***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        raise TypeError("a Secret cannot be pickled")

    def __getstate__(self) -> Never:
        raise TypeError("a Secret has no state to give")


def _bytes(text: str) -> bytes:
    """Bytes of `text`, lone surrogates too: a header may be any bytes."""
    return text.encode("utf-8", "surrogatepass")

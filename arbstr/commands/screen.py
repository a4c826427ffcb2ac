"""Standard output and error, as commands use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO


class Screen:
    """Where a command writes: never fails for a character, and colours only on a terminal."""

    _ASCII = str.maketrans("\N{EN DASH}·→…█▌", "-->~#|")
    _STYLES: Mapping[str, str] = {"bold": "1", "dim": "2", "red": "31", "yellow": "33"}

    def __init__(self, stream: TextIO, env: Mapping[str, str]) -> None:
        """`stream`: standard output or error. `env`: ``NO_COLOR`` and ``TERM=dumb`` are heeded."""
        self._stream = stream
        self.is_terminal = stream.isatty()
        self._colours = self.is_terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"
        encoding = stream.encoding or "ascii"
        try:
            "\N{EN DASH}·→…█▌".encode(encoding)
        except (UnicodeEncodeError, LookupError):
            self._ascii = True
        else:
            self._ascii = False
        self._encoding = encoding

    def write(self, text: str) -> None:
        """Write `text` as it stands; what the encoding lacks becomes an ASCII likeness or ``?``."""
        if self._ascii:
            text = text.translate(self._ASCII)
        self._stream.write(text.encode(self._encoding, "replace").decode(self._encoding))

    def line(self, text: str = "") -> None:
        """Write one line."""
        self.write(text + "\n")

    def flush(self) -> None:
        """Let a reader see what was written."""
        self._stream.flush()

    def paint(self, text: str, style: str) -> str:
        """`text` in a style of the terminal's; as it is where there is none."""
        return f"\x1b[{self._STYLES[style]}m{text}\x1b[0m" if self._colours else text

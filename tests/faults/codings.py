"""Content-encodings, whole and as a stream that is flushed after every event."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import brotli
import zstandard


class Encoder(Protocol):
    """A streaming compressor; both methods hand out what can be sent."""

    def feed(self, data: bytes) -> bytes:
        """All of `data`, flushed."""

    def finish(self) -> bytes:
        """The end of the coding."""


class Zlib:
    """gzip and deflate."""

    def __init__(self, wbits: int) -> None:
        """`wbits`: 31 for gzip, 15 for deflate."""
        self._z = zlib.compressobj(wbits=wbits)

    def feed(self, data: bytes) -> bytes:
        """All of `data`, flushed."""
        return self._z.compress(data) + self._z.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """The trailer."""
        return self._z.flush()


class Brotli:
    """br."""

    def __init__(self) -> None:
        self._z = brotli.Compressor()

    def feed(self, data: bytes) -> bytes:
        """All of `data`, flushed."""
        return bytes(self._z.process(data) + self._z.flush())

    def finish(self) -> bytes:
        """The last block."""
        return bytes(self._z.finish())


class Zstd:
    """zstd."""

    def __init__(self) -> None:
        self._z = zstandard.ZstdCompressor().compressobj()

    def feed(self, data: bytes) -> bytes:
        """All of `data`, flushed."""
        return self._z.compress(data) + self._z.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        """The end of the frame."""
        return self._z.flush()


def encoder(name: str) -> Encoder:
    """A fresh compressor for the content-encoding `name`."""
    makers: Mapping[str, Callable[[], Encoder]] = {
        "gzip": lambda: Zlib(31),
        "deflate": lambda: Zlib(15),
        "br": Brotli,
        "zstd": Zstd,
    }
    return makers[name]()


def encoded(name: str, data: bytes) -> bytes:
    """`data` as a whole in the content-encoding `name`."""
    coder = encoder(name)
    return coder.feed(data) + coder.finish()

"""Undoing a content-encoding as it comes: an upstream may compress in spite of ``identity``."""

from __future__ import annotations

import zlib
from typing import Protocol

import brotli
import zstandard


class Decoder(Protocol):
    """Compressed bytes in, plain bytes out. Raises ValueError for what is not of that encoding."""

    def decode(self, data: bytes) -> bytes:
        """Decode more of the body."""
        ...

    def flush(self) -> bytes:
        """The body has ended: what was still held back. Raises ValueError where it was cut."""
        ...


class Identity:
    """Nothing to undo."""

    def decode(self, data: bytes) -> bytes:
        """The same bytes."""
        return data

    def flush(self) -> bytes:
        """Nothing is ever held back."""
        return b""


class Gzip:
    """``gzip`` and ``deflate`` (zlib, or raw as some servers send it; RFC 9110, 8.4.1.2)."""

    def __init__(self, *, raw_allowed: bool) -> None:
        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._raw_allowed = raw_allowed

    def decode(self, data: bytes) -> bytes:
        """Decode more of the body."""
        try:
            out = self._inflate.decompress(data)
        except zlib.error as error:
            if not self._raw_allowed:
                raise ValueError(f"the body is not gzip: {error}") from None
            self._inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            self._raw_allowed = False
            return self.decode(data)
        self._raw_allowed = False
        return out

    def flush(self) -> bytes:
        """What was held back."""
        out = self._inflate.flush()
        if not self._inflate.eof:
            raise ValueError("the compressed body was cut")
        return out


class Brotli:
    """``br``."""

    def __init__(self) -> None:
        self._inflate = brotli.Decompressor()

    def decode(self, data: bytes) -> bytes:
        """Decode more of the body."""
        try:
            return bytes(self._inflate.process(data))
        except brotli.error as error:
            raise ValueError(f"the body is not br: {error}") from None

    def flush(self) -> bytes:
        """Nothing is held back."""
        if not self._inflate.is_finished():
            raise ValueError("the compressed body was cut")
        return b""


class Zstd:
    """``zstd``."""

    def __init__(self) -> None:
        self._inflate = zstandard.ZstdDecompressor().decompressobj()

    def decode(self, data: bytes) -> bytes:
        """Decode more of the body."""
        try:
            return self._inflate.decompress(data)
        except zstandard.ZstdError as error:
            raise ValueError(f"the body is not zstd: {error}") from None

    def flush(self) -> bytes:
        """Nothing is held back."""
        if not self._inflate.eof:
            raise ValueError("the compressed body was cut")
        return b""


def decoder(encoding: str) -> Decoder:
    """The decoder for one ``content-encoding``. Raises ValueError for one that we do not know."""
    match encoding.strip().lower():
        case "" | "identity":
            return Identity()
        case "gzip" | "x-gzip":
            return Gzip(raw_allowed=False)
        case "deflate":
            return Gzip(raw_allowed=True)
        case "br":
            return Brotli()
        case "zstd":
            return Zstd()
        case other:
            raise ValueError(f"unknown content-encoding {other!r}")

"""Request targets: which ones are refused, which paths move money, what a path means.

An upstream may read a path more liberally than we do: decode it twice, fold its case, merge its
slashes. So every question is asked of the plainest form that any reader could arrive at, and a path
that somebody could take for a priced one, and we do not, is refused.
"""

from __future__ import annotations

import functools
import re
from urllib.parse import unquote

from arbstr.core.dialects import by_path

_PRINTABLE = re.compile(r"[!-~]*")
_NEVER = re.compile(r"[\\#]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEPARATORS = re.compile(r"[/\\]")
_NO_LETTER = re.compile(r"^[^a-z0-9]+")
_DECODINGS = 4
_REMEMBERED = 256
"""Answers kept: clients ask for few paths, over and over."""

_MONEY_WORDS = (
    *("account", "admin", "balance", "child-key", "donat", "invoice", "key", "lightning"),
    *("lnurl", "payment", "payout", "recover", "refund", "topup", "top-up", "wallet", "withdraw"),
)
"""How segments begin that stand for somebody's money at a node: ``/v1/balance/*``,
``/v1/balance/lightning/*``, ``/v1/wallet/*``, ``/lightning/*``, ``/v2/lightning/*``, ``/admin/*``
are what routstr-core has or had; the rest is what a next version may call it."""
_API_WORDS = frozenset(
    {
        *("v1", "audio", "chat", "completions", "embeddings", "images", "messages", "models"),
        *("moderations", "rerank", "responses"),
    }
)
"""How paths begin that are about models. `GET /` of an old node told the balance of the key."""


@functools.lru_cache(_REMEMBERED)
def refusal(target: str) -> str | None:
    """Why the target of a request is refused; None for a path, with or without a query."""
    if not target.startswith("/") or target.startswith("//"):
        return "the request target must be a path"
    path, _, query = target.partition("?")
    if not _PRINTABLE.fullmatch(target) or _NEVER.search(path) or "#" in query:
        return "the request target has a character that does not belong there"
    if _BAD_PERCENT.search(path):
        return "the request target has a % that stands for nothing"
    plain = _decoded(path)
    if plain is None or _CONTROL.search(plain):
        return "the request target has a character that does not belong there"
    if any(segment in (".", "..") for segment in _segments(plain)):
        return "the request target has a segment of dots"
    meant = _canonical(plain)
    if by_path(meant) is not None and by_path(path) is None:
        return f"the request target must be written {meant}"
    return None


@functools.lru_cache(_REMEMBERED)
def may_have_our_key(path: str) -> bool:
    """Whether a request to `path` (without its query) may carry our key.

    Only where models are asked, and never where a key's balance is told, moved or given away.
    """
    plain = _decoded(path)
    if plain is None:
        return False
    segments = [_NO_LETTER.sub("", s) for s in re.split(r"[/;]", _canonical(plain)) if s]
    return (
        bool(segments)
        and segments[0] in _API_WORDS
        and not any(segment.startswith(_MONEY_WORDS) for segment in segments)
    )


def _decoded(path: str) -> str | None:
    """`path` with every %xx undone, those that only show then too; None where there is no end."""
    for _ in range(_DECODINGS):
        plain = unquote(path, errors="surrogateescape")
        if plain == path:
            return plain
        path = plain
    return None


def _segments(plain: str) -> list[str]:
    """The parts between slashes, without the parameters that some servers cut off."""
    return [part.partition(";")[0].strip() for part in _SEPARATORS.split(plain)]


def _canonical(plain: str) -> str:
    """The plainest form: lower case, one slash at a time, no parameters, no blanks."""
    return "/" + "/".join(segment for segment in _segments(plain.lower()) if segment)

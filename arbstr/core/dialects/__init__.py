"""The APIs that arbstr speaks, one value each."""

from __future__ import annotations

from arbstr.core.dialects.base import Dialect
from arbstr.core.dialects.chat import CHAT
from arbstr.core.dialects.messages import COUNT_TOKENS, MESSAGES
from arbstr.core.dialects.plain import COMPLETIONS, EMBEDDINGS, PASS_THROUGH
from arbstr.core.dialects.responses import RESPONSES

DIALECTS: tuple[Dialect, ...] = (CHAT, MESSAGES, COUNT_TOKENS, RESPONSES, EMBEDDINGS, COMPLETIONS)

_BY_PATH = {path: dialect for dialect in DIALECTS for path in dialect.paths}


def by_path(path: str) -> Dialect | None:
    """The dialect served at `path` (no query; a trailing slash does not matter)."""
    return _BY_PATH.get(path.rstrip("/"))


__all__ = ["CHAT", "DIALECTS", "PASS_THROUGH", "Dialect", "by_path"]

"""Reading the errors of upstreams, in all the shapes they come in (routstr.md, "How it fails")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

UPSTREAM_ERROR = "upstream_error"
STREAM_INTERRUPTED = "stream_interrupted"

type Fault = Literal["", "context", "model", "node_key"]
"""What an error body says beyond its status: the context is too small, the model is not known
there, the node itself refuses our key."""

_CONTEXT_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
_CONTEXT_WORDS = (
    "maximum context length",
    "context window",
    "prompt is too long",
    "context_length",
)
_MODEL_CODES = frozenset({"invalid_model", "model_not_found"})


class UpstreamError(msgspec.Struct, frozen=True):
    """An error as an upstream told it. `members`: its ``error`` object, where it has one."""

    message: str
    type: str = UPSTREAM_ERROR
    code: str | None = None
    fault: Fault = ""
    members: Mapping[str, object] = {}


def read_error(body: object, *, fallback: str) -> UpstreamError:
    """Read a decoded error body. `fallback`: the message where the body has none.

    Shapes: ``{"error": {...}}``, ``{"detail": {"error": {...}}, "error": {...}}``,
    ``{"detail": "..."}``, ``{"detail": {"reason": ...}}``, ``{"error": "..."}``, a FastAPI list for
    422, ``{"type": "error", "error": {...}}`` (Anthropic).
    """
    if not isinstance(body, dict):
        return UpstreamError(fallback)
    error = body.get("error")
    detail = body.get("detail")
    if error is None and isinstance(detail, dict):
        error = detail.get("error", detail)
    if isinstance(error, dict):
        return _from_object(error, in_detail="detail" in body, fallback=fallback)
    message = error or detail
    if isinstance(message, list):
        message = "; ".join(_list_item(item) for item in message)
    text = message if isinstance(message, str) and message else fallback
    return UpstreamError(text, fault="node_key" if "detail" in body else _fault(None, None, text))


def _from_object(error: Mapping[str, object], *, in_detail: bool, fallback: str) -> UpstreamError:
    message = error.get("message") or error.get("reason") or fallback
    kind = error.get("type")
    code = error.get("code")
    kind = kind if isinstance(kind, str) and kind else UPSTREAM_ERROR
    code = str(code) if isinstance(code, str | int) and not isinstance(code, bool) else None
    text = message if isinstance(message, str) else fallback
    fault: Fault = _fault(kind, code, text)
    return UpstreamError(text, kind, code, "node_key" if in_detail and not fault else fault, error)


def _fault(kind: str | None, code: str | None, message: str) -> Fault:
    if kind in _MODEL_CODES or code in _MODEL_CODES:
        return "model"
    lower = message.lower()
    if code in _CONTEXT_CODES or any(words in lower for words in _CONTEXT_WORDS):
        return "context"
    return ""


def _list_item(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    where = item.get("loc")
    path = ".".join(str(part) for part in where) if isinstance(where, list) else ""
    return f"{path}: {item.get('msg', 'invalid')}" if path else str(item.get("msg", "invalid"))

"""Errors with a status, worded as nodes and their upstreams word them."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tests.faults import answers, good
from tests.faults.wire import Behaviour, Exchange, table


async def status(x: Exchange) -> None:
    """``=STATUS`` as the node words it."""
    number = int(x.argument)
    await good.error(x, number, answers.error_body(number, f"{number}: {good.MARK}"))


async def html_status(x: Exchange) -> None:
    """``=STATUS`` with an HTML page."""
    await x.reply(int(x.argument), good.HTML, {"content-type": "text/html"})


async def busy(x: Exchange) -> None:
    """429 every time; ``=SECONDS`` or a name of `_RETRY_AFTER`."""
    error = answers.error_body(429, f"Rate limit: {good.MARK}", type="rate_limit_error")
    value = _RETRY_AFTER.get(x.argument, lambda: x.argument)()
    await good.error(x, 429, error, **({"retry-after": value} if value else {}))


async def busy_once(x: Exchange) -> None:
    """429 the first time, then good."""
    await (good.ok(x) if x.turn.n else busy(x))


async def detail(x: Exchange) -> None:
    """``=STATUS`` of the node itself: it stands in ``detail`` too (capture `err_bad_key`)."""
    error = {"message": f"Invalid API key: {good.MARK}", "code": "invalid_api_key"}
    error["type"] = "invalid_request_error"
    await good.error(x, int(x.argument), {"detail": {"error": error}, "error": error})


async def unknown_model(x: Exchange) -> None:
    """400 `invalid_model` (capture `err_unknown_model`)."""
    message = f"Model {x.model!r} not found: {good.MARK}"
    await good.error(x, 400, answers.error_body(400, message, type="invalid_model"))


async def too_long(x: Exchange) -> None:
    """400 `context_length_exceeded`, as OpenAI words it."""
    message = f"This model's maximum context length is 8000 tokens: {good.MARK}"
    error = answers.error_body(
        400, message, type="invalid_request_error", code="context_length_exceeded"
    )
    await good.error(x, 400, error)


async def poor(x: Exchange) -> None:
    """402 `insufficient_balance` (capture `err_402_insufficient`)."""
    message = f"Insufficient balance: 2376.015 sats required for this model; {good.MARK}"
    error = {"message": message, "type": "insufficient_quota", "code": "insufficient_balance"}
    await good.error(x, 402, {"detail": {"error": error}, "error": error})


async def unprocessable(x: Exchange) -> None:
    """422 as FastAPI words it."""
    item = {"type": "missing", "loc": ["body", "messages"], "msg": f"Field required: {good.MARK}"}
    await good.error(x, 422, {"detail": [item]})


async def redirect(x: Exchange) -> None:
    """``=STATUS`` to another path of ours."""
    await x.reply(int(x.argument), b"", {"location": x.upstream.urls["up"] + "/elsewhere"})


def _in(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


_RETRY_AFTER: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "missing": lambda: "",
        "soon": lambda: _in(1),
        "in-a-minute": lambda: _in(60),
        "year-9999": lambda: "Fri, 31 Dec 9999 23:59:59 GMT",
        "word": lambda: "after lunch",
        "huge": lambda: "9" * 30,
    }
)
BEHAVIOURS: Mapping[str, Behaviour] = table(
    status, html_status, busy, busy_once, detail, unknown_model, too_long, poor, unprocessable,
    redirect,
)  # fmt: skip

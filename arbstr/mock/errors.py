"""The node's errors, in each of its shapes (captures/err_*, captures/upstream_*)."""

import json
from dataclasses import dataclass

from arbstr.mock import heads
from arbstr.mock.dialects.events import dumps
from arbstr.mock.money import in_sats

_RATE_LIMIT = (
    "Rate limit reached for {model} in organization org-[REDACTED] on requests per min (RPM): "
    "Limit 3, Used 3, Requested 1. Please try again in 20s."
)
_RATE_HEADERS = (
    "retry-after: 20",
    "x-ratelimit-limit-requests: 60",
    "x-ratelimit-limit-tokens: 150000",
    "x-ratelimit-remaining-requests: 0",
    "x-ratelimit-remaining-tokens: 0",
    "x-ratelimit-reset-requests: 1s",
    "x-ratelimit-reset-tokens: 6m0s",
)
_BAD_KEY = "Invalid API key format. Expected an 'sk-...' API key or a 'cashu...' token."


@dataclass(frozen=True, slots=True)
class Failure:
    """An error answer.

    Attributes:
        status: its HTTP status.
        head: its head, unencoded.
        body: its JSON.
    """

    status: int
    head: list[str]
    body: bytes


def invalid_model(rid: str, name: str) -> Failure:
    """A model nobody sells: found out before the key is looked at."""
    cause = {"message": f"Model '{name}' not found", "type": "invalid_model", "code": 400}
    return _own(400, rid, dumps({"error": cause, "request_id": rid}))


def spent(rid: str) -> Failure:
    """A Cashu token that came before."""
    cause = {
        "message": "Cashu token already spent",
        "type": "token_already_spent",
        "code": "cashu_token_already_spent",
    }
    return _own(400, rid, dumps({"error": cause, "request_id": rid}))


def plain_detail(status: int, rid: str, detail: object) -> Failure:
    """`{"detail": …}`: no key at all, a wrong method, a token that is none."""
    return _own(status, rid, _compact({"detail": detail, "request_id": rid}))


def too_small(rid: str, model: str, required_msats: int) -> Failure:
    """A Cashu token worth less than the reservation; it stays good."""
    detail = {
        "reason": "Insufficient balance",
        "amount_required_msat": required_msats,
        "model": model,
        "type": "minimum_balance_required",
    }
    return plain_detail(402, rid, detail)


def twins(status: int, rid: str, error: object) -> Failure:
    """The same error twice: under `detail` for FastAPI, under `error` for OpenAI's clients."""
    return _own(
        status, rid, _compact({"detail": {"error": error}, "error": error, "request_id": rid})
    )


def bad_key(rid: str) -> Failure:
    """A bearer that is no key of this node."""
    return twins(
        401,
        rid,
        {
            "message": _BAD_KEY,
            "type": "invalid_request_error",
            "code": "invalid_api_key",
        },
    )


def missing_key(rid: str) -> Failure:
    """An authorization header without a bearer."""
    return twins(
        401,
        rid,
        {
            "message": "API key or Cashu token required",
            "type": "invalid_request_error",
            "code": "missing_api_key",
        },
    )


def bad_token(rid: str) -> Failure:
    """A bearer that begins like a Cashu token and is none."""
    return twins(
        400,
        rid,
        {
            "message": "Invalid Cashu token",
            "type": "invalid_token",
            "code": "invalid_cashu_token",
        },
    )


def insufficient(rid: str, required_msats: int, available_msats: int) -> Failure:
    """Less balance than the reservation; the amounts are in the prose alone."""
    message = (
        f"Insufficient balance: {in_sats(required_msats)} sats ({required_msats} msats) required "
        f"for this model; {in_sats(available_msats)} sats ({available_msats} msats) available."
    )
    return twins(
        402,
        rid,
        {
            "message": message,
            "type": "insufficient_quota",
            "code": "insufficient_balance",
        },
    )


def no_path(rid: str, path: str) -> Failure:
    """A path outside `/v1` that the node does not know."""
    cause = {"message": f"Path '{path}' not found", "type": "not_found", "code": 404}
    return _own(404, rid, _compact({"error": cause, "request_id": rid}))


def no_authorization(rid: str) -> Failure:
    """`GET /v1/balance/info` without a key."""
    return _validation(rid, ["header", "authorization"])


def unprocessable(rid: str) -> Failure:
    """A body that misses something."""
    return _validation(rid, ["body", "messages"])


def _validation(rid: str, place: list[str]) -> Failure:
    """FastAPI's own complaint: a list, and no request id in it."""
    cause = {"type": "missing", "loc": place, "msg": "Field required", "input": None}
    return _own(422, rid, _compact({"detail": [cause]}))


def crash(rid: str) -> Failure:
    """A bug of the node's: a body that is no object, a model that is no string."""
    detail = "Internal server error, please contact support with the request ID."
    body = _compact({"detail": detail, "request_id": rid})
    return Failure(500, heads.own(500, None, len(body)), body)


def upstream_said(status: int, rid: str, message: str, kind: str, code: str | None) -> Failure:
    """An upstream's 4xx, passed on as it is."""
    cause = {"message": message, "type": kind, "param": None, "code": code}
    body = _compact({"error": cause})
    return Failure(status, heads.passed_error(status, rid, len(body)), body)


def upstream_lacks_it(rid: str) -> Failure:
    """A path that only the upstream could know, and does not."""
    body = _compact({"error": {"message": "Not found", "type": "not_found"}})
    return Failure(404, heads.passed_error(404, rid, len(body)), body)


def upstream_failed(status: int, rid: str, message: str) -> Failure:
    """An upstream's 5xx, or no upstream at all, in the node's words."""
    cause = {"message": message, "type": "upstream_error", "code": status}
    return _own(status, rid, dumps({"error": cause, "request_id": rid}))


def too_long(rid: str, context: int, tokens: int) -> Failure:
    """A prompt that does not fit."""
    message = (
        f"This model's maximum context length is {context} tokens. However, your messages "
        f"resulted in {tokens} tokens. Please reduce the length of the messages."
    )
    kind = "invalid_request_error"
    return upstream_said(400, rid, message, kind, "context_length_exceeded")


def rate_limited(rid: str, model: str, *, litellm: bool) -> Failure:
    """An upstream's 429. Behind litellm (messages) `retry-after` is lost, `details` stay."""
    said = _RATE_LIMIT.format(model=model)
    if litellm:
        said = f"litellm.RateLimitError: RateLimitError: OpenAIException - {said}"
    details = {
        "code": "UPSTREAM_RATE_LIMIT",
        "message": said,
        "model": model,
        "metric": "requests per min (RPM)",
        "limit": 3,
        "used": 3,
        "requested": 1,
        "retry_after_seconds": 20.0,
    }
    if litellm:
        cause = {
            "message": f"Upstream error via litellm: {said}",
            "type": "upstream_error",
            "code": "UPSTREAM_RATE_LIMIT",
            "details": details,
        }
        return _own(429, rid, dumps({"error": cause, "request_id": rid}))
    error: dict[str, object] = {
        "message": said,
        "type": "rate_limit_error",
        "param": None,
        "code": "UPSTREAM_RATE_LIMIT",
        "details": details,
    }
    body = dumps({"error": error})
    return Failure(429, heads.passed_error(429, rid, len(body), _RATE_HEADERS), body)


def _own(status: int, rid: str, body: bytes) -> Failure:
    return Failure(status, heads.own(status, rid, len(body)), body)


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

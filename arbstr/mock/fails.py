"""The errors of the models `mock-fail-STATUS`."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from arbstr.mock import errors
from arbstr.mock.errors import Failure
from arbstr.mock.models import MockModel

# What the upstream is made to say, by status: message, type, code. The rest has a shape of its own.
_SAID: Mapping[int, tuple[str, str, str | None]] = MappingProxyType(
    {
        401: ("Incorrect API key provided: mock-key", "invalid_request_error", "invalid_api_key"),
        403: ("Your account may not use this model", "permission_error", "model_not_allowed"),
        408: ("Request timed out", "timeout_error", "request_timeout"),
        413: ("Request too large", "invalid_request_error", "request_too_large"),
        500: (
            "The server had an error while processing your request",
            "server_error",
            "internal_error",
        ),
        503: ("The model is overloaded", "server_error", "overloaded"),
        504: ("The server did not answer in time", "server_error", "timeout"),
    }
)
_LITELLM = MappingProxyType(
    {500: "InternalServerError", 503: "ServiceUnavailableError", 504: "Timeout"}
)


def fail(status: int, rid: str, model: MockModel, *, litellm: bool) -> Failure:
    """The error of `status`, as the node sends it; `litellm` for messages."""
    if status == 400:
        return errors.too_long(rid, model.context, model.context + 1)
    if status == 402:
        return errors.insufficient(rid, 2_376_015, 1_000)
    if status == 404:
        return errors.upstream_lacks_it(rid)
    if status == 422:
        return errors.unprocessable(rid)
    if status == 429:
        return errors.rate_limited(rid, model.id, litellm=litellm)
    if status == 502:
        return errors.upstream_failed(502, rid, "Unable to connect to upstream service")
    message, kind, code = _SAID.get(status, ("The request failed", "api_error", None))
    if status < 500:
        return errors.upstream_said(status, rid, message, kind, code)
    if litellm:
        name = _LITELLM.get(status, "APIError")
        said = f"Upstream error via litellm: litellm.{name}: {name}: OpenAIException - {message}"
    else:
        cause = {"error": {"message": message, "type": kind, "param": None, "code": code}}
        body = json.dumps(cause, separators=(",", ":"))
        said = f"Upstream generic returned {status} for model {model.id}: {body}"
    return errors.upstream_failed(status, rid, said)

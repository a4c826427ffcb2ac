"""What is sent: the request of an attempt, and the head of the answer that the client gets."""

from __future__ import annotations

from mitmproxy import http

from arbstr.config import Provider
from arbstr.core.dialects import PASS_THROUGH, by_path
from arbstr.core.dialects.base import Problem
from arbstr.core.exchange import Answer, Attempt, Exchange
from arbstr.core.price import sats
from arbstr.core.record import RequestRow
from arbstr.core.secret import Secret
from arbstr.proxy import guard, headers, target
from arbstr.proxy.messages import make_request, make_response, values
from arbstr.proxy.state import State

type _Fields = list[tuple[bytes, bytes]]


def our_key(request: http.Request, provider: Provider) -> Secret | None:
    """Our key, None where only the client's own may be used."""
    path = request.path.partition("?")[0]
    if values(request, b"x-cashu") or not target.may_have_our_key(path):
        return None
    return provider.api_key


def upstream_request(
    client: http.Request,
    provider: Provider,
    *,
    key: Secret | None,
    body: bytes | None,
    token: Secret | None,
) -> http.Request:
    """The request of one attempt.

    `key`: ours, None to leave the client's in place. `body`: None for the client's, unchanged.
    `token`: the one of this arbstr, which goes no further.
    """
    content = client.raw_content or b"" if body is None else body
    has_body = bool(content) or client.method in ("POST", "PUT", "PATCH")
    fields = headers.upstream(
        guard.without_token(client.headers.fields, token),
        host=_authority(provider),
        key=key,
        body_bytes=len(content) if has_body else None,
    )
    return make_request(
        host=provider.host,
        port=provider.port,
        method=client.data.method,
        scheme=provider.scheme.encode(),
        path=_path(provider, client.path).encode(errors="surrogateescape"),
        fields=fields,
        content=content,
    )


def stream_head(
    client: http.Request, exchange: Exchange, attempt: Attempt, state: State
) -> http.Response:
    """The head of a streamed answer."""
    tryout = attempt.tryout
    fields = headers.downstream(tryout.headers, state.keys)
    bodyless = client.method == "HEAD" or tryout.status in (204, 304)
    if not bodyless and not client.is_http2 and client.http_version != "HTTP/1.0":
        fields.append((b"transfer-encoding", b"chunked"))
    if tryout.shape == "stream":
        fields.append((b"x-arbstr-streaming", b"true"))
    fields += _told(client, exchange, attempt, state)
    return make_response(tryout.status or 502, fields, None)


def whole_answer(
    client: http.Request, exchange: Exchange, answer: Answer, row: RequestRow, state: State
) -> http.Response:
    """A whole answer, or an error of ours. `row`: what the ledger gets."""
    fields: _Fields = [(b"content-type", b"application/json")]
    if answer.attempt is not None:
        fields = headers.downstream(answer.attempt.tryout.headers, state.keys)
    if answer.retry_after is not None:
        fields.append((b"retry-after", answer.retry_after.encode()))
    fields.append((b"content-length", str(len(answer.body)).encode()))
    fields += _told(client, exchange, answer.attempt, state)
    fields += headers.own(
        (
            ("cost-sats", sats(row.cost_msats)),
            ("latency-ms", None if row.latency_ms is None else str(row.latency_ms)),
        )
    )
    return make_response(answer.status, fields, answer.body)


def error_response(
    flow: http.HTTPFlow, problem: Problem, request_id: int | None = None
) -> http.Response:
    """An error in the dialect of the path it was asked at."""
    dialect = by_path(flow.request.path.partition("?")[0]) or PASS_THROUGH
    fields = {"content-type": "application/json"}
    if request_id is not None:
        fields["x-arbstr-request-id"] = str(request_id)
    return http.Response.make(problem.status, dialect.error_body(problem), fields)


def _told(
    client: http.Request, exchange: Exchange, attempt: Attempt | None, state: State
) -> _Fields:
    """What every answer says of itself."""
    ticket = exchange.ticket
    shown = attempt.candidate if attempt is not None else None
    failed = [a for a in exchange.attempts if a is not attempt]
    retries = ", ".join(f"{a.n}/{a.candidate.model.id}" for a in failed)
    estimate = None if shown is None or shown.expected_msats is None else shown.expected_msats
    pairs = headers.own(
        (
            ("request-id", str(ticket.id)),
            ("model", None if shown is None else shown.model.id or None),
            ("requested-model", ticket.route.requested or None),
            ("provider", None if shown is None else shown.model.provider),
            ("policy", ticket.route.choice.name),
            ("retries", retries or None),
            ("estimated-sats", sats(estimate)),
        )
    )
    cors = guard.allow_origin(client, state.config.server)
    return pairs + [(name.encode(), value.encode()) for name, value in cors.items()]


def _authority(provider: Provider) -> bytes:
    host = f"[{provider.host}]" if ":" in provider.host else provider.host
    default = 443 if provider.scheme == "https" else 80
    return (host if provider.port == default else f"{host}:{provider.port}").encode()


def _path(provider: Provider, path: str) -> str:
    """The client's path at the provider. Clients may leave out ``/v1``, or have it."""
    if path == "/v1" or path.startswith(("/v1/", "/v1?")):
        return provider.base_path + path.removeprefix("/v1")
    bare = path.partition("?")[0].rstrip("/")
    if _is_api_path(bare):
        return provider.base_path + path
    return provider.base_path.removesuffix("/v1") + path


def _is_api_path(path: str) -> bool:
    return by_path(path) is not None or path == "/models"

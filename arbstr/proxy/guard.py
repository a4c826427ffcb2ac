"""May this caller be here at all? Asked before anything else touches a request; fails closed.

A web page can post to localhost, a name can be rebound to 127.0.0.1, a device on the LAN can reach
an open port: none of them may spend the user's sats (design.md, "What it promises", 6).
"""

from __future__ import annotations

import ipaddress
import re

import msgspec
from mitmproxy import http

from arbstr.config import Server, is_loopback
from arbstr.core.secret import Secret

_BAD_TARGET = re.compile(r"(?:^|/)(?:\.|%2e){2}(?:/|$|\?)|[\x00-\x20\x7f\\]", re.IGNORECASE)
_CROSS_SITE = ("cross-site", "same-site")
_LOOPBACK_NAMES = ("localhost",)
_PREFLIGHT_AGE_S = 600


class Denial(msgspec.Struct, frozen=True):
    """Why a request is turned away. `close`: its connection as well."""

    status: int
    code: str
    message: str
    close: bool = False


def check(request: http.Request, server: Server, *, priced: bool) -> Denial | None:
    """Judge one request; None lets it in. `priced`: its path is one that costs sats."""
    return (
        _check_target(request)
        or _check_host(request, server)
        or _check_origin(request, server)
        or _check_token(request, server)
        or (_check_content_type(request) if priced else None)
    )


def preflight(request: http.Request, server: Server) -> dict[str, str] | None:
    """The headers that answer a CORS preflight of an allowed origin; None for any other request."""
    origin = request.headers.get("origin", "")
    if request.method != "OPTIONS" or "access-control-request-method" not in request.headers:
        return None
    if origin.lower() not in server.allowed_origins:
        return None
    return {
        **allow_origin(request, server),
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": request.headers.get("access-control-request-headers", ""),
        "access-control-max-age": str(_PREFLIGHT_AGE_S),
    }


def allow_origin(request: http.Request, server: Server) -> dict[str, str]:
    """The CORS headers of an answer to an allowed origin; none for everybody else."""
    origin = request.headers.get("origin", "")
    if not origin or origin.lower() not in server.allowed_origins:
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": "*",
        "vary": "origin",
    }


def _check_target(request: http.Request) -> Denial | None:
    if request.method == "CONNECT" or (request.authority and not request.is_http2):
        return Denial(400, "not_a_proxy", "this is no forward proxy", close=True)
    if not request.path.startswith("/") or request.path.startswith("//"):
        return Denial(400, "bad_target", "the request target must be a path", close=True)
    if _BAD_TARGET.search(request.path):
        return Denial(400, "bad_target", "the request target holds what it must not", close=True)
    if "upgrade" in request.headers and "websocket" in request.headers["upgrade"].lower():
        return Denial(400, "no_websockets", "there are no WebSockets here", close=True)
    return None


def _check_host(request: http.Request, server: Server) -> Denial | None:
    hosts = request.headers.get_all("host") or ([request.authority] if request.authority else [])
    if len(hosts) != 1:
        return Denial(400, "bad_host", "a request names exactly one Host", close=True)
    name = _host_name(hosts[0])
    if name is None:
        return Denial(400, "bad_host", "the Host header is malformed", close=True)
    if _is_ip(name) or name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return None
    if name in (server.listen_host.lower(), *server.allowed_hosts):
        return None
    if hosts[0].lower() in server.allowed_hosts:
        return None
    message = f"the Host {name!r} is not ours; server.allowed_hosts names those that are"
    return Denial(421, "wrong_host", message, close=True)


def _check_origin(request: http.Request, server: Server) -> Denial | None:
    origins = request.headers.get_all("origin")
    allowed = bool(origins) and all(o.lower() in server.allowed_origins for o in origins)
    if origins and not allowed:
        message = "web pages may not call here; server.allowed_origins names those that may"
        return Denial(403, "origin_not_allowed", message)
    if not allowed and request.headers.get("sec-fetch-site", "").lower() in _CROSS_SITE:
        return Denial(403, "origin_not_allowed", "a page of another site may not call here")
    return None


def _check_token(request: http.Request, server: Server) -> Denial | None:
    if server.auth_token is None or request.method == "OPTIONS":
        return None
    sent = request.headers.get("x-arbstr-token") or bearer(request)
    if Secret(sent) == server.auth_token:
        return None
    message = "this arbstr wants its server.auth_token: as bearer, x-api-key or x-arbstr-token"
    return Denial(401, "invalid_api_key", message)


def _check_content_type(request: http.Request) -> Denial | None:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return None
    return Denial(415, "unsupported_media_type", "the content-type must be application/json")


def bearer(request: http.Request) -> str:
    """The key that a client sends: as bearer or ``x-api-key``; "" without one."""
    sent: str = request.headers.get("authorization", "")
    scheme, _, value = sent.partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    key: str = request.headers.get("x-api-key", "")
    return key.strip()


def uses_our_token(request: http.Request, server: Server) -> bool:
    """Whether the key a client sends is our own token, which must never go up."""
    token = server.auth_token
    return token is not None and Secret(bearer(request)) == token


def is_private_listener(server: Server) -> bool:
    """Whether only this machine can reach us."""
    return is_loopback(server.listen_host)


def _host_name(host: str) -> str | None:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:/@\s\[\]]+)(?::\d{1,5})?", host.strip())
    return None if match is None else match.group(1).strip("[]").lower().rstrip(".")


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

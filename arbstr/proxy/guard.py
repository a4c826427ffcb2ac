"""May this caller be here at all? Asked before anything else touches a request; fails closed.

A web page can post to localhost, a name can be rebound to 127.0.0.1, a device on the LAN can reach
an open port: none of them may spend the user's sats (design.md, "What it promises", 6).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable

import msgspec
from mitmproxy import http

from arbstr.config import Server, is_loopback
from arbstr.core.secret import Secret
from arbstr.proxy import target
from arbstr.proxy.messages import value, values

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""All others are refused: CONNECT makes a tunnel, TRACE sends our key back."""
_OWN_SITE = frozenset({"same-origin", "none"})
"""``Sec-Fetch-Site`` of requests that no other site's page has caused (W3C, Fetch Metadata)."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z_.-]+)?\]|[0-9A-Za-z_.-]+)(?::[0-9]{0,5})?")
_FIELD_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]*")
_PREFLIGHT_AGE_S = 600
_REMEMBERED = 256
"""Answers kept: clients come from few addresses, to few names."""


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
        or (_check_body(request) if priced else None)
    )


def check_peer(host: str, server: Server) -> Denial | None:
    """Judge the address that a connection comes from, whatever address we listen on.

    ``--listen`` and mitmproxy's own options can open more than the config does: then only this
    machine gets in, unless there is a token or the config says that none is needed.
    """
    if server.auth_token is not None or server.allow_lan_without_token or _is_this_machine(host):
        return None
    message = f"only this machine may call; set server.auth_token to let {host} in"
    return Denial(403, "not_from_here", message, close=True)


def check_listener(host: str, server: Server) -> str | None:
    """Why we must not listen on `host` ("" is every address); None where we may."""
    if server.auth_token is not None or server.allow_lan_without_token or is_loopback(host):
        return None
    return (
        f"listening on {host or 'every address'} lets other machines in and there is no token; "
        'set server.auth_token = "${ARBSTR_TOKEN}" and that variable to a long random text, or '
        "listen on 127.0.0.1, or say server.allow_lan_without_token = true"
    )


def preflight(request: http.Request, server: Server) -> dict[str, str] | None:
    """The headers that answer a CORS preflight of an allowed origin; None for any other request."""
    if not _is_preflight(request, server):
        return None
    asked = request.headers.get("access-control-request-headers", "")
    headers = {
        **allow_origin(request, server),
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": asked if _FIELD_NAMES.fullmatch(asked) else "",
        "access-control-max-age": str(_PREFLIGHT_AGE_S),
    }
    if "access-control-request-private-network" in request.headers:
        headers["access-control-allow-private-network"] = "true"
    return headers


def allow_origin(request: http.Request, server: Server) -> dict[str, str]:
    """The CORS headers of an answer to an allowed origin; none for everybody else."""
    if not _from_allowed_origin(request, server):
        return {}
    return {
        "access-control-allow-origin": request.headers["origin"],
        "access-control-expose-headers": "*",
        "vary": "origin",
    }


def _check_target(request: http.Request) -> Denial | None:
    if request.data.method.decode("latin-1") not in METHODS:
        return Denial(405, "method_not_allowed", "there is no such method here", close=True)
    if request.authority and not request.is_http2:
        return Denial(400, "not_a_proxy", "this is no forward proxy", close=True)
    if (problem := target.refusal(request.path)) is not None:
        return Denial(400, "bad_target", problem, close=True)
    if "websocket" in ", ".join(values(request, b"upgrade")).lower():
        return Denial(400, "no_websockets", "there are no WebSockets here", close=True)
    return None


def _check_host(request: http.Request, server: Server) -> Denial | None:
    hosts = values(request, b"host")
    if request.is_http2 and request.authority:
        hosts = list(dict.fromkeys([request.authority, *hosts]))
    if len(hosts) != 1:
        return Denial(400, "bad_host", "a request names exactly one Host", close=True)
    name = _host_name(hosts[0])
    if name is None:
        return Denial(400, "bad_host", "the Host header is malformed", close=True)
    if _is_ip(name) or name in ("localhost", server.listen_host.lower(), *server.allowed_hosts):
        return None
    message = f"the Host {name!r} is not ours; server.allowed_hosts names those that are"
    return Denial(421, "wrong_host", message, close=True)


def _check_origin(request: http.Request, server: Server) -> Denial | None:
    if _from_allowed_origin(request, server):
        return None
    if values(request, b"origin"):
        message = "web pages may not call here; server.allowed_origins names those that may"
        return Denial(403, "origin_not_allowed", message)
    sites = {site.strip().lower() for site in values(request, b"sec-fetch-site")}
    if sites - _OWN_SITE:
        return Denial(403, "origin_not_allowed", "a page of another site may not call here")
    return None


def _check_token(request: http.Request, server: Server) -> Denial | None:
    if server.auth_token is None or _is_preflight(request, server):
        return None
    sent = [*values(request, b"x-arbstr-token"), *values(request, b"x-api-key")]
    sent += [_bearer(value) for value in values(request, b"authorization")]
    if any([Secret(key.strip()) == server.auth_token for key in sent]):  # noqa: C419 - all, always
        return None
    message = "this arbstr wants its server.auth_token: as bearer, x-api-key or x-arbstr-token"
    return Denial(401, "invalid_api_key", message)


def _check_body(request: http.Request) -> Denial | None:
    kind = ", ".join(values(request, b"content-type")).partition(";")[0]
    if kind.strip().lower() != "application/json":
        return Denial(415, "unsupported_media_type", "the content-type must be application/json")
    encoding = ", ".join(values(request, b"content-encoding")).strip().lower()
    if encoding not in ("", "identity"):
        return Denial(415, "unsupported_encoding", "the body must not be compressed")
    return None


def bearer(request: http.Request) -> str:
    """The key that a client sends: as bearer or ``x-api-key``; "" without one."""
    own = value(request, b"authorization"), value(request, b"x-api-key")
    return _bearer(own[0] or "") or (own[1] or "").strip()


def without_token(
    fields: Iterable[tuple[bytes, bytes]], token: Secret | None
) -> tuple[tuple[bytes, bytes], ...]:
    """`fields` but those that hold our token, which must never go up."""
    if token is None:
        return tuple(fields)
    text = token.reveal().encode("utf-8", "surrogateescape")
    return tuple((name, value) for name, value in fields if text not in value)


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _is_preflight(request: http.Request, server: Server) -> bool:
    return (
        request.method == "OPTIONS"
        and "access-control-request-method" in request.headers
        and _from_allowed_origin(request, server)
    )


def _from_allowed_origin(request: http.Request, server: Server) -> bool:
    origins = values(request, b"origin")
    return len(origins) == 1 and origins[0].lower() in server.allowed_origins


def _host_name(host: str) -> str | None:
    """The name in a Host header: lower case, no port, no brackets, no dot at its end."""
    match = _HOST.fullmatch(host)
    return None if match is None else match[1].strip("[]").lower().removesuffix(".")


@functools.lru_cache(_REMEMBERED)
def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@functools.lru_cache(_REMEMBERED)
def _is_this_machine(host: str) -> bool:
    """Whether a peer's address is loopback, as IPv4 or as IPv4 in IPv6."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)

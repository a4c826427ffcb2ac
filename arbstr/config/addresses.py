"""Parsers for addresses: where we listen, who may call, whom we call. All raise ValueError."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from arbstr.config.parsers import refusal

_PORT = re.compile(r"[0-9]{1,5}")
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_MAX_PORT = 65_535
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Endpoint(NamedTuple):
    """A provider's URL in parts. `base_path` has no slash at its end, and may be empty."""

    url: str
    scheme: str
    host: str
    port: int
    base_path: str


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`: ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(value: object) -> tuple[str, int]:
    """Split ``host:port``, ``[::1]:port`` into host, without brackets, and port."""
    wrong = refusal("is no address", '"host:port" such as "127.0.0.1:8080" or "[::1]:8080"')
    if not isinstance(value, str):
        raise wrong
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host.lower()
    if not colon or not _PORT.fullmatch(port) or int(port) > _MAX_PORT:
        raise wrong
    if not (_is_ip(host, 6) if bracketed else _is_host(host)):
        raise wrong
    return host, int(port)


def origin(value: object) -> str:
    """Read a web page's origin as browsers send it, in lower case; ``*`` would admit every page."""
    if isinstance(value, str) and _ORIGIN.fullmatch(value.lower()):
        return value.lower()
    raise refusal("is no origin", '"scheme://host" or "scheme://host:port", no path, no "*"')


def host_name(value: object) -> str:
    """Read a name that may stand in a ``Host`` header, in lower case, without a port."""
    if isinstance(value, str) and _is_host(value.lower()):
        return value.lower()
    raise refusal("is no host name", 'a name such as "arbstr.example", without scheme and port')


def endpoint(value: object) -> Endpoint:
    """Take a provider's URL apart. User and password, query and fragment have no place in it."""
    allowed = 'http or https, a host, a path, such as "https://api.routstr.com/v1"'
    if not isinstance(value, str):
        raise refusal("is no URL", allowed)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise refusal("is no URL", allowed) from None
    # What a URL parser drops without a word (tabs, line ends) must not pass here.
    if not value.isascii() or not value.isprintable() or " " in value:
        raise refusal("has characters that do not belong in a URL", allowed)
    if parts.scheme not in _DEFAULT_PORTS or port == 0:
        raise refusal("is no URL of http or https", allowed)
    if "@" in parts.netloc:
        raise refusal("has a user or password in it; keys belong in api_key", allowed)
    if "?" in value or "#" in value:
        raise refusal("has a query or a fragment", allowed)
    host = _host(parts)
    path = parts.path.rstrip("/")
    if host is None or not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise refusal("is no URL of a host and a plain path", allowed)
    return Endpoint(
        value.rstrip("/"), parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], path
    )


def _host(parts: SplitResult) -> str | None:
    host = parts.hostname or ""
    valid = _is_ip(host, 6) if "[" in parts.netloc else _is_host(host)
    return host if valid and not parts.netloc.endswith(":") else None


def _is_host(host: str) -> bool:
    """Whether `host` is a name or an IPv4 address; what looks like an address must be one."""
    if not _HOST_NAME.fullmatch(host):
        return False
    return _is_ip(host, 4) if host.rpartition(".")[2].isdigit() else True


def _is_ip(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False

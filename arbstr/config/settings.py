"""What a config file says, as frozen values."""

from __future__ import annotations

from pathlib import Path

import msgspec

from arbstr.core.catalog import Model
from arbstr.core.policy import Policies
from arbstr.core.secret import Secret


class Server(msgspec.Struct, frozen=True):
    """``[server]``: where we listen and who may call.

    `listen_host`: an IP address without brackets, or a name. `listen_port`: 0 is any free one.
    `allowed_origins` and `allowed_hosts` are lower case.
    """

    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    auth_token: Secret | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allow_lan_without_token: bool = False


class Database(msgspec.Struct, frozen=True):
    """``[database]``: the ledger's file, absolute, and for how many days rows stay (0: always)."""

    path: Path
    retention_days: int = 0


class Provider(msgspec.Struct, frozen=True):
    """One ``[[providers]]``.

    `url`: as in the file, without a slash at its end. `host`: lower case, without brackets.
    `base_path`: ``"/v1"``, or ``""``. `api_key` None: the client's own key passes through.
    `sync_s` None: prices are never fetched. `cache_ttl_s`: how long a prompt stays cached there.
    """

    name: str
    url: str
    scheme: str
    host: str
    port: int
    base_path: str
    api_key: Secret | None = None
    sync_s: float | None = 600.0
    cache_ttl_s: float = 300.0


class Fallback(msgspec.Struct, frozen=True):
    """``[fallback]``: how often and how long an answer is tried for. `_s` are seconds.

    `grace_s`: how long a shutdown lets streams run on.
    """

    max_attempts: int = 4
    first_token_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 600.0
    grace_s: float = 10.0


class Limits(msgspec.Struct, frozen=True):
    """``[limits]``: what one request and one answer may be. `concurrent`: requests at a time."""

    header_bytes: int = 65_536
    body_bytes: int = 33_554_432
    json_depth: int = 128
    messages: int = 10_000
    concurrent: int = 256
    request_seconds: float = 60.0
    event_bytes: int = 8_388_608
    answer_bytes: int = 134_217_728


class Config(msgspec.Struct, frozen=True):
    """A whole config. `models`: the static ones. `warnings`: one line each, for the user."""

    path: Path
    server: Server
    database: Database
    providers: tuple[Provider, ...]
    models: tuple[Model, ...]
    policies: Policies
    fallback: Fallback
    limits: Limits
    warnings: tuple[str, ...] = ()

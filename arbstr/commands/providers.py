"""``arbstr providers``: who sells, whether their prices are known, and whether they work."""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import time
from collections.abc import Mapping

import msgspec

from arbstr.commands.memory import last_lists
from arbstr.commands.screen import Screen
from arbstr.commands.settings import load_config
from arbstr.config import Config, Provider
from arbstr.core.shapes import mapping, objects
from arbstr.market.catalog import make_catalog
from arbstr.report import (
    Column,
    Row,
    Value,
    number_column,
    render,
    show_age,
    show_count,
    text_column,
    time_column,
)

_HEALTH_TIMEOUT_S = 0.3


def run(args: argparse.Namespace) -> int:
    """Show one row for each provider."""
    config = load_config(args)
    lists = last_lists(config)
    catalog = make_catalog(config, lists)
    health = ask_health(config)
    rows = []
    for provider in config.providers:
        listed = [m.listed_ms for m in lists.get(provider.name, ()) if m.listed_ms is not None]
        models = sum(1 for model in catalog.models if model.provider == provider.name)
        rows.append(_row(provider, models, max(listed, default=None), health))
    Screen(sys.stdout, os.environ).write(render(rows, _columns(), args.format))
    return 0


def ask_health(config: Config) -> Mapping[str, object] | None:
    """``GET /health`` of the arbstr that runs with this config; None where none answers at once."""
    host = config.server.listen_host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - never bound here
    token = config.server.auth_token
    headers = {} if token is None else {"authorization": f"Bearer {token.reveal()}"}
    link = http.client.HTTPConnection(host, config.server.listen_port, timeout=_HEALTH_TIMEOUT_S)
    try:
        link.request("GET", "/health", headers=headers)
        answer = link.getresponse()
        told = msgspec.json.decode(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        link.close()
    # Whatever else may listen there, or an arbstr in mock mode, knows nothing of these providers.
    ledger = mapping(mapping(told).get("ledger")).get("path")
    return mapping(told) if ledger == str(config.database.path) else None


def _row(
    provider: Provider, models: int, listed_ms: int | None, health: Mapping[str, object] | None
) -> Row:
    sync = mapping(mapping(mapping(health).get("sync")).get(provider.name))
    last_ok = sync.get("last_ok_ms")
    return {
        "name": provider.name,
        "url": provider.url,
        "key": "the client's own" if provider.api_key is None else str(provider.api_key),
        "sync_s": provider.sync_s,
        "models": models,
        "synced_at": last_ok if isinstance(last_ok, int) else listed_ms,
        "state": _state(provider.name, health, sync.get("error")),
    }


def _state(name: str, health: Mapping[str, object] | None, sync_error: object) -> str | None:
    """Words for what a running arbstr says of a provider; None where none runs."""
    if health is None:
        return None
    shut = [
        f"{b.get('model')} {b.get('state')}"
        for b in objects(health.get("breakers"))
        if b.get("provider") == name and b.get("state") != "closed"
    ]
    if isinstance(sync_error, str):
        shut.append(f"sync failed: {sync_error}")
    return "; ".join(shut) or "ok"


def _show_sync(value: Value) -> str:
    return show_age(round(float(value) * 1000)) if isinstance(value, int | float) else "off"


def _columns() -> tuple[Column, ...]:
    now_ms = time.time_ns() // 1_000_000

    def ago(value: Value) -> str:
        return f"{show_age(now_ms - value)} ago" if isinstance(value, int) else "never"

    synced = time_column("synced_at", "synced")
    return (
        text_column("name", "provider"),
        text_column("url", "url"),
        text_column("key", "key"),
        Column("sync_s", "sync", _show_sync),
        number_column("models", "models", show_count),
        synced._replace(show=ago),
        text_column("state", "state"),
    )

"""``arbstr models --sync``: fetch every provider's list now, and put it into the ledger."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping

import msgspec

from arbstr.commands.failure import CommandError, complain
from arbstr.commands.settings import now_ms
from arbstr.config import Config, Provider
from arbstr.core.catalog import Model
from arbstr.core.listing import read_listing
from arbstr.ledger.writer import LedgerError, Writer
from arbstr.market.catalog import price_rows
from arbstr.market.fetch import fetch


class Synced(msgspec.Struct, frozen=True):
    """The lists as they are now, by provider; a failed sync leaves the old one."""

    lists: Mapping[str, tuple[Model, ...]]
    complete: bool


def sync(config: Config, lists: Mapping[str, tuple[Model, ...]]) -> Synced:
    """Fetch the list of each provider that is synced at all. What fails is said."""
    fresh: dict[str, tuple[Model, ...]] = {}
    complete = True
    for provider in config.providers:
        if provider.sync_s is None:
            complain(f'{provider.name}: sync = "off"')
            continue
        try:
            fresh[provider.name] = _fetched(provider, lists.get(provider.name, ()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            complain(f"{provider.name}: not synced: {error}")
            complete = False
        else:
            complain(f"{provider.name}: {len(fresh[provider.name])} models")
    if fresh:
        _keep(config, [model for models in fresh.values() for model in models])
    return Synced({**lists, **fresh}, complete)


def _fetched(provider: Provider, last: tuple[Model, ...]) -> tuple[Model, ...]:
    return read_listing(fetch(provider), provider=provider.name, now_ms=now_ms(), last=last)


def _keep(config: Config, models: list[Model]) -> None:
    """Write the prices into the ledger, beside whatever arbstr may be writing there."""
    writer = Writer(config.database.path, instance=f"models-sync-{os.getpid()}-{now_ms()}")
    try:
        writer.start()
    except LedgerError as error:
        raise CommandError(str(error)) from None
    writer.prices(price_rows(models, now_ms()))
    if not writer.close():
        raise CommandError(f"{config.database.path} cannot be written now: prices not kept")

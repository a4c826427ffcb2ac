"""One catalog out of what the config says and what providers list, now or at the last sync.

Used by the proxy's price sync and by the commands, so that both see the same models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from arbstr.config import Config
from arbstr.core.catalog import Catalog, Model
from arbstr.core.price import Price
from arbstr.core.record import PriceRow

_FILLED_IN = ("price", "context", "max_output", "tools", "vision", "json", "max_cost_msats")


def make_catalog(config: Config, synced: Mapping[str, tuple[Model, ...]]) -> Catalog:
    """All models: the static ones, then what providers list beside them.

    `synced`: the last good list by provider. A provider that was never synced and has no static
    models may sell anything.
    """
    static = {(m.provider, m.id) for m in config.models}
    listed = [
        model
        for provider in config.providers
        for model in synced.get(provider.name, ())
        if (model.provider, model.id) not in static
    ]
    sellers = {provider for provider, _ in static} | {m.provider for m in listed}
    names = tuple(provider.name for provider in config.providers)
    unknown = frozenset(name for name in names if name not in sellers)
    return Catalog(
        (*_enriched(config.models, synced), *listed), providers=names, open_providers=unknown
    )


def price_rows(models: Iterable[Model], at_ms: int) -> tuple[PriceRow, ...]:
    """A list as rows of the price history. Each holds its model whole, for `remembered`."""
    return tuple(_price_row(m, m.price, at_ms) for m in models if m.price is not None)


def remembered(rows: Iterable[PriceRow]) -> dict[str, tuple[Model, ...]]:
    """The last good lists, by provider, of the ledger's latest `rows`.

    A model that its provider's last list had no more is left out; so is one that another version of
    arbstr wrote in a form of its own: the next sync replaces it.
    """
    rows = tuple(rows)
    last: dict[str, int] = {}
    for row in rows:
        last[row.provider] = max(last.get(row.provider, 0), _seen_ms(row))
    found: dict[str, list[Model]] = {}
    for row in rows:
        if row.raw is None or _seen_ms(row) < last[row.provider]:
            continue
        try:
            model = msgspec.json.decode(row.raw, type=Model)
        except msgspec.DecodeError:
            continue
        model = msgspec.structs.replace(model, listed_ms=_seen_ms(row))
        found.setdefault(row.provider, []).append(model)
    return {provider: tuple(models) for provider, models in found.items()}


def _price_row(model: Model, price: Price, at_ms: int) -> PriceRow:
    return PriceRow(
        provider=model.provider,
        model=model.id,
        at_ms=at_ms,
        input_rate=str(price.input),
        output_rate=str(price.output),
        cached_rate=None if price.cached is None else str(price.cached),
        cache_write_rate=None if price.cache_write is None else str(price.cache_write),
        base_fee_msats=str(price.base_fee_msats),
        raw=msgspec.json.encode(model),
    )


def _seen_ms(row: PriceRow) -> int:
    return row.at_ms if row.seen_ms is None else row.seen_ms


def _enriched(static: Iterable[Model], synced: Mapping[str, tuple[Model, ...]]) -> Iterable[Model]:
    """Static models win; what they leave open is filled in from the provider's list."""
    for model in static:
        listed = next((m for m in synced.get(model.provider, ()) if m.id == model.id), None)
        yield model if listed is None else _filled(model, listed)


def _filled(model: Model, listed: Model) -> Model:
    open_fields = {
        name: getattr(listed, name) for name in _FILLED_IN if getattr(model, name) is None
    }
    aliases = tuple(dict.fromkeys((*model.aliases, *listed.aliases)))
    return msgspec.structs.replace(model, **open_fields, aliases=aliases)

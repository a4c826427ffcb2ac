"""``[[providers]]`` and ``[[models]]``: who sells what, and at what price."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from arbstr.config import addresses, parsers
from arbstr.config.parsers import Parser
from arbstr.config.settings import Provider
from arbstr.config.table import Notes, Table, shown
from arbstr.core.catalog import TIERS, Catalog, Model
from arbstr.core.policy import Rule
from arbstr.core.price import Price
from arbstr.core.secret import Secret
from arbstr.core.shortlist import shortlist

MOCK_NAME = "mock"
_MOCK_KEY = "sk-mock-0000000000000000"  # opens nothing but our own mock node

_SYNC_S = 600.0
_CACHE_TTL_S = 300.0
_RATES = ("input_rate", "output_rate", "base_fee", "cached_input_rate", "cache_write_rate")
_MAX_TOKENS = 1_000_000_000
_NO_KEY_CHARACTER = re.compile(r"[^A-Za-z0-9]")


def mock_provider(url: str) -> Provider:
    """Make the one provider of mock mode. Raises ValueError if `url` is none."""
    return Provider(MOCK_NAME, *addresses.endpoint(url), api_key=Secret(_MOCK_KEY), sync_s=_SYNC_S)


def key_variable(provider: str) -> str:
    """Name the environment variable of a provider's key: ``a.b`` → ``ARBSTR_A_B_API_KEY``."""
    return f"ARBSTR_{_NO_KEY_CHARACTER.sub('_', provider).upper()}_API_KEY"


def read_sellers(
    providers: list[Table], models: list[Table], notes: Notes
) -> tuple[tuple[Provider, ...], tuple[Model, ...]]:
    """Read all ``[[providers]]`` and ``[[models]]``; a provider's own `models` come first."""
    sellers: list[Provider] = []
    sold: list[tuple[str, Model]] = []
    names: list[str | None] = []
    for table in providers:
        name = table.required("name", parsers.name, "a text, your name for the provider")
        names.append(name)
        provider = _read_provider(table, notes, name or "")
        sold += _read_its_models(table, name or "")
        table.finish()
        if provider is not None:
            sellers.append(provider)
    places = [table.path("name") for table in providers]
    notes.twice(list(zip(places, names, strict=True)))
    _refuse_shared_variables(places, names, notes)
    sold += [(table.path("id"), m) for table in models if (m := _read_model(table, notes, names))]
    notes.twice([(where, f"{model.id} at {model.provider}") for where, model in sold])
    return tuple(sellers), tuple(model for _, model in sold)


def refuse_empty_rules(
    rules: Sequence[tuple[str, Rule]], models: Sequence[Model], notes: Notes
) -> None:
    """Note each (key path, rule) that allows none of `models`, by the rules of routing itself.

    To be called where no other models can come.
    """
    catalog = Catalog(models)
    names = ", ".join(sorted({model.id for model in models})) or "none, the file has no models"
    what = 'no model of the file matches, and every provider has sync = "off"'
    for where, rule in rules:
        if rule.allowed_models and len(shortlist(catalog, rule).outside) == len(models):
            notes.problem(where, parsers.but(what, names))


def _read_provider(table: Table, notes: Notes, name: str) -> Provider | None:
    """Read one ``[[providers]]`` but for its name and models; None where its URL is wrong."""
    endpoint = table.required("url", addresses.endpoint, '"https://host/v1"')
    api_key = table.optional("api_key", parsers.secret)
    sync_s = table.get("sync", parsers.sync_seconds, _SYNC_S)
    cache_ttl_s = table.get("cache_ttl", parsers.seconds(zero=True), _CACHE_TTL_S)
    if endpoint is None:
        return None
    variable = key_variable(name)
    if table.is_literal("api_key"):
        notes.key_in_file(table.path("api_key"), f"leave it out and set the variable {variable}")
    if "api_key" not in table and notes.env.get(variable, "").strip():
        try:
            api_key = parsers.secret(notes.env[variable])
        except ValueError as error:
            notes.problem(table.path("api_key"), f"the value of {variable} {error}")
    if api_key and endpoint.scheme == "http" and not addresses.is_loopback(endpoint.host):
        notes.warning(table.path("url"), "sends your key over plain http, for all to read")
    return Provider(name, *endpoint, api_key=api_key, sync_s=sync_s, cache_ttl_s=cache_ttl_s)


def _read_its_models(table: Table, provider: str) -> list[tuple[str, Model]]:
    """Read a provider's `models`, all at its one price, each with its key path."""
    price = _read_price(table)
    tier = table.optional("tier", parsers.one_of(TIERS))
    ids = table.all_of("models", parsers.text)
    where = table.path("models")
    return [(f"{where}[{i}]", Model(id_, provider, price, tier=tier)) for i, id_ in enumerate(ids)]


def _read_model(table: Table, notes: Notes, providers: list[str | None]) -> Model | None:
    """Read one ``[[models]]``; None where its id or provider is wrong."""
    id_ = table.required("id", parsers.text, "a text, the model's name at its provider")
    provider = table.optional("provider", parsers.text)
    if "provider" not in table and len(providers) == 1:
        provider = providers[0]
    elif "provider" not in table or (provider is not None and provider not in providers):
        _refuse_seller(table, notes, provider, providers)
    tokens: Parser[int] = parsers.whole(1, _MAX_TOKENS)
    model = Model(
        id=id_ or "",
        provider=provider or "",
        price=_read_price(table, cache=True),
        context=table.optional("context", tokens),
        max_output=table.optional("max_output", tokens),
        tools=table.optional("tools", parsers.flag),
        vision=table.optional("vision", parsers.flag),
        json=table.optional("json", parsers.flag),
        tier=table.optional("tier", parsers.one_of(TIERS)),
        latency_ms=table.optional("latency", parsers.milliseconds),
        aliases=table.all_of("aliases", parsers.text),
    )
    table.finish()
    return model if model.id and model.provider else None


def _refuse_seller(
    table: Table, notes: Notes, provider: str | None, providers: list[str | None]
) -> None:
    """Note that a model's provider is missing or unknown, unless a provider has no name."""
    if None not in providers:
        known = ", ".join(filter(None, providers)) or "none, there are no [[providers]]"
        what = "is missing" if provider is None else f"{shown(provider)} is no provider"
        notes.problem(table.path("provider"), parsers.but(what, known))


def _read_price(table: Table, *, cache: bool = False) -> Price | None:
    """Read the rates; None where there are none. One alone is a problem: absent is not 0."""
    named = [key for key in _RATES if key in table]
    input_rate = table.optional("input_rate", parsers.rate)
    output_rate = table.optional("output_rate", parsers.rate)
    fee = table.get("base_fee", parsers.fee_msats, Decimal(0))
    cached = table.optional("cached_input_rate", parsers.rate) if cache else None
    write = table.optional("cache_write_rate", parsers.rate) if cache else None
    if named:
        for key in ("input_rate", "output_rate"):
            if key not in table:
                table.missing(key, f"sats per 1,000 tokens, beside {named[0]}")
    if input_rate is None or output_rate is None:
        return None
    return Price(input_rate, output_rate, cached, write, fee)


def _refuse_shared_variables(places: list[str], names: list[str | None], notes: Notes) -> None:
    """Two names must not read one variable: the key of one seller would go to another."""
    first: dict[str, str] = {}
    for where, name in zip(places, names, strict=True):
        if name is None:
            continue
        variable = key_variable(name)
        other = first.setdefault(variable, name)
        if other != name:
            notes.problem(
                where,
                f"{shown(name)} would read its key from {variable}, as {shown(other)} does; "
                "allowed: names that differ in letters or digits",
            )

"""What one config makes of arbstr: everything that a reload replaces, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from arbstr.config import Config, Provider
from arbstr.core.catalog import Catalog, Model
from arbstr.core.exchange import Timing
from arbstr.core.policy import Selector
from arbstr.core.secret import Secret
from arbstr.core.tryout import Limits
from arbstr.core.veil import Keys


class State(msgspec.Struct, frozen=True):
    """A config in force. `keys`: every one of ours, to be masked where it would show."""

    config: Config
    providers: Mapping[str, Provider]
    selector: Selector
    timing: Timing
    limits: Limits
    keys: Keys


def make_state(config: Config) -> State:
    """Derive what requests need from `config`."""
    fallback, limits = config.fallback, config.limits
    return State(
        config=config,
        providers={provider.name: provider for provider in config.providers},
        selector=Selector(config.policies),
        timing=Timing(
            fallback.max_attempts, fallback.first_token_s, fallback.idle_s, fallback.total_s
        ),
        limits=Limits(limits.event_bytes, limits.answer_bytes),
        keys=Keys(_secrets(config)),
    )


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


def _enriched(static: Iterable[Model], synced: Mapping[str, tuple[Model, ...]]) -> Iterable[Model]:
    """Static models win; what they leave open is filled in from the provider's list."""
    for model in static:
        listed = next((m for m in synced.get(model.provider, ()) if m.id == model.id), None)
        yield model if listed is None else _filled(model, listed)


def _filled(model: Model, listed: Model) -> Model:
    open_fields = {
        name: getattr(listed, name)
        for name in ("price", "context", "max_output", "tools", "vision", "json", "max_cost_msats")
        if getattr(model, name) is None
    }
    aliases = tuple(dict.fromkeys((*model.aliases, *listed.aliases)))
    return msgspec.structs.replace(model, **open_fields, aliases=aliases)


def _secrets(config: Config) -> Iterable[Secret]:
    for provider in config.providers:
        if provider.api_key is not None:
            yield provider.api_key
    if config.server.auth_token is not None:
        yield config.server.auth_token

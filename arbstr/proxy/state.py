"""What one config makes of arbstr: everything that a reload replaces, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from arbstr.config import Config, Provider
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


def _secrets(config: Config) -> Iterable[Secret]:
    for provider in config.providers:
        if provider.api_key is not None:
            yield provider.api_key
    if config.server.auth_token is not None:
        yield config.server.auth_token

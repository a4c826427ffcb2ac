"""Which models exist, who sells them, and at what price."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from arbstr.core.price import Price

type Source = Literal["static", "synced", "assumed"]
type Tier = Literal["local", "standard", "frontier"]

TIERS: tuple[Tier, ...] = ("local", "standard", "frontier")


class Model(msgspec.Struct, frozen=True):
    """One model at one provider. What nobody said is None: it never refuses a request.

    ``price`` None is an unpriced model (its provider was never synced). ``max_cost_msats`` is the
    seller's own ceiling for one request, the base of its reservation (routstr.md, "Prices").
    ``source`` ``assumed`` marks a model that stands in no list, made up for a request that names
    it.
    ``listed_ms``: when the price was read, UTC milliseconds; None for a static one.
    """

    id: str
    provider: str
    price: Price | None = None
    context: int | None = None
    max_output: int | None = None
    tools: bool | None = None
    vision: bool | None = None
    json: bool | None = None
    tier: Tier | None = None
    latency_ms: int | None = None
    max_cost_msats: Decimal | None = None
    aliases: tuple[str, ...] = ()
    source: Source = "static"
    listed_ms: int | None = None
    # floats of the rates, for ranking (msats per token); exact money uses `price`
    input_rate: float = 0.0
    cached_rate: float = 0.0
    cache_write_rate: float = 0.0
    output_rate: float = 0.0
    base_fee: float = 0.0

    def __post_init__(self) -> None:
        if (price := self.price) is None:
            return
        fields = {
            "input_rate": price.input,
            "cached_rate": price.input if price.cached is None else price.cached,
            "cache_write_rate": price.input if price.cache_write is None else price.cache_write,
            "output_rate": price.output,
            "base_fee": price.base_fee_msats,
        }
        for name, value in fields.items():
            msgspec.structs.force_setattr(self, name, float(value))


_DATE = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2})$")
_SEPARATORS = re.compile(r"[._:]")


def plain_name(name: str) -> str:
    """Fold the spellings of a model name: case, vendor prefix, date suffix, dots and dashes.

    A node strips vendor prefixes and resolves upper case and ``-YYYYMMDD`` itself (routstr.md).
    """
    tail = name.rsplit("/", 1)[-1].lower()
    return _SEPARATORS.sub("-", _DATE.sub("", tail))


class Catalog:
    """All models of all providers. Immutable; a sync makes a new one.

    `models`: in the order providers and models stand in config and lists.
    """

    __slots__ = ("_exact", "_folded", "models", "open_providers", "providers")

    def __init__(
        self,
        models: Iterable[Model],
        *,
        providers: tuple[str, ...] = (),
        open_providers: frozenset[str] = frozenset(),
    ) -> None:
        """`open_providers`: never synced and without static models, so they may sell anything."""
        self.models = tuple(models)
        self.providers = providers or tuple(dict.fromkeys(m.provider for m in self.models))
        self.open_providers = open_providers
        exact: dict[str, dict[Model, None]] = {}
        folded: dict[str, dict[Model, None]] = {}
        for model in self.models:
            for name in (model.id, *model.aliases):
                exact.setdefault(name, {})[model] = None
                folded.setdefault(plain_name(name), {})[model] = None
        self._exact = {name: tuple(found) for name, found in exact.items()}
        self._folded = {name: tuple(found) for name, found in folded.items()}

    def find(self, name: str) -> tuple[Model, ...]:
        """Everyone who sells `name`: by its exact id or alias, else by any spelling of it."""
        return self._exact.get(name) or self._folded.get(plain_name(name), ())

    def assumed(self, name: str) -> tuple[Model, ...]:
        """`name`, unpriced, at every provider whose list is not known."""
        return tuple(
            Model(id=name, provider=p, source="assumed")
            for p in self.providers
            if p in self.open_providers
        )

    def near(self, name: str, limit: int = 3) -> tuple[str, ...]:
        """Names most like `name`, for an error message."""
        folded: Mapping[str, str] = {plain_name(m.id): m.id for m in self.models}
        close = difflib.get_close_matches(plain_name(name), folded, n=limit, cutoff=0.5)
        return tuple(folded[c] for c in close)

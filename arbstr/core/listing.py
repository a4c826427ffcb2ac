"""A provider's ``GET /v1/models``: which models it sells, at what price; or why it is not believed.

Source: routstr.md, "Prices"; capture ``models``. ``sats_pricing`` is sats per token;
``pricing.request`` is advertised and not charged, so a synced base fee is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeGuard

import msgspec

from arbstr.core.catalog import Model
from arbstr.core.price import MSATS_PER_SAT, Price, rate
from arbstr.core.shapes import mapping, objects
from arbstr.core.usage import count

ABSURD_FACTOR = 100
"""A price this many times the last one is a mistake until the user says otherwise."""
_LONGEST_NAME = 256
_DEAREST_SATS_PER_TOKEN = Decimal(1000)


class ListingError(ValueError):
    """A model list that is refused as a whole. The last good one stays."""


def read_listing(
    body: bytes, *, provider: str, now_ms: int, last: Sequence[Model] = ()
) -> tuple[Model, ...]:
    """Read a model list. `last`: the models of the last good one, to notice absurd changes.

    Models that are not enabled, or have no sats price, are left out.

    Raises:
        ListingError: no JSON, no list, an empty one, a price that is negative, no number, or
        absurd.
    """
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ListingError(f"not JSON: {body[:40]!r}") from None
    rows = objects(mapping(answer).get("data"))
    models = tuple(_unique(_model(row, provider, now_ms) for row in rows))
    if not models:
        raise ListingError("no model with a sats price in it")
    _check_against(models, last)
    return models


def _unique(models: Iterable[Model | None]) -> Iterable[Model]:
    seen: set[str] = set()
    for model in models:
        if model is not None and model.id not in seen:
            seen.add(model.id)
            yield model


def _model(row: Mapping[str, object], provider: str, now_ms: int) -> Model | None:
    name = row.get("id")
    sats = row.get("sats_pricing")
    if not _is_name(name) or not isinstance(sats, dict):
        return None
    if row.get("enabled") is False:
        return None
    try:
        price, ceiling = _price(sats)
    except ValueError as error:
        raise ListingError(f"{name}: {error}") from None
    top = mapping(row.get("top_provider"))
    inputs = mapping(row.get("architecture")).get("input_modalities")
    parameters = row.get("supported_parameters")
    aliases = row.get("alias_ids")
    return Model(
        id=name,
        provider=provider,
        price=price,
        context=count(row.get("context_length")) or count(top.get("context_length")) or None,
        max_output=count(top.get("max_completion_tokens")) or None,
        tools="tools" in parameters if isinstance(parameters, list) and parameters else None,
        vision="image" in inputs if isinstance(inputs, list) and inputs else None,
        json="response_format" in parameters
        if isinstance(parameters, list) and parameters
        else None,
        max_cost_msats=ceiling,
        aliases=tuple(filter(_is_name, aliases)) if isinstance(aliases, list) else (),
        source="synced",
        listed_ms=now_ms,
    )


def _is_name(value: object) -> TypeGuard[str]:
    """Whether `value` can be a model's name: it goes into headers, comments and logs."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _price(sats: Mapping[str, object]) -> tuple[Price, Decimal | None]:
    prompt, completion = _rate(sats, "prompt"), _rate(sats, "completion")
    if prompt is None or completion is None:
        raise ValueError("sats_pricing names no prompt or completion price")
    # A cache rate of 0 means that none was named: the node then charges the prompt price.
    price = Price(prompt, completion, _rate(sats, "input_cache_read") or None)
    price = msgspec.structs.replace(price, cache_write=_rate(sats, "input_cache_write") or None)
    return price, _rate(sats, "max_cost")


def _rate(sats: Mapping[str, object], name: str) -> Decimal | None:
    """Sats per token (or sats) as msats, exactly."""
    value = sats.get(name)
    if value is None:
        return None
    number = rate(value)
    if name in ("prompt", "completion") and number > _DEAREST_SATS_PER_TOKEN:
        raise ValueError(f"{name} costs {number} sats per token")
    return number * MSATS_PER_SAT


def _check_against(models: Sequence[Model], last: Sequence[Model]) -> None:
    """Refuse a list in which most known prices have grown absurdly: a unit has been mistaken."""
    before = {m.id: m.output_rate for m in last if m.output_rate > 0}
    known = [m for m in models if m.id in before]
    absurd = [m for m in known if m.output_rate >= ABSURD_FACTOR * before[m.id]]
    if absurd and 2 * len(absurd) >= len(known):
        worst = absurd[0]
        factor = worst.output_rate / before[worst.id]
        raise ListingError(f"{worst.id} would cost {factor:.0f} times what it did")

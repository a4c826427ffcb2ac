"""What earlier runs have left in the ledger: prices, answers to learn from, what today has cost.

Read on a thread: none of it may hold up a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from arbstr.core.caps import day_of
from arbstr.core.catalog import Model
from arbstr.core.policy import Policies
from arbstr.core.record import PriceRow, RequestRow
from arbstr.ledger.queries import Reader

logger = logging.getLogger(__name__)

LEARN_MS = 30 * 86_400_000
LEARN_ROWS = 20_000
_DAY_MS = 86_400_000


class Earlier(msgspec.Struct, frozen=True):
    """`models`: the last good list by provider. `answers`: oldest first."""

    models: Mapping[str, tuple[Model, ...]]
    answers: tuple[RequestRow, ...]


def read_earlier(path: Path, now_ms: int) -> Earlier:
    """Read it. Blocks. A ledger that cannot be read leaves nothing, and says so in the log."""
    reader = Reader(path)
    try:
        answers = tuple(reader.answers(now_ms - LEARN_MS, LEARN_ROWS))
        return Earlier(_models(reader.prices()), answers)
    except Exception:
        logger.exception("what earlier runs have left could not be read")
        return Earlier({}, ())
    finally:
        reader.close()


def read_spent(path: Path, policies: Policies, now_ms: int) -> Mapping[str | None, int]:
    """What today (UTC) has cost, by policy; None: requests without one. Blocks.

    The figure of requests without a policy is what is left of the whole: all of them count against
    the cap over all policies.
    """
    since = day_of(now_ms) * _DAY_MS
    reader = Reader(path)
    try:
        spent: dict[str | None, int] = {
            rule.name: reader.spent_msats(since, rule.name) for rule in policies.rules
        }
        spent[None] = max(0, reader.spent_msats(since) - sum(spent.values()))
    finally:
        reader.close()
    return spent


def price_rows(models: Sequence[Model]) -> tuple[PriceRow, ...]:
    """A list as rows of the price history. Each holds its model whole, for the next start."""
    now_ms = time.time_ns() // 1_000_000
    return tuple(
        PriceRow(
            provider=model.provider,
            model=model.id,
            at_ms=now_ms,
            input_rate=str(model.price.input),
            output_rate=str(model.price.output),
            cached_rate=None if model.price.cached is None else str(model.price.cached),
            cache_write_rate=(
                None if model.price.cache_write is None else str(model.price.cache_write)
            ),
            base_fee_msats=str(model.price.base_fee_msats),
            raw=msgspec.json.encode(model),
        )
        for model in models
        if model.price is not None
    )


def _models(rows: Sequence[PriceRow]) -> Mapping[str, tuple[Model, ...]]:
    found: dict[str, list[Model]] = {}
    for row in rows:
        if row.raw is None:
            continue
        try:
            model = msgspec.json.decode(row.raw, type=Model)
        except msgspec.DecodeError:
            continue  # written by another version: the next sync replaces it
        found.setdefault(row.provider, []).append(model)
    return {provider: tuple(models) for provider, models in found.items()}

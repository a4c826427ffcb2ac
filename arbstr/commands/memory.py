"""What a command knows without asking anybody: the config, and what the ledger remembers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from arbstr.commands.settings import now_ms, reading
from arbstr.config import Config
from arbstr.core.caps import Caps, day_of
from arbstr.core.catalog import Catalog, Model
from arbstr.core.forecast import Forecast
from arbstr.core.record import RequestRow
from arbstr.ledger.queries import Filters, Reader
from arbstr.market.catalog import make_catalog, remembered
from arbstr.market.earlier import LEARN_MS, LEARN_ROWS, read_spent, relearn


class Memory(msgspec.Struct, frozen=True):
    """What a proxy would know if it started now."""

    catalog: Catalog
    forecast: Forecast
    caps: Caps


def read_memory(config: Config, *, before_ms: int | None = None) -> Memory:
    """Read all of it. `before_ms`: as if it were then, but with the prices and caps of today.

    Raises CommandError.
    """
    now = now_ms()
    with reading(config.database.path) as reader:
        answers = _answers_before(reader, now if before_ms is None else before_ms)
        lists = remembered(reader.prices())
        spent = read_spent(reader, config.policies, now)
    forecast, caps = Forecast(), Caps(config.policies)
    relearn(forecast, answers)
    for policy, msats in spent.items():
        caps.set_spent(policy, msats, day_of(now))
    return Memory(make_catalog(config, lists), forecast, caps)


def _answers_before(reader: Reader, until_ms: int) -> Iterable[RequestRow]:
    """What a proxy that started then would have learned from, oldest first."""
    span = Filters(since_ms=until_ms - LEARN_MS, until_ms=until_ms, outcome="ok")
    return deque(reader.export(span), maxlen=LEARN_ROWS)


def last_lists(config: Config) -> dict[str, tuple[Model, ...]]:
    """Each provider's last good list of models. Raises CommandError."""
    with reading(config.database.path) as reader:
        return remembered(reader.prices())

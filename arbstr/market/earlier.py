"""What earlier runs have left in the ledger: prices, answers to learn from, what today has cost.

Everything here blocks and raises LedgerError where the ledger cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from arbstr.core.caps import day_of
from arbstr.core.catalog import Model
from arbstr.core.forecast import Forecast
from arbstr.core.policy import Policies
from arbstr.core.record import RequestRow
from arbstr.core.usage import Usage
from arbstr.ledger.queries import Reader
from arbstr.market.catalog import remembered

DAY_MS = 86_400_000
LEARN_MS = 30 * DAY_MS
LEARN_ROWS = 20_000


class Earlier(msgspec.Struct, frozen=True):
    """`models`: the last good list by provider. `answers`: oldest first."""

    models: Mapping[str, tuple[Model, ...]]
    answers: tuple[RequestRow, ...]


def read_earlier(reader: Reader, now_ms: int) -> Earlier:
    """Read what a start needs to know what was known."""
    answers = tuple(reader.answers(now_ms - LEARN_MS, LEARN_ROWS))
    return Earlier(remembered(reader.prices()), answers)


def read_spent(reader: Reader, policies: Policies, now_ms: int) -> Mapping[str | None, int]:
    """What today (UTC) has cost in msats, by policy; None: requests without one.

    The figure of requests without a policy is what is left of the whole: all of them count against
    the cap over all policies.
    """
    since_ms = day_of(now_ms) * DAY_MS
    spent: dict[str | None, int] = {
        rule.name: reader.spent_msats(since_ms, rule.name) for rule in policies.rules
    }
    spent[None] = max(0, reader.spent_msats(since_ms) - sum(spent.values()))
    return spent


def relearn(forecast: Forecast, answers: Iterable[RequestRow]) -> None:
    """Teach `forecast` what it had learned from `answers`, oldest first."""
    for row in answers:
        if row.model is None or row.input_tokens is None:
            continue
        usage = Usage(row.input_tokens, row.cached_tokens, row.cache_write_tokens)
        forecast.learn(
            policy=row.policy,
            model=row.model,
            prompt_bytes=row.prompt_bytes,
            input_tokens=usage.prompt_tokens,
            output_tokens=row.output_tokens,
            at_ms=row.started_at,
        )

"""What is known of the world, and outlives a request: prices, failures, sizes, caps, balances."""

from __future__ import annotations

import logging
import time

from arbstr.config import Config
from arbstr.core.ask import Ask
from arbstr.core.balance import BalanceWatch
from arbstr.core.breaker import Breakers
from arbstr.core.caps import Caps
from arbstr.core.catalog import Model
from arbstr.core.conversation import Conversations
from arbstr.core.exchange import Exchange
from arbstr.core.forecast import Forecast
from arbstr.core.policy import Choice
from arbstr.core.price import is_overcharge, sats
from arbstr.core.record import RequestRow
from arbstr.core.route import Conditions, Route, plan
from arbstr.market.catalog import make_catalog

logger = logging.getLogger(__name__)


class World:
    """Lives on the event loop. Requests are routed by it, and teach it when they have ended."""

    def __init__(self, config: Config) -> None:
        self.synced: dict[str, tuple[Model, ...]] = {}
        self.catalog = make_catalog(config, self.synced)
        self.breakers = Breakers()
        self.forecast = Forecast()
        self.conversations = Conversations({p.name: p.cache_ttl_s for p in config.providers})
        self.caps = Caps(config.policies)
        self.balances: dict[str, int] = {}
        self.balance_watch = BalanceWatch()
        self.overcharges = 0
        self._config = config
        self._turns: dict[str, int] = {}

    def use(self, config: Config) -> None:
        """A reloaded config."""
        self._config = config
        self.caps.configure(config.policies)
        names = {provider.name for provider in config.providers}
        self.synced = {name: models for name, models in self.synced.items() if name in names}
        self.catalog = make_catalog(config, self.synced)

    def listed(self, provider: str, models: tuple[Model, ...]) -> None:
        """A sync has brought a good list."""
        self.synced[provider] = models
        self.catalog = make_catalog(self._config, self.synced)
        self.breakers.relist(provider)

    def plan(self, ask: Ask, choice: Choice) -> Route:
        """Route one request as things are now. Raises NoModelError."""
        now_s, now_ms = time.monotonic(), wall_ms()
        conditions = Conditions(
            open_circuits=lambda p, m: self.breakers.is_open(p, m, now_s),
            failures=self.breakers.failures,
            latency_ms=self.breakers.latency_ms,
            balance_msats=self.balances.get,
            unlisted=lambda p, m: self.breakers.is_unlisted(p, m, ask.dialect, now_s),
            round_robin=self._turn,
            warm=lambda a: self.conversations.warm(a, now_ms),
            caps=self.caps,
            now_s=now_ms / 1000,
        )
        policies = self._config.policies
        return plan(ask, choice, self.catalog, policies, self.forecast, conditions)

    def _turn(self, key: str, n: int) -> int:
        turn = self._turns.get(key, -1) + 1
        self._turns[key] = turn
        return turn % n

    def learn(self, exchange: Exchange, row: RequestRow) -> None:
        """What this answer teaches about prices, sizes and balances."""
        if row.balance_msats is not None and row.provider is not None:
            self.balances[row.provider] = row.balance_msats
        ask = exchange.ticket.ask
        for attempt in exchange.attempts:
            if attempt.failure is not None:
                failed = attempt.candidate.model
                self.conversations.failed(ask, provider=failed.provider, model=failed.id)
        answering = exchange.answering
        if answering is None or not answering.tryout.ended or not exchange.ticket.dialect.metered:
            return
        self._watch_bill(row)
        usage = answering.tryout.usage
        model = answering.candidate.model
        if usage is None or not ask.output:
            return
        self.forecast.learn(
            policy=row.policy,
            model=model.id,
            prompt_bytes=None if ask.images else ask.prompt_bytes,
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            at_ms=row.started_at,
            expected_output=answering.candidate.output_tokens,
            choices=ask.choices,
            max_output=ask.max_output,
        )
        self.conversations.answered(
            ask,
            provider=model.provider,
            model=model.id,
            now_ms=wall_ms(),
            cached_tokens=usage.cached_tokens,
        )

    def _watch_bill(self, row: RequestRow) -> None:
        billed = row.cost_msats if row.cost_source == "billed" and row.attempts == 1 else None
        if row.upstream_priced or not is_overcharge(billed, row.computed_msats):
            return
        self.overcharges += 1
        logger.warning(
            "overcharge: %s billed %s sats for %s, its prices say %s sats (request %s)",
            row.provider,
            sats(row.cost_msats),
            row.model,
            sats(row.computed_msats),
            row.id,
        )


def wall_ms() -> int:
    """UTC ms."""
    return time.time_ns() // 1_000_000

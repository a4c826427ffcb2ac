"""How long a routing decision takes, with 300 models in the catalog: for ``scripts/bench.py``.

It runs what a live request runs, with everything known: learned forecasts, breakers, balances,
caps and reservations. No test asserts on the figures.
"""

import gc
import statistics
import time
from decimal import Decimal

from arbstr.core.ask import Ask
from arbstr.core.breaker import Breakers
from arbstr.core.caps import Caps
from arbstr.core.catalog import Catalog, Model
from arbstr.core.forecast import Forecast
from arbstr.core.policy import Choice, Policies, Rule
from arbstr.core.price import Price
from arbstr.core.route import Conditions, Route, plan

MODELS = 300
TWENTY = Rule(
    "twenty",
    allowed_models=tuple(f"model-{n}" for n in range(100, 120)),
    max_msats_per_1k_output=10**9,
    max_msats_per_day=10**12,
)
ALL = Rule("all", max_msats_per_1k_output=10**9, max_msats_per_day=10**12)
POLICIES = Policies((TWENTY, ALL))


def catalog(models: int = MODELS) -> Catalog:
    """Made-up models, as a node lists them."""
    return Catalog(
        Model(
            id=f"model-{n}",
            provider="node",
            price=Price(Decimal(n + 1) / 100, Decimal(4 * n + 5) / 100, Decimal(n + 1) / 1000),
            context=128_000,
            max_output=16_384,
            tools=True,
            vision=n % 2 == 0,
            max_cost_msats=Decimal(10**6),
            aliases=(f"vendor/model-{n}",),
            source="synced",
        )
        for n in range(models)
    )


class RouteBench:
    """A world in which `decide` routes one request."""

    def __init__(self, models: int = MODELS) -> None:
        """Learn three answers of every model under both policies."""
        self._catalog = catalog(models)
        self._forecast = Forecast()
        self._breakers = Breakers()
        self._caps = Caps(POLICIES)
        self._ask = Ask("chat", "model-7", prompt_bytes=8_000, tools=True, max_output=1_000)
        for n in range(3 * models):
            for rule in POLICIES.rules:
                self._forecast.learn(
                    policy=rule.name,
                    model=f"model-{n % models}",
                    prompt_bytes=8_000,
                    input_tokens=2_000,
                    output_tokens=100 + n,
                    at_ms=n,
                )
                self._breakers.success("node", f"model-{n % models}", ttft_ms=300)

    def decide(self, rule: Rule) -> Route:
        """One decision, refusals and reasons included."""
        conditions = Conditions(
            open_circuits=lambda p, m: self._breakers.is_open(p, m, 1.0),
            failures=self._breakers.failures,
            latency_ms=self._breakers.latency_ms,
            balance_msats=lambda _provider: 10**9,
            unlisted=lambda p, m: self._breakers.is_unlisted(p, m, "chat", 1.0),
            caps=self._caps,
            now_s=1.8e9,
        )
        choice = Choice(rule, "header")
        return plan(self._ask, choice, self._catalog, POLICIES, self._forecast, conditions)

    def median_us(self, rule: Rule, rounds: int = 500) -> float:
        """The median of so many decisions, microseconds."""
        times = []
        gc.collect()
        for _ in range(rounds):
            start = time.perf_counter_ns()
            self.decide(rule)
            times.append(time.perf_counter_ns() - start)
        return statistics.median(times) / 1000

"""``route``: how long the decision takes, with 300 models in the catalog."""

from __future__ import annotations

from statistics import median

from tests.bench.options import Options
from tests.bench.report import Verdict, show
from tests.route_bench import ALL, MODELS, TWENTY, RouteBench


def route(options: Options) -> list[Verdict]:
    """The median of so many decisions, in the round where it was median."""
    bench = RouteBench()
    count = options.count or 500
    took = {
        rule.name: median(bench.median_us(rule, count) for _ in range(options.rounds))
        for rule in (TWENTY, ALL)
    }
    rows = [
        (f"a policy that allows 20 of {MODELS} models", f"{took[TWENTY.name]:.0f} µs"),
        (f"a policy that allows all {MODELS}", f"{took[ALL.name]:.0f} µs"),
    ]
    show(f"One decision (medians of {options.rounds} rounds of {count})", ("", "takes"), rows)
    return [
        Verdict("decide among 20 of 300 models", took[TWENTY.name], 200, "µs"),
        Verdict("decide among 300 models", took[ALL.name] / 1000, 1.5, "ms"),
    ]

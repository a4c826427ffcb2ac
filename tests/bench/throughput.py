"""``proxy`` and ``body``: plain answers, many at once and one after the other, small and large."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench import load, wire
from tests.bench.contenders import ADDON, MITMDUMP, SERVE, running
from tests.bench.options import Options, turns
from tests.bench.peers import LITELLM, PORTKEY
from tests.bench.report import TIMES, Verdict, show

CONNECTIONS = (1, 8, 64)
BODY_BYTES = (1 << 10, 64 << 10, 512 << 10, 1_500_000, 8 << 20)
_ASKS = 200
"""Sequential requests a round."""
_BODY_ASKS = 10

type Series = Mapping[str, Sequence[float]]


def proxy(options: Options) -> list[Verdict]:
    """Throughput with 1, 8 and 64 connections; time of one request after the other."""
    rates: dict[int, dict[str, list[float]]] = {n: defaultdict(list) for n in CONNECTIONS}
    p50: dict[str, list[float]] = defaultdict(list)
    p99: dict[str, list[float]] = defaultdict(list)
    content = wire.body()
    with running(options.names, options.folder, options.peers) as contenders:
        for contender in turns(contenders, options.rounds):
            for n, found in rates.items():
                done = load.run(contender, connections=n, seconds=options.seconds, content=content)
                found[contender.name].append(done.per_second)
            sent = wire.request(contender.port, content, contender.headers)
            with wire.Line(contender.port) as line:
                took = [line.time_ask(sent) for _ in range(options.count or _ASKS)]
            p50[contender.name].append(median(took))
            p99[contender.name].append(load.percentile(took))
    rows = [
        (
            name,
            *(f"{median(rates[n][name]):,.0f}/s {_ratio(rates[n], name)}" for n in CONNECTIONS),
            f"{median(p50[name]):.2f} ms {_ratio(p50, name)}",
            f"{median(p99[name]):.2f} ms {_ratio(p99, name)}",
        )
        for name in options.names
    ]
    heads = ("", *(f"{n} conn." for n in CONNECTIONS), "sequential p50", "p99")
    show(f"Plain answers (medians of {options.rounds} rounds; {TIMES} bare mitmdump)", heads, rows)
    return _proxy_verdicts(rates[8], p50)


def _proxy_verdicts(rate: Series, p50: Series) -> list[Verdict]:
    asked: list[tuple[str, Series, str, str, float, bool]] = [
        ("throughput, 8 connections", rate, SERVE, MITMDUMP, 1.4, True),
        ("throughput, 8 connections", rate, ADDON, MITMDUMP, 0.85, True),
        ("sequential p50", p50, SERVE, MITMDUMP, 0.75, False),
        ("throughput, 8 connections", rate, SERVE, LITELLM, 10, True),
        ("throughput, 8 connections", rate, SERVE, PORTKEY, 1, True),
    ]
    return [
        Verdict(f"{what}: {mine} / {theirs}", ratio(series, mine, theirs), limit, at_least=least)
        for what, series, mine, theirs, limit, least in asked
        if mine in series and theirs in series
    ]


def ratio(series: Series, mine: str, theirs: str) -> float:
    """The median over the rounds of one contender's figure over another's in the same round."""
    return median(a / b for a, b in zip(series[mine], series[theirs], strict=True))


def _ratio(series: Series, name: str) -> str:
    return f"({ratio(series, name, MITMDUMP):.2f})" if MITMDUMP in series else ""


def body(options: Options) -> list[Verdict]:
    """Time of one request after the other, by the size of its body."""
    took: dict[int, dict[str, list[float]]] = {size: defaultdict(list) for size in BODY_BYTES}
    with running(options.names, options.folder, options.peers) as contenders:
        for size, found in took.items():
            content = wire.body(filler_bytes=size)
            for contender in turns(contenders, options.rounds):
                sent = wire.request(contender.port, content, contender.headers)
                with wire.Line(contender.port) as line:
                    asks = [line.time_ask(sent) for _ in range(options.count or _BODY_ASKS)]
                found[contender.name].append(median(asks))
    rows = [
        (
            name,
            *(f"{median(took[n][name]):,.1f} ms {_ratio(took[n], name)}" for n in BODY_BYTES),
        )
        for name in options.names
    ]
    heads = ("", *(f"{size / 1000:,.0f} KB" for size in BODY_BYTES))
    show(f"Request bodies (medians of {options.rounds} rounds; {TIMES} bare mitmdump)", heads, rows)
    large = took[1_500_000]
    return [
        Verdict(f"1.5 MB body: {name} / {MITMDUMP}", ratio(large, name, MITMDUMP), 1.3)
        for name in (SERVE, ADDON)
        if name in large and MITMDUMP in large
    ]

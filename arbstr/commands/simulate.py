"""``arbstr simulate``: what past requests would have cost, beside simpler and wiser routers."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from arbstr.commands.failure import CommandError, complain
from arbstr.commands.memory import last_lists
from arbstr.commands.models import named_rule
from arbstr.commands.progress import Bar
from arbstr.commands.screen import Screen
from arbstr.commands.settings import load_config, reading
from arbstr.commands.span import when
from arbstr.config import Config
from arbstr.core.catalog import Catalog
from arbstr.core.policy import Rule
from arbstr.core.simulate import Simulation, simulate, simulated_models
from arbstr.core.trace import (
    Row,
    Workload,
    ledger_outputs,
    read_ledger,
    read_prices,
    read_trace,
    read_workload,
    trace_outputs,
)
from arbstr.ledger.queries import Filters
from arbstr.market.catalog import make_catalog
from arbstr.report import (
    Column,
    Value,
    number_column,
    render,
    show_count,
    show_sats,
    show_text,
    text_column,
)
from arbstr.report import Row as Shown

_SHOWN_MODELS = 1


class _Past(msgspec.Struct, frozen=True):
    """The requests to replay. `multipliers`: of a trace, None for the user's own ledger."""

    rows: Sequence[Row]
    seed: int
    requested: str | None = None
    workload: Workload | None = None
    is_trace: bool = False


def run(args: argparse.Namespace) -> int:
    """Replay under one policy, or under each, and show what every way of choosing costs."""
    config = load_config(args, mock=args.mock)
    past = _past(args, config)
    if not past.rows:
        complain("nothing to simulate: no request with known tokens")
        return 0
    catalog = _catalog(args.prices, config)
    found = [_simulated(rule, past, catalog) for rule in _rules(args.policy, config, past.workload)]
    screen = Screen(sys.stdout, os.environ)
    if args.format == "table":
        for n, simulation in enumerate(found):
            screen.write("\n" * bool(n))
            _show(screen, simulation, past)
    else:
        rows = [row for simulation in found for row in _rows(simulation, past.seed)]
        screen.write(render(rows, _columns(args.format), args.format))
    return 0


def _past(args: argparse.Namespace, config: Config) -> _Past:
    workload = None if args.workload is None else _read(args.workload, read_workload)
    if args.trace is None:
        rows = _from_ledger(args.since, config)
        return _Past(rows, args.seed, args.requested, workload)
    found = [row for path in args.trace for row in _read(path, _trace)]
    random.Random(args.seed).shuffle(found)  # noqa: S311 - a trace is shuffled, not encrypted
    return _Past(found, args.seed, args.requested, workload, is_trace=True)


def _trace(document: bytes) -> Sequence[Row]:
    return read_trace(document.decode("utf-8-sig").splitlines())


def _from_ledger(since: str, config: Config) -> Sequence[Row]:
    since_ms = when("--since", since)
    with reading(config.database.path) as reader:
        return read_ledger(reader.export(Filters(since_ms=since_ms)))


def _catalog(prices: Path | None, config: Config) -> Catalog:
    if prices is not None:
        return Catalog(_read(prices, read_prices))
    return make_catalog(config, last_lists(config))


def _read[T](path: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"{path}: {error}") from None


def _rules(policy: str | None, config: Config, workload: Workload | None) -> Iterator[Rule]:
    """The policies to replay under: the workload's where there is one, else the config's."""
    if workload is None:
        yield from config.policies.rules if policy is None else (named_rule(config, policy),)
        return
    if policy is not None and policy not in workload.policies:
        known = ", ".join(workload.policies)
        raise CommandError(f"no policy {policy!r} in the workload; known: {known}")
    for name, models in workload.policies.items():
        if policy in (None, name):
            yield Rule(name, allowed_models=models)


def _simulated(rule: Rule, past: _Past, catalog: Catalog) -> Simulation:
    """Replay under one policy; the same seed makes the same noise under each."""
    asked = {past.requested} if past.requested else {row.requested for row in past.rows}
    models = simulated_models(catalog, rule, sorted(name for name in asked if name))
    if past.is_trace:
        multipliers = {} if past.workload is None else past.workload.output_multiplier
        chance = random.Random(past.seed)  # noqa: S311 - the same
        outputs = trace_outputs(past.rows, models, multipliers, chance=chance)
    else:
        outputs = ledger_outputs(past.rows, models)
    bar = Bar(f"simulating {rule.name}")
    try:
        return simulate(past.rows, outputs, models, rule, requested=past.requested, progress=bar)
    except ValueError as error:
        raise CommandError(str(error)) from None
    finally:
        bar.clear()


def _show(screen: Screen, simulation: Simulation, past: _Past) -> None:
    seed = f" · seed {past.seed}" if past.is_trace else ""
    screen.line(f"policy {simulation.policy} · {simulation.rows:,} requests{seed}")
    screen.line()
    screen.write(render(_rows(simulation, past.seed), _columns("table"), "table"))
    if simulation.skipped:
        screen.line(f"left out: {simulation.skipped:,} requests that no allowed model can do")
    if simulation.assumed:
        names = ", ".join(simulation.assumed)
        screen.line(f"taken to write as much as the model that answered: {show_text(names)}")


def _rows(simulation: Simulation, seed: int) -> list[Shown]:
    first = [t for t in simulation.totals if t.kind != "alone"]
    alone = [t for t in simulation.totals if t.kind == "alone"]
    return [
        {
            "policy": simulation.policy,
            "kind": total.kind,
            "router": total.name,
            "msats": total.msats,
            "ratio": total.ratio,
            "requests": simulation.rows,
            "skipped": simulation.skipped,
            "models": _models(total.requests, simulation.rows),
            "seed": seed,
        }
        for total in (*first, *sorted(alone, key=lambda t: t.msats))
    ]


def _models(requests: Sequence[tuple[str, int]], rows: int) -> str:
    """Who answered how much of it."""
    shown = [f"{model} {100 * n / max(1, rows):.0f} %" for model, n in requests[:_SHOWN_MODELS]]
    rest = len(requests) - _SHOWN_MODELS
    return ", ".join(shown) + (f", {rest} more" if rest > 0 else "")


def _show_ratio(value: Value) -> str:
    return f"{float(value):.3f}" if isinstance(value, int | float) else ""


def _columns(form: str) -> tuple[Column, ...]:
    wide = form != "table"
    columns = (
        text_column("policy", "policy"),
        text_column("kind", "kind"),
        text_column("router", "router"),
        number_column("msats", "sats", show_sats),
        number_column("ratio", "x known means", _show_ratio),
        text_column("models", "answered by"),
        number_column("requests", "requests", show_count),
        number_column("skipped", "skipped", show_count),
        number_column("seed", "seed", show_count),
    )
    hidden = () if wide else ("policy", "kind", "requests", "skipped", "seed")
    return tuple(column for column in columns if column.key not in hidden)

"""``arbstr models``: every model, its price in sats, and where that price comes from."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence

from arbstr.commands.failure import CommandError, UsageError, complain
from arbstr.commands.memory import last_lists
from arbstr.commands.screen import Screen
from arbstr.commands.settings import load_config
from arbstr.config import Config
from arbstr.core.catalog import Catalog, Model
from arbstr.core.policy import Rule
from arbstr.core.shortlist import Refusal, shortlist
from arbstr.market.catalog import make_catalog
from arbstr.report import (
    Column,
    Row,
    Value,
    number_column,
    rate_column,
    render,
    show_age,
    show_sats,
    show_tokens,
    text_column,
    time_column,
)


def run(args: argparse.Namespace) -> int:
    """Show the models, after a sync or a write where one is asked for."""
    if args.mock and (args.sync or args.write):
        raise UsageError("--sync and --write are for real providers, not for --mock")
    config = load_config(args, mock=args.mock)
    code = 0
    if args.learned:
        from arbstr.commands.learned import show_learned  # noqa: PLC0415 - reads the whole ledger

        return show_learned(args, config)
    lists: Mapping[str, tuple[Model, ...]] = last_lists(config)
    if args.sync:
        from arbstr.commands.sync import sync  # noqa: PLC0415 - slow to load, and needed here alone

        synced = sync(config, lists)
        lists, code = synced.lists, 0 if synced.complete else 1
    if args.write:
        from arbstr.commands.write import write_models  # noqa: PLC0415 - the same

        # What the providers say: the file's own prices are already there.
        listed = Catalog(model for models in lists.values() for model in models)
        write_models(config, listed, args.write)
        return code
    _show(args, config, make_catalog(config, lists))
    return code


def named_rule(config: Config, name: str) -> Rule:
    """The policy `name`. Raises CommandError, naming those there are."""
    rules = {rule.name: rule for rule in config.policies.rules}
    if name not in rules:
        known = ", ".join(rules) or "there are none"
        raise CommandError(f"no policy {name!r} in {config.path}; known: {known}")
    return rules[name]


def _show(args: argparse.Namespace, config: Config, catalog: Catalog) -> None:
    models: Sequence[Model] = catalog.models
    refusals: Sequence[Refusal] = ()
    if args.policy is not None:
        short = shortlist(catalog, named_rule(config, args.policy))
        models, refusals = short.models, short.refusals
    screen = Screen(sys.stdout, os.environ)
    if not models and args.format == "table":
        screen.line(_nothing(args.policy, catalog))
    else:
        rows = [row(m) for m in sorted(models, key=_by_rate)]
        screen.write(render(rows, columns(rows, args.format), args.format))
    for refusal in refusals:
        complain(f"policy {args.policy} keeps out {refusal.model}: {refusal.reason}")


def _nothing(policy: str | None, catalog: Catalog) -> str:
    if catalog.models:
        return f"policy {policy} allows none of the {len(catalog.models)} models known"
    return "no models known yet: run `arbstr models --sync`, or start arbstr"


def _by_rate(model: Model) -> tuple[bool, float, str, str]:
    """Cheapest output first; without a price last."""
    return (model.price is None, model.output_rate, model.id, model.provider)


def row(model: Model) -> Row:
    """One model as raw values: rates in sats per 1,000 tokens, the fee in msats a request."""
    price = model.price
    return {
        "model": model.id,
        "provider": model.provider,
        "input_rate": None if price is None else float(price.input),
        "cached_input_rate": None if price is None or price.cached is None else float(price.cached),
        "cache_write_rate": None
        if price is None or price.cache_write is None
        else float(price.cache_write),
        "output_rate": None if price is None else float(price.output),
        "base_fee_msats": None if price is None else math.ceil(price.base_fee_msats),
        "context": model.context,
        "max_output": model.max_output,
        "tools": model.tools,
        "vision": model.vision,
        "json": model.json,
        "tier": model.tier,
        "source": model.source,
        "listed_at": model.listed_ms,
    }


def columns(rows: Sequence[Row], form: str) -> tuple[Column, ...]:
    """Few for a person, and those that say something; all of them for a program."""
    now_ms = time.time_ns() // 1_000_000

    def age(value: Value) -> str:
        return show_age(now_ms - value) if isinstance(value, int) else ""

    def does(value: Value) -> str:
        return "" if value is None else "yes" if value else "no"

    every = (
        text_column("model", "model"),
        text_column("provider", "provider"),
        rate_column("input_rate", "in/1k", rows),
        rate_column("cached_input_rate", "cached/1k", rows),
        rate_column("cache_write_rate", "write/1k", rows),
        rate_column("output_rate", "out/1k", rows),
        number_column("base_fee_msats", "fee", show_sats),
        number_column("context", "context", show_tokens),
        number_column("max_output", "max out", show_tokens),
        Column("tools", "tools", does),
        Column("vision", "vision", does),
        Column("json", "json", does),
        text_column("tier", "tier"),
        text_column("source", "source"),
        time_column("listed_at", "age")._replace(show=age),
    )
    if form in ("json", "csv"):
        return every
    hidden = {"cache_write_rate", "max_output", "tools", "vision", "json"}
    hidden |= {key for key in ("base_fee_msats", "tier") if not any(r[key] for r in rows)}
    return tuple(column for column in every if column.key not in hidden)

"""``arbstr requests ID``: one request in full: what it cost, every attempt, and the choice."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import cast

from arbstr.commands.failure import CommandError, UsageError
from arbstr.commands.memory import read_memory
from arbstr.commands.route import route_tables
from arbstr.commands.screen import Screen
from arbstr.commands.settings import load_config
from arbstr.config.sellers import MOCK_NAME
from arbstr.core.ask import Ask
from arbstr.core.conditions import Conditions
from arbstr.core.explain import explain
from arbstr.core.policy import AUTO, MODEL_PREFIX, Choice, PolicySource
from arbstr.core.price import is_overcharge
from arbstr.core.record import AttemptRow, RequestRow
from arbstr.core.route import NoModelError, Route, plan
from arbstr.ledger.queries import Reader
from arbstr.report import (
    Row,
    json_text,
    number_column,
    render,
    show_count,
    show_sats,
    show_seconds,
    show_text,
    show_time,
    show_tokens,
    text_column,
)
from arbstr.stats import request_json


def show_request(args: argparse.Namespace, reader: Reader, id_: int, screen: Screen) -> int:
    """Show the request `id_`, which is there."""
    known = reader.request(id_)
    if known is None:
        raise CommandError(f"no request {id_}")
    row, attempts = known
    chosen = _chosen_again(args, row)
    if args.format == "json":
        told = None if isinstance(chosen, str) else explain(*chosen)
        screen.write(json_text({**request_json(row, attempts), "route": told}))
        return 0
    if args.format != "table":
        raise UsageError(f"one request is shown as table or json, not as {args.format}")
    for name, text in _facts(row):
        screen.line(f"{screen.paint(f'{name:<10}', 'dim')} {text}")
    if attempts:
        screen.line()
        screen.write(_attempts_table(attempts))
    screen.line()
    if isinstance(chosen, str):
        screen.line(f"the choice cannot be made again: {chosen}")
    else:
        screen.line("the choice, made again with today's prices and what was known before it:")
        screen.line()
        screen.write(route_tables(chosen[1]))
    return 0


def _facts(row: RequestRow) -> Iterator[tuple[str, str]]:
    """What there is to say, a line each; nothing of what is not known."""
    yield "request", f"{row.id}, {show_time(row.started_at)}"
    client = "" if row.client is None else f" by {show_text(row.client)}"
    stream = ", streamed" if row.stream else ""
    yield "asked", f"{show_text(row.requested_model)} at {row.endpoint}{client}{stream}"
    if row.policy is not None:
        yield "policy", f"{row.policy} (by {row.policy_source})"
    status = "" if row.status is None else f" {row.status}"
    answered = "" if row.model is None else f", {show_text(row.model)} at {row.provider}"
    yield "outcome", f"{row.outcome}{status}{answered}"
    if row.error_message is not None or row.error_code is not None:
        parts = [show_text(p) for p in (row.error_code, row.error_message) if p is not None]
        yield "error", ": ".join(parts)
    yield "tokens", _tokens(row)
    yield "cost", _cost(row)
    if row.latency_ms is not None:
        first = "" if row.ttft_ms is None else f", first token after {show_seconds(row.ttft_ms)}"
        yield "time", f"{show_seconds(row.latency_ms)}{first}"
    if row.balance_msats is not None:
        yield "balance", f"{show_sats(row.balance_msats)} sats were left"


def _tokens(row: RequestRow) -> str:
    if row.input_tokens is None and row.output_tokens is None:
        return "unknown"
    parts = [f"in {show_count(row.input_tokens)}"]
    if row.cached_tokens:
        parts.append(f"from a cache {row.cached_tokens:,}")
    if row.cache_write_tokens:
        parts.append(f"into a cache {row.cache_write_tokens:,}")
    reasoning = f" (reasoning {row.reasoning_tokens:,})" if row.reasoning_tokens else ""
    return ", ".join((*parts, f"out {show_count(row.output_tokens)}{reasoning}"))


def _cost(row: RequestRow) -> str:
    if row.cost_msats is None:
        cost = "unknown"
    else:
        cost = f"{show_sats(row.cost_msats)} sats {row.cost_source}"
    parts = [cost]
    if row.computed_msats not in (None, row.cost_msats):
        parts.append(f"by its prices {show_sats(row.computed_msats)}")
    if row.estimated_msats is not None:
        parts.append(f"expected {show_sats(row.estimated_msats)}")
    if row.baseline_msats is not None and row.cost_msats is not None:
        parts.append(f"the requested model: {show_sats(row.baseline_msats)}")
    if row.upstream_priced:
        parts.append("billed at the upstream's own price")
    elif row.attempts == 1 and is_overcharge(row.cost_msats, row.computed_msats):
        parts.append("OVERCHARGED")
    return "; ".join(parts)


def _attempts_table(attempts: Sequence[AttemptRow]) -> str:
    rows: list[Row] = [
        {
            "n": a.n,
            "model": a.model,
            "provider": a.provider,
            "outcome": " ".join(
                str(p) for p in (a.outcome, a.status, a.error_code) if p is not None
            ),
            "input_tokens": a.input_tokens,
            "output_tokens": a.output_tokens,
            "cost_msats": a.cost_msats,
            "ttft_ms": a.ttft_ms,
            "latency_ms": a.latency_ms,
        }
        for a in attempts
    ]
    columns = (
        number_column("n", "#", show_count),
        text_column("model", "model"),
        text_column("provider", "provider"),
        text_column("outcome", "outcome"),
        number_column("cost_msats", "sats", show_sats),
        number_column("input_tokens", "in", show_tokens),
        number_column("output_tokens", "out", show_tokens),
        number_column("ttft_ms", "first", show_seconds),
        number_column("latency_ms", "all", show_seconds),
    )
    return render(rows, columns, "table")


def _chosen_again(args: argparse.Namespace, row: RequestRow) -> tuple[Ask, Route] | str:
    """Route it as its row describes it, or say why that is not possible.

    The row holds no body: tools, images and limits of the request are not known any more.
    """
    if row.requested_model is None:
        return "it named no model"
    mock = args.mock or row.provider == MOCK_NAME
    try:
        config = load_config(args, mock=mock)
    except CommandError:
        return "the config has errors: see `arbstr check`"
    rules = {rule.name: rule for rule in config.policies.rules}
    if row.policy is not None and row.policy not in rules:
        return f"there is no policy {row.policy} any more"
    any_model = row.requested_model in AUTO or row.requested_model.startswith(MODEL_PREFIX)
    choice = Choice(
        None if row.policy is None else rules[row.policy],
        cast("PolicySource", row.policy_source or "none"),
        any_model,
    )
    ask = Ask("chat", row.requested_model, stream=row.stream, prompt_bytes=row.prompt_bytes or 0)
    memory = read_memory(config, before_ms=row.started_at)
    try:
        route = plan(ask, choice, memory.catalog, config.policies, memory.forecast, Conditions())
    except NoModelError as error:
        return error.message
    return ask, route

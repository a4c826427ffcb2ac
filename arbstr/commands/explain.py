"""``arbstr explain``: how a chat request would be routed, by the same code that routes live."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from arbstr.commands.failure import CommandError, UsageError, complain
from arbstr.commands.memory import Memory, read_memory
from arbstr.commands.route import candidate_rows, refusal_rows, route_columns, route_tables
from arbstr.commands.screen import Screen
from arbstr.commands.settings import load_config
from arbstr.config import Config
from arbstr.core.ask import Ask
from arbstr.core.body import BadBodyError, read_members
from arbstr.core.conditions import Conditions
from arbstr.core.dialects import CHAT
from arbstr.core.explain import explain, explain_refusal
from arbstr.core.policy import Selector, UnknownPolicyError
from arbstr.core.route import NoModelError, Route, plan
from arbstr.report import Format, json_text, render


def run(args: argparse.Namespace) -> int:
    """Route the body as of now and show every candidate and every refusal. Sends nothing."""
    config = load_config(args, mock=args.mock)
    ask = _ask(args.file, config)
    memory = read_memory(config)
    screen = Screen(sys.stdout, os.environ)
    try:
        route = _route(ask, args.policy, config, memory)
    except UnknownPolicyError as error:
        raise UsageError(str(error)) from None
    except NoModelError as error:
        _show_refusals(error, args.format, screen)
        complain(error.message)
        return 1
    _show(ask, route, args.format, screen)
    return 0


def _ask(file: str, config: Config) -> Ask:
    """Read the body in `file`, or on standard input for ``-``."""
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    try:
        return CHAT.read_ask(read_members(body, max_depth=config.limits.json_depth))
    except BadBodyError as error:
        raise CommandError(f"{'standard input' if file == '-' else file}: {error}") from None


def _route(ask: Ask, policy: str | None, config: Config, memory: Memory) -> Route:
    choice = Selector(config.policies).choose(
        header=policy, model=ask.model, text=ask.last_user_text, user_agent="", key=""
    )
    conditions = Conditions(caps=memory.caps, now_s=time.time())
    return plan(ask, choice, memory.catalog, config.policies, memory.forecast, conditions)


def _show(ask: Ask, route: Route, form: Format, screen: Screen) -> None:
    if form == "json":
        screen.write(json_text(explain(ask, route)))
        return
    if form == "table":
        for line in _heading(ask, route):
            screen.line(line)
        screen.line()
        screen.write(route_tables(route))
        return
    rows = [*candidate_rows(route.candidates), *refusal_rows(route.refusals)]
    screen.write(render(rows, route_columns(rows, form), form))


def _show_refusals(error: NoModelError, form: Format, screen: Screen) -> None:
    rows = refusal_rows(error.refusals)
    if form == "json":
        screen.write(json_text(explain_refusal(error)))
    elif rows:
        screen.write(render(rows, route_columns(rows, form), form))


def _heading(ask: Ask, route: Route) -> list[str]:
    rule = route.choice.rule
    if rule is None:
        policy = "none: the requested model, then its substitutes"
    else:
        policy = f"{rule.name} (by {route.choice.source}), {rule.strategy}"
    wants = [f"{ask.prompt_bytes:,} bytes"]
    if ask.max_output is not None:
        wants.append(f"at most {ask.max_output:,} tokens out")
    wants += [name for name in ("stream", "tools", "json_mode") if getattr(ask, name)]
    if ask.images:
        wants.append(f"{ask.images} images")
    return [f"requested  {route.requested}, {', '.join(wants)}", f"policy     {policy}"]

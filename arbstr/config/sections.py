"""The sections of a config file, each read into its value.

What is wrong is noted (`arbstr.config.table.Notes`) and reading goes on, so a value made from a
wrong section is never used: `arbstr.config.load` raises in the end.
"""

from __future__ import annotations

from pathlib import Path

from arbstr.config import addresses, parsers
from arbstr.config.settings import Database, Fallback, Limits, Server
from arbstr.config.table import Notes, Table, shown
from arbstr.core.catalog import TIERS
from arbstr.core.policy import (
    AUTO,
    NO_POLICY,
    ClientRule,
    Policies,
    Rule,
    Strategy,
)

_MAX_DAYS = 36_500
_MAX_ATTEMPTS = 100
_MAX_COUNT = 10_000_000
_MAX_DEPTH = 1_000
_STRATEGIES: tuple[Strategy, ...] = ("lowest_cost", "lowest_latency", "round_robin")
_DEFAULT_STRATEGY: Strategy = "lowest_cost"
_STRATEGY_ALIASES: dict[str, Strategy] = {"cheapest": "lowest_cost"}
_RESERVED = (NO_POLICY, *AUTO)


def read_server(table: Table, notes: Notes) -> Server:
    """Read ``[server]``. Listening beyond loopback needs a token, or a word that it does not."""
    default = Server()
    address = (default.listen_host, default.listen_port)
    host, port = table.get("listen", addresses.listen, address)
    server = Server(
        listen_host=host,
        listen_port=port,
        auth_token=table.optional("auth_token", parsers.secret),
        allowed_origins=table.all_of("allowed_origins", addresses.origin),
        allowed_hosts=table.all_of("allowed_hosts", addresses.host_name),
        allow_lan_without_token=table.get("allow_lan_without_token", parsers.flag, default=False),
    )
    table.ignored("rate_limit_rps", "arbstr bounds requests by limits.concurrent")
    table.finish()
    if "auth_token" not in table and not addresses.is_loopback(host):
        where, open_to_all = table.path("listen"), f"{shown(host)} lets other machines in"
        if server.allow_lan_without_token:
            notes.warning(where, f"{open_to_all}, without a token: each can spend your sats")
        else:
            notes.problem(
                where,
                f"{open_to_all} and there is no token; "
                'set server.auth_token = "${ARBSTR_TOKEN}" and that variable to a long random '
                "text, or listen on 127.0.0.1, or say server.allow_lan_without_token = true",
            )
    if table.is_literal("auth_token"):
        notes.key_in_file(table.path("auth_token"), 'auth_token = "${ARBSTR_TOKEN}"')
    return server


def read_database(table: Table, notes: Notes, beside: Path, *, mock: bool) -> Database:
    """Read ``[database]``; a relative path starts at `beside`, the folder of the config file.

    In mock mode the ledger is another file, so that play money is never added to real money.
    """
    written = table.get("path", parsers.text, "arbstr.db")
    path = _database_path(written, beside)
    if path is None:
        notes.problem(
            table.path("path"), f"{shown(written)} is no path of a file; allowed: the ledger's path"
        )
        path = beside / "arbstr.db"
    if mock:
        path = path.with_name(f"{path.stem}-mock.db")
    days = table.get("retention_days", parsers.whole(0, _MAX_DAYS), 0)
    table.finish()
    return Database(path, days)


def _database_path(written: str, beside: Path) -> Path | None:
    """Make the path absolute; None for a folder, and for ``:memory:``: no restart survives it."""
    try:
        path = beside / Path(written).expanduser()
        return None if path.name == ":memory:" or path.is_dir() else path
    except (OSError, RuntimeError):
        return None


def read_fallback(table: Table) -> tuple[Fallback, dict[str, tuple[str, ...]]]:
    """Read ``[fallback]``, and ``[fallback.models]``: model → substitutes."""
    default, time = Fallback(), parsers.seconds()
    fallback = Fallback(
        table.get("max_attempts", parsers.whole(1, _MAX_ATTEMPTS), default.max_attempts),
        table.get("first_token_timeout", time, default.first_token_s),
        table.get("idle_timeout", time, default.idle_s),
        table.get("total_timeout", time, default.total_s),
        table.get("shutdown_grace", parsers.seconds(zero=True), default.grace_s),
    )
    models = table.table("models")
    table.finish()
    return fallback, {model: models.all_of(model, parsers.text) for model in models}


def read_limits(table: Table) -> Limits:
    """Read ``[limits]``."""
    default, count = Limits(), parsers.whole(1, _MAX_COUNT)
    limits = Limits(
        header_bytes=table.get("header_bytes", parsers.size, default.header_bytes),
        body_bytes=table.get("body_bytes", parsers.size, default.body_bytes),
        json_depth=table.get("json_depth", parsers.whole(1, _MAX_DEPTH), default.json_depth),
        messages=table.get("messages", count, default.messages),
        concurrent=table.get("concurrent", count, default.concurrent),
        request_seconds=table.get("request_seconds", parsers.seconds(), default.request_seconds),
        event_bytes=table.get("event_bytes", parsers.size, default.event_bytes),
        answer_bytes=table.get("answer_bytes", parsers.size, default.answer_bytes),
    )
    table.finish()
    return limits


def read_policies(
    table: Table, clients: Table, notes: Notes, substitutes: dict[str, tuple[str, ...]]
) -> Policies:
    """Read ``[policies]``, its rules, and ``[clients]``, which name policies too."""
    default = table.optional("default", parsers.text)
    strategy = table.get("default_strategy", _strategy, _DEFAULT_STRATEGY)
    max_msats_per_day = table.optional("max_sats_per_day", parsers.cap_msats)
    tables = table.tables("rules")
    table.finish()
    rules = [_read_rule(rule, strategy) for rule in tables]
    notes.twice([(t.path("name"), r.name or None) for t, r in zip(tables, rules, strict=True)])
    known = tuple(rule.name for rule in rules if rule.name)
    if default is not None and default not in known:
        notes.problem(table.path("default"), _unknown_policy(default, known))
    return Policies(
        rules=tuple(rules),
        default=default,
        default_strategy=strategy,
        clients=_read_clients(clients, notes, known),
        substitutes=substitutes,
        max_msats_per_day=max_msats_per_day,
    )


def _read_rule(table: Table, strategy: Strategy) -> Rule:
    """Read one ``[[policies.rules]]``; its name is "" where it has none."""
    rule = Rule(
        name=table.required("name", _policy_name, "a text, the name of the policy") or "",
        allowed_models=table.all_of("allowed_models", parsers.text),
        strategy=table.get("strategy", _strategy, strategy),
        max_msats_per_1k_output=table.optional("max_sats_per_1k_output", parsers.cap_msats),
        max_msats_per_request=table.optional("max_sats_per_request", parsers.cap_msats),
        max_msats_per_day=table.optional("max_sats_per_day", parsers.cap_msats),
        lower_max_tokens=table.get("lower_max_tokens", parsers.flag, default=False),
        min_tier=table.optional("min_tier", parsers.one_of(TIERS)),
        fallback=table.get("fallback", parsers.flag, default=True),
        keywords=table.all_of("keywords", parsers.text),
    )
    table.finish()
    return rule


def _read_clients(table: Table, notes: Notes, known: tuple[str, ...]) -> tuple[ClientRule, ...]:
    """Read ``[clients]``: pattern → policy. Patterns match in any case, so they differ in more."""
    rules = []
    for pattern in table:
        policy = table.optional(pattern, parsers.text)
        if policy is None:
            continue
        if policy not in known:
            notes.problem(table.path(pattern), _unknown_policy(policy, known))
        rules.append(ClientRule(pattern, policy))
    notes.twice([(table.path(rule.pattern), rule.pattern.lower()) for rule in rules])
    return tuple(rules)


_strategy = parsers.one_of(_STRATEGIES, _STRATEGY_ALIASES)


def _policy_name(value: object) -> str:
    name = parsers.name(value)
    if name in _RESERVED:
        raise parsers.refusal("means something else", "any name but none and auto")
    return name


def _unknown_policy(name: str, known: tuple[str, ...]) -> str:
    allowed = ", ".join(known) or "none, there are no [[policies.rules]]"
    return parsers.but(f"{shown(name)} is no policy{parsers.near(name, known)}", allowed)

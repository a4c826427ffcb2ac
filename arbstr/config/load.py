"""From a file to a `Config`, or to all that is wrong with it."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

from arbstr.config.sections import (
    read_database,
    read_fallback,
    read_limits,
    read_policies,
    read_server,
)
from arbstr.config.sellers import mock_provider, read_sellers, refuse_empty_rules
from arbstr.config.settings import Config, Database, Provider, Server
from arbstr.config.table import Notes, Table, line
from arbstr.core.catalog import Model

_PLACE = re.compile(r" \((at line \d+, column \d+|at end of document)\)$")
_OF_THE_RUST_ARBSTR = {
    "logging": "how much is logged is set on the command line, requests go to the ledger",
    "routing": "models are chosen by their price and by policies.rules",
    "vault": "nobody is billed through arbstr",
}


class ConfigError(Exception):
    """A config that cannot be used. `problems`: all of them, one printable line each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        """`problems`: each ``file: key path: what is wrong; allowed: …``."""
        self.problems = problems
        super().__init__("\n".join(problems))


def default_path(env: Mapping[str, str], beside: Path) -> Path:
    """Where the config is if nobody says: ``$ARBSTR_CONFIG``, else ``config.toml`` in `beside`."""
    return Path(env.get("ARBSTR_CONFIG") or beside / "config.toml")


def load(path: Path, env: Mapping[str, str], *, mock_url: str | None = None) -> Config:
    """Read the config at `path`. `env`: for ``${VAR}`` and for the providers' keys.

    `mock_url`: the mock node's base URL. It takes the place of all providers and static models,
    before any ``${VAR}`` of theirs is looked at, and the ledger is another file.

    Raises ConfigError with every problem there is, and nothing else.
    """
    notes = Notes(str(path), env)
    document, mode = _document(path)
    root = Table(notes, "", document)
    server = read_server(root.table("server"), notes)
    mock = mock_url is not None
    beside = path.absolute().parent
    database = read_database(root.table("database"), notes, beside, mock=mock)
    fallback, substitutes = read_fallback(root.table("fallback"))
    limits = read_limits(root.table("limits"))
    before = len(notes.problems)
    providers, models = _sellers(root, notes, mock_url)
    sellers_are_known = len(notes.problems) == before
    policies = read_policies(root.table("policies"), root.table("clients"), notes, substitutes)
    for key, why in _OF_THE_RUST_ARBSTR.items():
        root.ignored(key, why)
    root.finish()
    if sellers_are_known and all(provider.sync_s is None for provider in providers):
        rules = [
            (f"policies.rules[{i}].allowed_models", rule) for i, rule in enumerate(policies.rules)
        ]
        refuse_empty_rules(rules, models, notes)
    if notes.problems:
        raise ConfigError(tuple(notes.problems))
    _warn_of_keyless(server, providers, notes)
    _warn_of_readers(path, mode, notes)
    return Config(
        path=path.absolute(),
        server=server,
        database=database,
        providers=providers,
        models=models,
        policies=policies,
        fallback=fallback,
        limits=limits,
        warnings=tuple(notes.warnings),
    )


def load_database(path: Path, env: Mapping[str, str], *, mock: bool = False) -> Database:
    """Read ``[database]`` alone: whoever only reads the ledger needs no keys and no prices.

    Raises ConfigError.
    """
    notes = Notes(str(path), env)
    document, _ = _document(path)
    table = Table(notes, "", document).table("database")
    database = read_database(table, notes, path.absolute().parent, mock=mock)
    if notes.problems:
        raise ConfigError(tuple(notes.problems))
    return database


def _sellers(
    root: Table, notes: Notes, mock_url: str | None
) -> tuple[tuple[Provider, ...], tuple[Model, ...]]:
    if mock_url is None:
        before = len(notes.problems)
        providers = root.tables("providers")
        if not providers and len(notes.problems) == before:
            root.missing("providers", "at least one [[providers]] with name and url")
        return read_sellers(providers, root.tables("models"), notes)
    for key in ("providers", "models"):
        root.skip(key)
    try:
        return (mock_provider(mock_url),), ()
    except ValueError as error:
        raise ConfigError((line("mock mode", "url", str(error)),)) from None


def _document(path: Path) -> tuple[dict[str, object], int]:
    """Parse the file at `path`; numbers with a point are Decimal. Its mode comes too.

    Raises ConfigError.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().decode("utf-8-sig")
        return tomllib.loads(text, parse_float=_decimal), mode
    except FileNotFoundError:
        what = "there is no such file; copy the config.toml that came with arbstr, or name another"
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (byte {error.start}); save it as UTF-8"
    except OSError as error:
        what = f"cannot be read: {error.strerror or type(error).__name__}"
    except RecursionError:
        what = "is nested too deeply to be a config"
    except ValueError as error:
        what = _syntax(error)
    raise ConfigError((line(str(path), "", what),))


def _syntax(error: ValueError) -> str:
    """Say where and what, in this order. A ValueError is also a number with thousands of digits."""
    message = str(error)
    if isinstance(error, tomllib.TOMLDecodeError) and (place := _PLACE.search(message)):
        return f"{place[1].removeprefix('at ')}: {message[: place.start()]}"
    return f"cannot be read: {message}"


def _decimal(written: str) -> Decimal:
    """Read a TOML float exactly; one beyond all bounds is as good as infinite, and as wrong."""
    try:
        return Decimal(written)
    except InvalidOperation:
        return Decimal("Infinity")


def _warn_of_keyless(server: Server, providers: tuple[Provider, ...], notes: Notes) -> None:
    if server.auth_token is None:
        return
    for i, provider in enumerate(providers):
        if provider.api_key is None:
            notes.warning(
                f"providers[{i}].api_key",
                f"is not set, and server.auth_token is: for {provider.name} clients must send the "
                "token as x-arbstr-token and a key of their own as usual",
            )


def _warn_of_readers(path: Path, mode: int, notes: Notes) -> None:
    """Warn of a file with a key in it that others can read. Without a key they may."""
    others_read = os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH)
    if notes.holds_key and others_read:
        notes.warning("", f"holds a key and others can read it; do: chmod 600 {path}")

"""``arbstr models --write``: chosen models into the config, everything else in it left as it is."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import tomlkit
from tomlkit.items import AoT, Item, Table

from arbstr.commands.failure import CommandError
from arbstr.config import Config, ConfigError, load
from arbstr.core.catalog import Catalog, Model
from arbstr.core.price import MSATS_PER_SAT


def write_models(config: Config, catalog: Catalog, ids: Sequence[str]) -> None:
    """Put the models `ids` of `catalog` into the config, as ``[[models]]``, with all that it knows.

    One that is there already gets its rates. The new file is checked before it takes the place
    of the old one. Raises CommandError.
    """
    models = [model for name in dict.fromkeys(ids) for model in _found(catalog, name)]
    path = config.path.resolve()
    document = tomlkit.parse(path.read_bytes().decode("utf-8-sig"))
    tables = document.get("models")
    if not isinstance(tables, AoT):
        tables = tomlkit.aot()
        document["models"] = tables
    for model in models:
        _put(tables, model, config)
    _replace(path, tomlkit.dumps(document))
    for model in models:
        sys.stdout.write(f"{path}: {model.id} at {model.provider}\n")


def _found(catalog: Catalog, name: str) -> tuple[Model, ...]:
    models = catalog.find(name)
    if not models:
        near = ", ".join(catalog.near(name))
        raise CommandError(f"no provider lists {name!r}" + (f"; near: {near}" if near else ""))
    if unpriced := [model.provider for model in models if model.price is None]:
        raise CommandError(f"the price of {name} at {', '.join(unpriced)} is not known")
    return models


def _put(tables: AoT, model: Model, config: Config) -> None:
    """Change the model's table, or add one."""
    only = config.providers[0].name if len(config.providers) == 1 else None
    for table in tables:
        if table.get("id") == model.id and table.get("provider", only) == model.provider:
            _fill(table, model)
            return
    table = tomlkit.table()
    table["id"] = model.id
    table["provider"] = model.provider
    _fill(table, model)
    for key in ("context", "max_output", "tools", "vision", "json"):
        if (value := getattr(model, key)) is not None:
            table[key] = value
    tables.append(table)


def _fill(table: Table, model: Model) -> None:
    """Write the rates: sats per 1,000 tokens, which are msats a token, and the fee in sats."""
    price = model.price
    assert price is not None  # noqa: S101 - `_found` has refused the others
    fee = price.base_fee_msats / MSATS_PER_SAT
    rates = {
        "input_rate": price.input,
        "output_rate": price.output,
        "cached_input_rate": price.cached,
        "cache_write_rate": price.cache_write,
        "base_fee": fee if fee or "base_fee" in table else None,
    }
    for key, rate in rates.items():
        if rate is not None:
            table[key] = _number(rate)


def _number(rate: Decimal) -> Item:
    """A TOML number of exactly these digits."""
    written = format(rate, "f")
    if "." in written:
        written = written.rstrip("0").removesuffix(".")
    return tomlkit.value(written)


def _replace(path: Path, text: str) -> None:
    """Put `text` in the file's place, whole or not at all, and only if it is a good config."""
    try:
        with _beside(path) as (made, file):
            os.write(file, text.encode())
            made.chmod(path.stat().st_mode & 0o777)
            _check(made, path)
            made.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def _check(made: Path, path: Path) -> None:
    try:
        load(made, os.environ)
    except ConfigError as error:
        problems = (p.replace(str(made), str(path)) for p in error.problems)
        raise CommandError(*problems, "nothing was written") from None


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, int]]:
    """A new file in the same folder, 0600; gone in the end unless it was moved."""
    file, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        yield Path(name), file
    finally:
        os.close(file)
        Path(name).unlink(missing_ok=True)

"""What most commands begin with: the config, and the ledger that it names."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import arbstr
from arbstr.commands.failure import CommandError, complain

if TYPE_CHECKING:
    from arbstr.config import Config
    from arbstr.ledger.queries import Reader

_MOCK_URL = "http://127.0.0.1:9/v1"
"""Stands for the mock node's address: a command sends nothing there."""


def config_path(args: argparse.Namespace) -> Path:
    """Where the config is: ``--config``, ``$ARBSTR_CONFIG``, ``config.toml`` by the code or here.

    By the code is where the add-on looks; an arbstr installed as a package has none there.
    """
    from arbstr.config import default_path  # noqa: PLC0415 - slow to load

    given: Path | None = args.config
    if given is not None:
        return given.expanduser()
    beside = Path(arbstr.__file__).parents[1]
    here = Path.cwd()
    if not (beside / "config.toml").is_file() and (here / "config.toml").is_file():
        beside = here
    return default_path(os.environ, beside).expanduser()


def load_config(args: argparse.Namespace, *, mock: bool = False) -> Config:
    """Load the whole config. Raises CommandError with every problem in it."""
    from arbstr.config import ConfigError, load  # noqa: PLC0415 - the same

    try:
        return load(config_path(args), os.environ, mock_url=_MOCK_URL if mock else None)
    except ConfigError as error:
        raise CommandError(*error.problems) from None


def ledger_path(args: argparse.Namespace) -> Path:
    """Where the ledger is. Only ``[database]`` is read: to look at it takes no keys and no prices.

    Where there is no ledger yet, but one of mock mode, it is that. Raises CommandError.
    """
    from arbstr.config import ConfigError, load_database  # noqa: PLC0415 - the same

    config = config_path(args)
    try:
        path = load_database(config, os.environ, mock=args.mock).path
        mock = load_database(config, os.environ, mock=True).path
    except ConfigError as error:
        raise CommandError(*error.problems) from None
    if not path.exists() and mock.exists():
        complain(f"no ledger at {path} yet; this is the one of mock mode, {mock.name}")
        return mock
    return path


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """The ledger at `path`, to read; one that is not there yet is empty. Raises CommandError."""
    from arbstr.ledger.queries import LedgerError, Reader  # noqa: PLC0415 - the same

    reader = Reader(path)
    try:
        yield reader
    except LedgerError as error:
        raise CommandError(str(error)) from None
    finally:
        reader.close()


def now_ms() -> int:
    """The time: UTC ms."""
    return time.time_ns() // 1_000_000

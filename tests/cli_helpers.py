"""Running commands as a user does, in a folder with a config and a ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from arbstr.cli import main
from arbstr.core.catalog import Model
from arbstr.core.price import Price
from arbstr.market.catalog import price_rows
from tests import ledger_helpers
from tests.ledger_helpers import Finished

CONFIG = """\
# my config
[database]
path = "spend.db"

[[providers]]                 # who sells
name = "routstr"
url = "http://127.0.0.1:9/v1"
api_key = "${NOT_SET_HERE}"

[policies]
default = "quick"

[[policies.rules]]
name = "quick"
allowed_models = ["gpt-4o-mini", "deepseek*"]

[[policies.rules]]
name = "code"
allowed_models = ["gpt-4o", "deepseek*"]
max_sats_per_1k_output = 5
keywords = ["debug"]
"""
LISTED = (("gpt-4o", "2.5", "10"), ("gpt-4o-mini", "0.15", "0.6"), ("deepseek-chat", "0.28", "1.1"))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Place:
    """A folder with a config, its ledger, and what the last command said."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "config.toml"
        self.config.write_text(CONFIG, encoding="utf-8")
        self.config.chmod(0o600)
        self.ledger = folder / "spend.db"
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def write(self, *finished: Finished) -> None:
        """Put requests into the ledger."""
        ledger_helpers.write(self.ledger, finished)

    def list_models(self, listed: Iterable[tuple[str, str, str]] = LISTED) -> None:
        """Put a price list into the ledger, as a sync would."""
        models = [
            Model(
                id=name,
                provider="routstr",
                price=Price(Decimal(input_), Decimal(output)),
                context=128_000,
                source="synced",
                listed_ms=now_ms(),
            )
            for name, input_, output in listed
        ]
        ledger_helpers.write(self.ledger, prices=price_rows(models, now_ms()))

    def run(self, command: str, *arguments: str) -> int:
        """Run one command with this config; what it says is in `out` and `err`."""
        self._capsys.readouterr()
        try:
            code = main([command, "--config", str(self.config), *arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        self.out, self.err = self._capsys.readouterr()
        return code

    def lines(self, command: str, *arguments: str) -> list[str]:
        """Run a command that works, and give its output."""
        assert self.run(command, *arguments) == 0, self.err
        return self.out.splitlines()

    def json(self, command: str, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """Run a command that works, and give its output as JSON."""
        assert self.run(command, *arguments, "--format", "json") == 0, self.err
        return json.loads(self.out)


def make_place(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A terminal of 100 columns in a fresh folder; the environment holds nothing of arbstr's."""
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("ARBSTR_CONFIG", "ARBSTR_ROUTSTR_API_KEY", "NOT_SET_HERE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return Place(folder, capsys)

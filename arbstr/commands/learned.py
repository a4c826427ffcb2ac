"""``arbstr models --learned``: what the forecast knows of each model, and how far off it was."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable

import msgspec

from arbstr.commands.screen import Screen
from arbstr.commands.settings import now_ms, reading
from arbstr.config import Config
from arbstr.core.forecast import Forecast
from arbstr.core.record import RequestRow
from arbstr.market.earlier import read_earlier, relearn
from arbstr.report import (
    Column,
    Row,
    Value,
    number_column,
    render,
    show_count,
    show_share,
    show_tokens,
    text_column,
)

type _Arm = tuple[str | None, str | None]


class _Off(msgspec.Struct):
    """Sums over answers whose expected and true cost are both known, msats."""

    expected: int = 0
    actual: int = 0
    off: int = 0

    def add(self, expected: int, actual: int) -> None:
        self.expected += expected
        self.actual += actual
        self.off += abs(expected - actual)


def show_learned(args: argparse.Namespace, config: Config) -> int:
    """Show a row for each policy and model that has answered."""
    with reading(config.database.path) as reader:
        answers = read_earlier(reader, now_ms()).answers
    forecast = Forecast()
    relearn(forecast, answers)
    off = _off(answers)
    rows: list[Row] = []
    for known in forecast.learned():
        if args.policy in (None, known.policy):
            sums = off.get((known.policy, known.model), _Off())
            rows.append(
                {
                    "policy": known.policy,
                    "model": known.model,
                    "samples": known.samples,
                    "mean_output": round(known.mean_output),
                    "bytes_per_token": known.bytes_per_token,
                    "bias": (sums.expected - sums.actual) / sums.actual if sums.actual else None,
                    "error": sums.off / sums.actual if sums.actual else None,
                }
            )
    screen = Screen(sys.stdout, os.environ)
    if not rows and args.format == "table":
        screen.line("nothing learned yet: no answer with known tokens in the last 30 days")
    else:
        screen.write(render(rows, _columns(), args.format))
    return 0


def _off(answers: Iterable[RequestRow]) -> dict[_Arm, _Off]:
    """How far the expected costs were off, by policy and model."""
    found: dict[_Arm, _Off] = {}
    for row in answers:
        actual = row.cost_msats if row.computed_msats is None else row.computed_msats
        if row.estimated_msats is not None and actual is not None:
            found.setdefault((row.policy, row.model), _Off()).add(row.estimated_msats, actual)
    return found


def _columns() -> tuple[Column, ...]:
    return (
        text_column("policy", "policy"),
        text_column("model", "model"),
        number_column("samples", "answers", show_count),
        number_column("mean_output", "mean out", show_tokens),
        number_column("bytes_per_token", "bytes/token", _show_ratio),
        number_column("bias", "cost bias", _show_signed),
        number_column("error", "cost off by", show_share),
    )


def _show_ratio(value: Value) -> str:
    return f"{float(value):.2f}" if isinstance(value, int | float) else "\N{EN DASH}"


def _show_signed(value: Value) -> str:
    return f"{float(value) * 100:+.0f} %" if isinstance(value, int | float) else "\N{EN DASH}"

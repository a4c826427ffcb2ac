"""Bars for days: in the terminal, or in a picture."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

from arbstr.commands.failure import CommandError
from arbstr.core.price import MSATS_PER_SAT
from arbstr.report import show_sats

type Days = Sequence[tuple[str, int | None]]
"""Days (``2026-11-23``) and what they cost in msats, None where that is not known."""


def days_between(first: str, last: str) -> Iterator[str]:
    """All days from `first` to `last`, so that one without a request shows as a gap."""
    day, end = date.fromisoformat(first), date.fromisoformat(last)
    while day <= end:
        yield str(day)
        day += timedelta(days=1)


def bars(days: Days, width: int) -> str:
    """A line for each day, at most `width` characters: the day, its sats, its bar."""
    sats = [show_sats(msats) for _, msats in days]
    most = max(msats or 0 for _, msats in days)
    room = width - len("2026-11-23") - max(map(len, sats)) - 4
    lines = []
    for (day, msats), amount in zip(days, sats, strict=True):
        halves = round(2 * room * (msats or 0) / most) if most else 0
        if msats and not halves:
            halves = 1  # what was spent shows
        bar = "█" * (halves // 2) + "▌" * (halves % 2)
        lines.append(f"{day}  {amount:>{max(map(len, sats))}}  {bar}".rstrip())
    return "\n".join(lines) + "\n"


def picture(days: Days, file: str) -> None:
    """Draw the bars into `file`; its ending says which kind of picture. Raises CommandError."""
    try:
        figure_module = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise CommandError(
            "a picture needs matplotlib: pip install 'arbstr[plot]' (--plot alone draws here)"
        ) from None
    figure = figure_module.Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    axes.bar([day for day, _ in days], [(msats or 0) / MSATS_PER_SAT for _, msats in days])
    axes.set_ylabel("sats")
    axes.set_title("arbstr: sats by day")
    axes.tick_params(axis="x", rotation=90)
    try:
        figure.savefig(Path(file).expanduser(), dpi=120)
    except (OSError, ValueError) as error:
        raise CommandError(f"{file}: {error}") from None

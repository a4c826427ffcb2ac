"""``arbstr costs``: what was spent and saved, on what, and how well it went."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from arbstr.commands.failure import UsageError
from arbstr.commands.screen import Screen
from arbstr.commands.settings import ledger_path, now_ms, reading
from arbstr.commands.span import read_filters
from arbstr.core.moments import LOCAL, day_start
from arbstr.ledger.queries import Filters, Reader, Totals
from arbstr.report import (
    UNKNOWN,
    Column,
    Format,
    Row,
    Value,
    number_column,
    render,
    share,
    show_count,
    show_sats,
    show_seconds,
    show_share,
    show_time,
    show_tokens,
    terminal_width,
    text_column,
    time_column,
)
from arbstr.stats import prompt_tokens, spent_msats

_DAY_MS = 86_400_000
_PLOT_DAYS = 30
_LEGEND = "first s, whole s: seconds to the first token and to the end, half of them / 95 % within"
_LEGEND_OF_OVER = "OVER: sats billed above the seller's own prices"


class _Period(NamedTuple):
    """A span of time under a heading, and what it adds up to."""

    name: str
    filters: Filters
    totals: Totals


def run(args: argparse.Namespace) -> int:
    """Show three periods, or one, or its groups, or a bar for each day."""
    if args.plot is not None and args.by not in (None, "day"):
        raise UsageError(f"--plot draws days; leave out --by {args.by}")
    filters = read_filters(args)
    screen = Screen(sys.stdout, os.environ)
    path = ledger_path(args)
    with reading(path) as reader:
        if args.plot is not None:
            return _plot(args.plot, reader, filters, screen)
        if args.by is not None:
            found = reader.groups(filters, args.by, tz=LOCAL)
            if found or args.format != "table":
                screen.write(_groups(args.by, found, args.format))
            else:
                screen.line(nothing(filters))
            return 0
        periods = _periods(reader, filters)
    if args.format in ("json", "csv"):
        screen.write(render([_flat_period(p) for p in periods], _raw_columns(), args.format))
    elif not any(period.totals.total for period in periods):
        screen.line(nothing(filters))
    else:
        screen.write(_summary(periods, args.format))
    return 0


def nothing(filters: Filters) -> str:
    """What to say where there is nothing to show."""
    if filters == Filters():
        return "no requests yet: start arbstr, point a client at it, and come back"
    since = "" if filters.since_ms is None else f" since {show_time(filters.since_ms)}"
    return f"no requests like that{since}"


def flat(totals: Totals) -> dict[str, Value]:
    """Totals as raw values by their names."""
    values: dict[str, Value] = msgspec.structs.asdict(totals)
    return values | {
        "cost_msats": spent_msats(totals),
        "prompt_tokens": prompt_tokens(totals),
        "ok_share": share(totals.ok, totals.total - totals.in_flight),
        "billed_share": share(totals.billed, _priced(totals)),
    }


def _priced(totals: Totals) -> int:
    """How many requests had a cost, known or not."""
    return totals.billed + totals.computed + totals.unknown


def _periods(reader: Reader, filters: Filters) -> list[_Period]:
    """The range asked for; without one, today, the last 7 and the last 30 days."""
    now = now_ms()
    if filters.since_ms is not None or filters.until_ms is not None:
        name = "all" if filters.since_ms is None else f"since {show_time(filters.since_ms)[:16]}"
        if filters.until_ms is not None:
            name += f" until {show_time(filters.until_ms)[:16]}"
        return [_Period(name, filters, reader.totals(filters))]
    spans = {
        "today": day_start(now),
        "7 days": now - 7 * _DAY_MS,
        "30 days": now - 30 * _DAY_MS,
    }
    found = []
    for name, since_ms in spans.items():
        part = msgspec.structs.replace(filters, since_ms=since_ms)
        found.append(_Period(name, part, reader.totals(part)))
    return found


def _flat_period(period: _Period) -> Row:
    since, until = period.filters.since_ms, period.filters.until_ms
    return {"period": period.name, "since": since, "until": until, **flat(period.totals)}


def _raw_columns() -> tuple[Column, ...]:
    """For programs: every figure there is."""
    names = [*msgspec.structs.asdict(Totals()), "prompt_tokens", "ok_share", "billed_share"]
    return (
        text_column("period", "period"),
        time_column("since", "since"),
        time_column("until", "until"),
        *(Column(name, name) for name in names),
    )


# --- one column a period --------------------------------------------------------------------------


def _summary(periods: Sequence[_Period], form: str) -> str:
    rows = [
        {"figure": name, **{str(n): show(p.totals) for n, p in enumerate(periods)}}
        for name, show, always in _FIGURES
        if always or any(show(p.totals) not in ("0", "") for p in periods)
    ]
    columns = [Column("figure", "")]
    columns += [number_column(str(n), p.name, str) for n, p in enumerate(periods)]
    return render(rows, columns, "markdown" if form == "markdown" else "table")


def _saved(totals: Totals) -> str:
    spent = spent_msats(totals)
    part = None if spent is None else share(totals.saved_msats, spent + totals.saved_msats)
    shown = "" if not part else f" ({show_share(part)})"
    return show_sats(totals.saved_msats) + shown


def _sources(totals: Totals) -> str:
    of = _priced(totals)
    if not of:
        return UNKNOWN
    counts = (totals.billed, totals.computed, totals.unknown)
    return " / ".join(show_share(share(n, of)).removesuffix(" %") for n in counts) + " %"


def _times(p50_ms: float | None, p95_ms: float | None) -> str:
    if p50_ms is None:
        return UNKNOWN
    return f"{show_seconds(p50_ms).removesuffix(' s')} / {show_seconds(p95_ms)}"


def _overcharge(totals: Totals) -> str:
    if not totals.overcharged:
        return "0"
    return f"{show_sats(totals.overcharge_msats)} in {totals.overcharged:,}"


_FIGURES: tuple[tuple[str, Callable[[Totals], str], bool], ...] = (
    ("spent, sats", lambda t: show_sats(spent_msats(t)), True),
    ("saved, sats", _saved, True),
    ("OVERCHARGED, sats", _overcharge, False),
    ("requests", lambda t: show_count(t.total), True),
    ("answered whole", lambda t: show_share(share(t.ok, t.total - t.in_flight)), True),
    ("failed", lambda t: show_count(t.error), False),
    ("cut short", lambda t: show_count(t.interrupted), False),
    ("refused", lambda t: show_count(t.refused), False),
    ("client left", lambda t: show_count(t.client_closed), False),
    ("running now", lambda t: show_count(t.in_flight), False),
    ("tries", lambda t: show_count(t.attempts), True),
    ("cost billed / computed / unknown", _sources, True),
    ("billed at the upstream's price", lambda t: show_count(t.upstream_priced), False),
    ("tokens in", lambda t: show_tokens(prompt_tokens(t)), True),
    ("of it from a cache", lambda t: show_tokens(t.cached_tokens), True),
    ("tokens out", lambda t: show_tokens(t.output_tokens), True),
    ("of it reasoning", lambda t: show_tokens(t.reasoning_tokens), True),
    ("first token, p50 / p95", lambda t: _times(t.ttft_p50_ms, t.ttft_p95_ms), True),
    ("whole answer, p50 / p95", lambda t: _times(t.latency_p50_ms, t.latency_p95_ms), True),
)
"""The lines of a summary: name, what it shows, and whether it stands there even for nothing."""


# --- one row a group ------------------------------------------------------------------------------


def _groups(by: str, found: Sequence[tuple[str | None, Totals]], form: Format) -> str:
    """A table that fits a terminal; a program gets every figure."""
    rows: list[Row] = [{by: name, **flat(totals)} for name, totals in found]
    if form in ("json", "csv"):
        return render(rows, (Column(by, by), *_raw_columns()[3:]), form)
    columns = [
        text_column(by, by),
        number_column("total", "asked", show_count),
        number_column("ok_share", "ok", show_share),
        number_column("cost_msats", "spent sats", show_sats),
        number_column("saved_msats", "saved", show_sats),
        number_column("overcharge_msats", "OVER", show_sats),
        number_column("billed_share", "billed", show_share),
        number_column("prompt_tokens", "in", show_tokens),
        number_column("output_tokens", "out", show_tokens),
        number_column("first", "first s", str),
        number_column("whole", "whole s", str),
    ]
    # There is room for one of these, and an overcharge is the worse news.
    over = any(t.overcharged for _, t in found)
    unbilled = any(t.computed or t.unknown for _, t in found)
    hidden = {
        *(() if over else ("overcharge_msats",)),
        *(() if unbilled and not over else ("billed_share",)),
    }
    shown: list[Row] = [
        {
            **row,
            "first": _short_times(t.ttft_p50_ms, t.ttft_p95_ms),
            "whole": _short_times(t.latency_p50_ms, t.latency_p95_ms),
        }
        for row, (_, t) in zip(rows, found, strict=True)
    ]
    table = render(shown, [c for c in columns if c.key not in hidden], form)
    legend = _LEGEND if "overcharge_msats" in hidden else f"{_LEGEND_OF_OVER}\n{_LEGEND}"
    return f"{table}\n{legend}\n" if form == "table" else table


def _short_times(p50_ms: float | None, p95_ms: float | None) -> str:
    return _times(p50_ms, p95_ms).replace(" ", "").removesuffix("s")


# --- bars -----------------------------------------------------------------------------------------


def _plot(target: str, reader: Reader, filters: Filters, screen: Screen) -> int:
    """A bar for each of the last 30 days, or of those asked for."""
    from arbstr.commands.plot import bars, days_between, picture  # noqa: PLC0415 - rarely needed

    if filters.since_ms is None:
        filters = msgspec.structs.replace(filters, since_ms=day_start(now_ms(), 1 - _PLOT_DAYS))
    found = {
        str(day): spent_msats(totals) for day, totals in reader.groups(filters, "day", tz=LOCAL)
    }
    if not found:
        screen.line(nothing(filters))
        return 0
    days = [(day, found.get(day, 0)) for day in days_between(min(found), max(found))]
    if target == "-":
        screen.write(bars(days, min(terminal_width(), 120)))
    else:
        picture(days, target)
        screen.line(f"{target}: sats by day, {days[0][0]} to {days[-1][0]}")
    return 0

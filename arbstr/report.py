"""Rows for people and for programs: tables, Markdown, CSV and JSON, and how amounts and times read.

A row is a mapping of raw values: integers of msats and ms, UTC milliseconds, None where a value is
unknown. A `Column` says what a person sees of it; programs (JSON, CSV) get the raw value under the
column's key, times as ISO 8601 in UTC.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from arbstr.core.moments import iso_time

type Format = Literal["table", "json", "csv", "markdown"]
type Value = str | int | float | bool | None
type Row = Mapping[str, Value]

FORMATS: tuple[Format, ...] = ("table", "json", "csv", "markdown")
UNKNOWN = "\N{EN DASH}"
_MSATS_PER_SAT = 1000
_KILO = 1000
_GAP = 2
_NARROWEST = 80
_RATE_DECIMALS = 6
_NARROWEST_NAME = 12


class Column(NamedTuple):
    """One column: its key in a row, its heading, how a value reads, and which side it stands on."""

    key: str
    title: str
    show: Callable[[Value], str] = str
    right: bool = False
    is_time: bool = False


def text_column(key: str, title: str) -> Column:
    """A column of names."""
    return Column(key, title, show_text)


def number_column(key: str, title: str, show: Callable[[Value], str]) -> Column:
    """A column of numbers, on the right."""
    return Column(key, title, show, right=True)


def time_column(key: str, title: str) -> Column:
    """A column of moments: local for a person, ISO 8601 in UTC for a program."""
    return Column(key, title, show_time, is_time=True)


def show_text(value: Value) -> str:
    """Text that a terminal shows and does not obey: control characters are spelled out."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        repr(c)[1:-1] if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else c
        for c in text
    )


def clip(text: str, width: int) -> str:
    """`text` in at most `width` characters, the middle left out so that both ends stay."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def show_sats(value: Value) -> str:
    """Msats as sats with three decimals, exact: ``1234567`` -> ``1,234.567``."""
    if not isinstance(value, int):
        return UNKNOWN
    whole, part = divmod(abs(value), _MSATS_PER_SAT)
    return f"{'-' if value < 0 else ''}{whole:,}.{part:03d}"


def rate_column(key: str, title: str, rows: Iterable[Row]) -> Column:
    """A column of rates in sats per 1,000 tokens, as many decimals in each as one of them needs."""
    rates = [float(rate) for row in rows if (rate := row.get(key)) is not None]
    written = (f"{rate:.{_RATE_DECIMALS}f}".rstrip("0").partition(".")[2] for rate in rates)
    decimals = max((2, *map(len, written)))

    def show(value: Value) -> str:
        return UNKNOWN if value is None else f"{float(value):,.{decimals}f}"

    return number_column(key, title, show)


def show_count(value: Value) -> str:
    """A whole number: ``12,345``."""
    return f"{value:,}" if isinstance(value, int) else UNKNOWN


def show_tokens(value: Value) -> str:
    """Tokens in four figures or so: ``9,876``, ``123k``, ``4.57M``."""
    if not isinstance(value, int):
        return UNKNOWN
    if value < 10 * _KILO:
        return f"{value:,}"
    number, unit = (value / _KILO, "k") if value < 999_500 else (value / _KILO**2, "M")
    decimals = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:,.{decimals}f}{unit}"


def show_share(value: Value) -> str:
    """A share of 0 to 1 in percent; only the whole is ``100 %`` and only nothing is ``0 %``."""
    if value is None:
        return UNKNOWN
    share = float(value)
    percent = round(share * 100)
    if share > 0 and percent < 1:
        return "<1 %"
    if share < 1 and percent > 99:
        return ">99 %"
    return f"{percent} %"


def show_seconds(value: Value) -> str:
    """Milliseconds as seconds: ``0.004 s``, ``0.41 s``, ``12.3 s``, ``754 s``."""
    if value is None:
        return UNKNOWN
    seconds = float(value) / 1000
    decimals = 3 if seconds < 0.1 else 2 if seconds < 10 else 1 if seconds < 100 else 0
    return f"{seconds:.{decimals}f} s"


def show_time(value: Value) -> str:
    """UTC milliseconds as local time to the second."""
    if not isinstance(value, int):
        return UNKNOWN
    return f"{datetime.fromtimestamp(value / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def show_age(ms: int) -> str:
    """How long ago, in one unit: ``42 s``, ``7 min``, ``5 h``, ``3 days``."""
    seconds = max(0, ms) // 1000
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 120 * 60:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 48 * 3600 else f"{seconds // 86_400} days"


def share(part: int | None, whole: int | None) -> float | None:
    """`part` of `whole` as 0 to 1; None where there is nothing to have a part of."""
    return None if part is None or not whole else part / whole


def render(rows: Sequence[Row], columns: Sequence[Column], form: Format) -> str:
    """All `rows` in `form`, with a newline at the end. JSON is a list of objects."""
    match form:
        case "json":
            return json_text([raw(row, columns) for row in rows])
        case "csv":
            return csv_text((raw(row, columns) for row in rows), [c.key for c in columns])
        case "markdown":
            return _markdown(shown(rows, columns), columns)
        case "table":
            return _table(shown(rows, columns), columns, terminal_width())


def shown(rows: Iterable[Row], columns: Sequence[Column]) -> list[list[str]]:
    """What a person sees of each row."""
    return [[show_text(c.show(row.get(c.key))) for c in columns] for row in rows]


def raw(row: Row, columns: Sequence[Column]) -> dict[str, Value]:
    """What a program sees of a row."""
    return {c.key: _raw(row.get(c.key), is_time=c.is_time) for c in columns}


def json_text(value: object) -> str:
    """Indented JSON with a newline at its end; characters beyond ASCII stay as they are."""
    import json  # noqa: PLC0415 - a table needs none

    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def csv_text(rows: Iterable[Row], keys: Sequence[str], *, heading: bool = True) -> str:
    """`rows` as CSV with Unix line ends; an unknown value is an empty cell, a truth is 0 or 1."""
    import csv  # noqa: PLC0415 - the same
    import io  # noqa: PLC0415 - the same

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if heading:
        writer.writerow(keys)
    for row in rows:
        values = (row.get(key) for key in keys)
        writer.writerow([int(v) if isinstance(v, bool) else v for v in values])
    return text.getvalue()


def _raw(value: Value, *, is_time: bool) -> Value:
    return iso_time(value) if is_time and isinstance(value, int) else value


def terminal_width() -> int:
    """Characters a line may have: the terminal's (or ``COLUMNS``), else 100."""
    return max(_NARROWEST, shutil.get_terminal_size((100, 24)).columns)


def _table(cells: Sequence[Sequence[str]], columns: Sequence[Column], width: int) -> str:
    lines = _tabulate(
        _fitted([[c.title for c in columns], *cells], columns, width),
        tablefmt="plain",
        disable_numparse=True,
        colalign=_sides(columns),
    ).splitlines()
    rule = "-" * max(map(len, lines))
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:])) + "\n"


def _markdown(cells: Sequence[Sequence[str]], columns: Sequence[Column]) -> str:
    table = _tabulate(
        [[c.replace("|", "\\|") for c in line] for line in cells],
        headers=[c.title for c in columns],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=_sides(columns),
    )
    return table + "\n"


def _sides(columns: Sequence[Column]) -> list[str]:
    return ["right" if c.right else "left" for c in columns]


def _fitted(
    lines: Sequence[Sequence[str]], columns: Sequence[Column], width: int
) -> Sequence[Sequence[str]]:
    """`lines` with the widest names clipped until a table of them fits into `width`."""
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    names = [n for n, column in enumerate(columns) if not column.right]
    while over > 0 and (widest := max(names, key=widths.__getitem__, default=None)) is not None:
        if widths[widest] <= _NARROWEST_NAME:
            break
        widths[widest] -= 1
        over -= 1
    return [[clip(cell, w) for cell, w in zip(line, widths, strict=True)] for line in lines]


def _tabulate(cells: Sequence[Sequence[str]], **how: Any) -> str:  # noqa: ANN401 - tabulate's own
    from tabulate import tabulate  # noqa: PLC0415 - it takes longer to load than a small command

    return tabulate(cells, **how)

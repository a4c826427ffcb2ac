"""A request as one line, in a table or as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from arbstr.commands.export import exported
from arbstr.core.record import AttemptRow, RequestRow
from arbstr.report import (
    Column,
    Row,
    Value,
    clip,
    number_column,
    show_sats,
    show_seconds,
    show_text,
    show_tokens,
    terminal_width,
    text_column,
    time_column,
)

SHORT_DIGITS = 6
"""The last digits of an id, which are random, are enough to name one of the latest requests."""
_WIDE = 120
_LINE_WIDTHS = {"outcome": 11, "tried": 30, "cost_msats": 10, "in": 6, "output_tokens": 6}
_LINE_WIDTHS |= {"time": 8, "id": SHORT_DIGITS, "latency_ms": 6}
_PLAIN = {"ok": "ok", "client_closed": "client left", "in_flight": "running"}


def line_row(row: RequestRow, attempts: Sequence[AttemptRow]) -> Row:
    """One request: every column of the ledger, and what a line says instead of them."""
    inputs = (row.input_tokens, row.cached_tokens, row.cache_write_tokens)
    return {
        **exported(row),
        "started_at": row.started_at,
        "in": None if row.input_tokens is None else sum(n or 0 for n in inputs),
        "tried": tried(row, attempts),
        "result": result(row),
    }


def tried(row: RequestRow, attempts: Sequence[AttemptRow]) -> str | None:
    """The models that were asked, and how those before the last one failed."""
    if not attempts:
        return row.model or row.requested_model
    failed = [f"{a.model} {a.status or a.error_code or a.outcome}" for a in attempts[:-1]]
    return " > ".join((*failed, attempts[-1].model))


def result(row: RequestRow) -> str:
    """How it ended, in a word or two."""
    word = _PLAIN.get(row.outcome, row.outcome)
    return f"{word} {row.status}" if row.outcome in ("error", "refused") and row.status else word


def columns(rows: Sequence[Row], form: str, now_ms: int) -> tuple[Column, ...]:
    """For a program all columns of the ledger, for a person what fits on a line."""
    if form in ("json", "csv"):
        return tuple(
            time_column(name, name) if name == "started_at" else Column(name, name)
            for name in RequestRow.__struct_fields__
        )
    wide = form == "markdown" or terminal_width() >= _WIDE
    today = _day(now_ms)
    all_today = all(_day(row["started_at"]) == today for row in rows)
    shown_time = "%H:%M:%S" if all_today else "%m-%d %H:%M"
    columns = [
        text_column("id", "id") if wide else Column("id", "id", short_id),
        Column("started_at", "when", lambda value: local(value, shown_time)),
        text_column("result", "outcome"),
        text_column("tried", "model"),
    ]
    if wide:
        columns += [text_column("policy", "policy"), text_column("provider", "provider")]
    return (
        *columns,
        number_column("cost_msats", "sats", show_sats),
        number_column("in", "in", show_tokens),
        number_column("output_tokens", "out", show_tokens),
        number_column("latency_ms", "took", show_seconds),
    )


def one_line(row: Row) -> str:
    """A row in columns of fixed widths, for a list that grows."""
    left = [
        (short_id(row["id"]), "id"),
        (local(row["started_at"], "%H:%M:%S"), "time"),
        (show_text(row["result"]), "outcome"),
        (clip(show_text(row["tried"]), _LINE_WIDTHS["tried"]), "tried"),
    ]
    right = [
        (show_sats(row["cost_msats"]), "cost_msats"),
        (show_tokens(row["in"]), "in"),
        (show_tokens(row["output_tokens"]), "output_tokens"),
        (show_seconds(row["latency_ms"]), "latency_ms"),
    ]
    cells = [f"{text:<{_LINE_WIDTHS[name]}}" for text, name in left]
    return "  ".join((*cells, *(f"{text:>{_LINE_WIDTHS[name]}}" for text, name in right)))


def short_id(value: Value) -> str:
    """The end of an id."""
    return str(value)[-SHORT_DIGITS:]


def local(value: Value, form: str) -> str:
    """UTC ms as local time."""
    return f"{datetime.fromtimestamp(int(value or 0) / 1000, UTC).astimezone():{form}}"


def _day(value: Value) -> str:
    return local(value, "%Y-%m-%d")

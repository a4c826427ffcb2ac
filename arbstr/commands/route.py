"""A routing decision as rows: who is tried, in what order, and who is not, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from arbstr.core.route import Candidate, Refusal, Route
from arbstr.report import (
    Column,
    Row,
    number_column,
    render,
    show_count,
    show_sats,
    show_tokens,
    text_column,
)


def route_tables(route: Route) -> str:
    """All of it for a person."""
    candidates, refused = candidate_rows(route.candidates), refusal_rows(route.refusals)
    text = render(candidates, route_columns(candidates, "table"), "table")
    if refused:
        text += "\n" + render(refused, route_columns(refused, "table"), "table")
    if route.outside:
        text += f"\nnot allowed by policy {route.choice.name}: {len(route.outside)} other models\n"
    return text


def candidate_rows(candidates: Iterable[Candidate]) -> list[Row]:
    """Who is tried, in this order."""
    return [
        {
            "n": n,
            "model": found.model.id,
            "provider": found.model.provider,
            "expected_msats": None if found.expected_msats is None else round(found.expected_msats),
            "input_tokens": round(found.input_tokens),
            "cached_tokens": round(found.cached_tokens),
            "output_tokens": round(found.output_tokens),
            "samples": round(found.samples),
            "note": found.note,
        }
        for n, found in enumerate(candidates, 1)
    ]


def refusal_rows(refusals: Iterable[Refusal]) -> list[Row]:
    """Who is not."""
    return [{"model": r.model, "provider": r.provider, "reason": r.reason} for r in refusals]


def route_columns(rows: Sequence[Row], form: str) -> tuple[Column, ...]:
    """All columns for a program; for a person those that have something in them."""
    columns = (
        number_column("n", "#", show_count),
        text_column("model", "model"),
        text_column("provider", "provider"),
        number_column("expected_msats", "expected sats", show_sats),
        number_column("input_tokens", "in", show_tokens),
        number_column("cached_tokens", "cached", show_tokens),
        number_column("output_tokens", "out", show_tokens),
        number_column("samples", "answers", show_count),
        text_column("note", "note"),
        text_column("reason", "kept out because"),
    )
    if form == "csv":
        return columns
    tried = any("n" in row for row in rows)
    always = {"model", "provider"} | ({"expected_msats", "samples"} if tried else set())
    return tuple(c for c in columns if c.key in always or any(row.get(c.key) for row in rows))

"""What became of one request, as plain values: they ride on its flow as ``metadata["arbstr"]``.

mitmproxy saves a flow's metadata with it, so a saved flow still tells its story when it is opened
elsewhere. The views (`views.py`) read it from there and from nowhere else. No prompts, no keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from mitmproxy import flow as mflow

from arbstr.core.dialects.base import Problem
from arbstr.core.exchange import Attempt, Exchange, Ticket
from arbstr.core.price import is_overcharge
from arbstr.core.receipt import attempt_cost, attempt_row, final_row, first_row
from arbstr.core.record import AttemptRow, RequestRow
from arbstr.core.route import Candidate
from arbstr.core.shortlist import Refusal
from arbstr.proxy.masks import Masks

KEY = "arbstr"

FALLBACK = ":twisted_rightwards_arrows:"
INTERRUPTED = ":scissors:"
REFUSED = ":no_entry:"
OVERCHARGED = ":money_with_wings:"
FAILED = ":boom:"
ATTEMPT = ":x:"
"""Markers, by mitmproxy's names of emoji."""

_CANDIDATES = 16
_REFUSALS = 24
_MESSAGE_CHARS = 300
"""A story stays small: a thousand of them are in memory."""


class Offer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A candidate, as it looked before the first attempt. Tokens and msats are expectations."""

    model: str
    provider: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    samples: int = 0
    expected_msats: int | None = None
    max_tokens: int | None = None
    note: str = ""


class No(msgspec.Struct, frozen=True):
    """A model that was not considered, and why."""

    model: str
    provider: str
    reason: str


class Story(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request (`kind` ``request``), or one failed attempt of it (``attempt``).

    `flow`: the id of the flow it was told on first; copies keep it. `attempt`: which one this is.
    """

    kind: str
    id: str
    flow: str
    endpoint: str
    dialect: str
    row: RequestRow
    attempts: tuple[AttemptRow, ...] = ()
    messages: tuple[str, ...] = ()
    """What went wrong with each attempt, "" where nothing did."""
    attempt: int = 0
    replay: bool = False
    strategy: str | None = None
    prompt_bytes: int = 0
    tools: bool = False
    images: int = 0
    json_mode: bool = False
    max_output: int | None = None
    offers: tuple[Offer, ...] = ()
    more_offers: int = 0
    refusals: tuple[No, ...] = ()
    more_refusals: int = 0
    not_allowed: int = 0
    overcharge_msats: int | None = None
    comment: str = ""
    marker: str = ""


def tell(flow: mflow.Flow, exchange: Exchange) -> Story:
    """The story of a request that has ended."""
    row = final_row(exchange)
    over = _overcharge(exchange, row)
    story = _told(flow, exchange.ticket, row)
    return msgspec.structs.replace(
        story,
        attempts=tuple(map(attempt_row, exchange.attempts)),
        messages=tuple(map(_message, exchange.attempts)),
        overcharge_msats=over,
        comment=_comment(row, over, replay=story.replay),
        marker=_marker(row, over, exchange.attempts),
    )


def tell_attempt(flow: mflow.Flow, exchange: Exchange, attempt: Attempt) -> Story:
    """The story of a failed attempt, told on a flow of its own."""
    row = final_row(exchange)
    told = attempt_row(attempt)
    message = _message(attempt)
    asked = exchange.ticket.route.requested or told.model
    why = f"{told.error_code}: {message}" if told.error_code else message
    return msgspec.structs.replace(
        _told(flow, exchange.ticket, row),
        kind="attempt",
        attempt=attempt.n,
        attempts=(told,),
        messages=(message,),
        comment=f"try {attempt.n} of {asked} → {told.model} · {_shortened(why, 100)}",
        marker=ATTEMPT,
    )


def tell_refusal(flow: mflow.Flow, ticket: Ticket, row: RequestRow, problem: Problem) -> Story:
    """The story of a request that we refused ourselves. `problem` may list refused models."""
    asked = ticket.route.requested or ticket.endpoint
    refusals = msgspec.convert(problem.extra.get("refusals", ()), tuple[No, ...])
    return msgspec.structs.replace(
        _told(flow, ticket, row),
        refusals=refusals[:_REFUSALS],
        more_refusals=max(0, len(refusals) - _REFUSALS),
        comment=f"{asked} · refused: {row.error_code}",
        marker=REFUSED,
    )


def tell_plan(flow: mflow.Flow, ticket: Ticket) -> Story:
    """The story of a request that was not sent: what would be tried."""
    return _told(flow, ticket, first_row(ticket))


def read(flow: mflow.Flow) -> Story | None:
    """The story on a flow; None where there is none, or one that this version cannot read."""
    found = flow.metadata.get(KEY)
    if not isinstance(found, Mapping):
        return None
    try:
        return msgspec.convert(found, Story, strict=False)
    except msgspec.ValidationError:
        return None


def write(flow: mflow.Flow, story: Story, masks: Masks) -> None:
    """Put `story` on `flow`: metadata, comment and marker. What a person has set stays."""
    plain = msgspec.json.decode(masks.body(msgspec.json.encode(story)))
    note(flow, plain.get("comment", ""), story.marker)
    flow.metadata[KEY] = plain


def note(flow: mflow.Flow, comment: str, marker: str) -> None:
    """Put a comment and a marker on a flow, in place of an earlier story's, and no story."""
    before = read(flow)
    if not flow.comment or (before is not None and flow.comment == before.comment):
        flow.comment = comment
    if not flow.marked or (before is not None and flow.marked == before.marker):
        flow.marked = marker
    flow.metadata.pop(KEY, None)


def _told(flow: mflow.Flow, ticket: Ticket, row: RequestRow) -> Story:
    """What was decided before anything was sent."""
    route, ask = ticket.route, ticket.ask
    return Story(
        kind="request",
        id=str(ticket.id),
        flow=flow.id,
        endpoint=ticket.endpoint,
        dialect=ticket.dialect.name,
        row=row,
        replay=flow.is_replay == "request",
        strategy=None if route.choice.rule is None else route.choice.rule.strategy,
        prompt_bytes=ask.prompt_bytes,
        tools=ask.tools,
        images=ask.images,
        json_mode=ask.json_mode,
        max_output=ask.max_output,
        offers=tuple(map(_offer, route.candidates[:_CANDIDATES])) if ticket.members else (),
        more_offers=max(0, len(route.candidates) - _CANDIDATES),
        refusals=_noes(route.refusals),
        more_refusals=max(0, len(route.refusals) - _REFUSALS),
        not_allowed=len(route.outside),
    )


def _offer(candidate: Candidate) -> Offer:
    expected = candidate.expected_msats
    return Offer(
        model=candidate.model.id,
        provider=candidate.model.provider,
        input_tokens=round(candidate.input_tokens),
        cached_tokens=round(candidate.cached_tokens),
        output_tokens=round(candidate.output_tokens),
        samples=round(candidate.samples),
        expected_msats=None if expected is None else round(expected),
        max_tokens=candidate.max_tokens,
        note=candidate.note or "",
    )


def _noes(refusals: Iterable[Refusal]) -> tuple[No, ...]:
    listed = list(refusals)[:_REFUSALS]
    return tuple(No(r.model, r.provider, _shortened(r.reason, _MESSAGE_CHARS)) for r in listed)


def _overcharge(exchange: Exchange, row: RequestRow) -> int | None:
    """By how many msats the answer was billed above its price; None where it was not."""
    if exchange.answering is None or row.upstream_priced or row.computed_msats is None:
        return None
    cost = attempt_cost(exchange.answering)
    if cost.source != "billed" or not is_overcharge(cost.msats, row.computed_msats):
        return None
    return (cost.msats or 0) - row.computed_msats


def _comment(row: RequestRow, over_msats: int | None, *, replay: bool) -> str:
    """The line of the list: ``gpt-4o → deepseek-chat · 412 msat · 3 tries``."""
    asked = row.requested_model or row.endpoint
    names = asked if row.model in (None, asked) else f"{asked} → {row.model}"
    parts = [f"↻ {names}" if replay else names]
    if row.cost_msats is not None:
        parts.append(f"{row.cost_msats:,} msat")
    elif row.outcome != "error":
        parts.append("cost unknown")
    if over_msats is not None:
        parts.append(f"{over_msats:,} msat too much")
    if row.attempts > 1:
        parts.append(f"{row.attempts} tries")
    if row.outcome == "error":
        parts.append(f"failed: {row.error_code}" if row.error_code else "failed")
    elif row.outcome != "ok":
        parts.append(row.outcome.replace("client_closed", "the client left"))
    return " · ".join(parts)


def _marker(row: RequestRow, over_msats: int | None, attempts: Iterable[Attempt]) -> str:
    if row.outcome == "interrupted":
        return INTERRUPTED
    if row.outcome == "error":
        return FAILED
    if over_msats is not None:
        return OVERCHARGED
    return FALLBACK if len({id(a.candidate) for a in attempts}) > 1 else ""


def _message(attempt: Attempt) -> str:
    failure = attempt.failure
    return "" if failure is None else _shortened(failure.message, _MESSAGE_CHARS)


def _shortened(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1] + "…"

"""The rows of a request: what it used, what it cost, and who says so."""

from __future__ import annotations

import msgspec

from arbstr.core.exchange import Attempt, Exchange, Ticket
from arbstr.core.price import CostSource, computed_msats
from arbstr.core.record import AttemptRow, LateCost, RequestRow
from arbstr.core.usage import Usage

_NOTHING = Usage()
_MESSAGE_CHARS = 500


class Cost(msgspec.Struct, frozen=True):
    """What one attempt cost: msats, None where nobody can say."""

    msats: int | None
    source: CostSource


def attempt_cost(attempt: Attempt) -> Cost:
    """What the node billed if it said so, else what the answer's usage costs, else unknown."""
    tryout = attempt.tryout
    if tryout.bill is not None and tryout.bill.total_msats is not None:
        return Cost(tryout.bill.total_msats, "billed")
    price = attempt.candidate.model.price
    if tryout.counted and price is not None and tryout.usage is not None:
        computed = computed_msats(price, tryout.usage)
        if computed is not None:
            return Cost(computed, "computed")
    return Cost(None, "unknown")


def attempt_row(attempt: Attempt) -> AttemptRow:
    """One row of ``attempts``."""
    usage = attempt.tryout.usage or _NOTHING
    cost = attempt_cost(attempt)
    return AttemptRow(
        n=attempt.n,
        provider=attempt.candidate.model.provider,
        model=attempt.candidate.model.id,
        started_at=attempt.started_ms,
        outcome=attempt.outcome,
        status=attempt.tryout.status,
        error_code=attempt.error_code,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_msats=cost.msats,
        cost_source=cost.source,
        ttft_ms=_ms(attempt.started_s, attempt.first_token_s),
        latency_ms=_ms(attempt.started_s, attempt.ended_s),
    )


def late_cost(exchange: Exchange, attempt: Attempt) -> LateCost:
    """What became of an attempt that was given up, once it has been read to its end."""
    usage = attempt.tryout.usage or _NOTHING
    cost = attempt_cost(attempt)
    bill = attempt.tryout.bill
    return LateCost(
        exchange.ticket.id,
        attempt.n,
        usage.input_tokens,
        usage.output_tokens,
        cost.msats,
        cost.source,
        None if bill is None else bill.balance_msats,
    )


def first_row(ticket: Ticket) -> RequestRow:
    """The row that is queued when the first attempt starts: ``in_flight``."""
    route = ticket.route
    first = route.candidates[0]
    return RequestRow(
        id=ticket.id,
        instance=ticket.instance,
        started_at=ticket.started_ms,
        endpoint=ticket.endpoint,
        outcome="in_flight",
        client=ticket.client,
        requested_model=route.requested or None,
        policy=route.choice.name,
        policy_source=route.choice.source,
        model=first.model.id or None,
        provider=first.model.provider,
        stream=ticket.ask.stream,
        estimated_msats=_whole(first.expected_msats),
    )


def final_row(exchange: Exchange) -> RequestRow:
    """The row of a request that has ended (design.md, "Money" and "Ledger")."""
    attempts = exchange.attempts
    answering = exchange.answering
    shown = answering or (attempts[-1] if attempts else None)
    usage = (None if answering is None else answering.tryout.usage) or _NOTHING
    costs = [attempt_cost(attempt) for attempt in attempts]
    known = [cost.msats for cost in costs if cost.msats is not None]
    price = None if answering is None else answering.candidate.model.price
    baseline = exchange.ticket.route.baseline
    problem = exchange.problem
    bills = [a.tryout.bill for a in attempts if a.tryout.bill is not None]
    balances = [b.balance_msats for b in bills if b.balance_msats is not None]
    computed = None if price is None else computed_msats(price, usage)
    if baseline is None or baseline.price is None:
        saved_from = None
    else:
        saved_from = computed if baseline.price == price else computed_msats(baseline.price, usage)
    row = first_row(exchange.ticket)
    return msgspec.structs.replace(
        row,
        outcome=exchange.outcome,
        model=row.model if shown is None else shown.candidate.model.id or None,
        provider=row.provider if shown is None else shown.candidate.model.provider,
        status=exchange.status,
        error_code=_error_code(exchange),
        error_message=None if problem is None else problem.message[:_MESSAGE_CHARS],
        attempts=len(attempts),
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated_msats=None if shown is None else _whole(shown.candidate.expected_msats),
        cost_msats=sum(known) if known else None,
        cost_source=_source(costs, None if answering is None else costs[answering.n - 1]),
        computed_msats=computed,
        baseline_msats=saved_from,
        balance_msats=balances[-1] if balances else None,
        upstream_priced=any(bill.upstream_priced for bill in bills),
        ttft_ms=_ms(exchange.ticket.started_s, exchange.first_token_s),
        latency_ms=_ms(exchange.ticket.started_s, exchange.ended_s),
        prompt_bytes=None if exchange.ticket.ask.images else exchange.ticket.ask.prompt_bytes,
    )


def refused_row(
    ticket: Ticket, *, status: int, code: str, message: str, ended_s: float
) -> RequestRow:
    """The row of a request that we refused ourselves: nothing was sent."""
    route = ticket.route
    return RequestRow(
        id=ticket.id,
        instance=ticket.instance,
        started_at=ticket.started_ms,
        endpoint=ticket.endpoint,
        outcome="refused",
        client=ticket.client,
        requested_model=route.requested or None,
        policy=route.choice.name,
        policy_source=route.choice.source,
        stream=ticket.ask.stream,
        status=status,
        error_code=code,
        error_message=message[:_MESSAGE_CHARS],
        cost_msats=0,
        cost_source="computed",
        latency_ms=_ms(ticket.started_s, ended_s),
    )


def _source(costs: list[Cost], answering: Cost | None) -> CostSource:
    """Who says what the request cost: of the answer if that is known, else of the rest."""
    if answering is not None and answering.msats is not None:
        return answering.source
    sources = {cost.source for cost in costs if cost.msats is not None}
    return "billed" if "billed" in sources else "computed" if sources else "unknown"


def _error_code(exchange: Exchange) -> str | None:
    if exchange.problem is None:
        return None
    return exchange.problem.code or exchange.problem.type


def _ms(start_s: float, end_s: float | None) -> int | None:
    return None if end_s is None else max(0, round((end_s - start_s) * 1000))


def _whole(msats: float | None) -> int | None:
    return None if msats is None else round(msats)

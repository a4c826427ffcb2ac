"""A routing decision, told: for ``POST /v1/cost``, ``x-arbstr-explain`` and ``arbstr explain``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from arbstr.core.ask import Ask
from arbstr.core.price import MSATS_PER_SAT, sats
from arbstr.core.route import Candidate, NoModelError, Route
from arbstr.core.shortlist import Refusal


def explain(ask: Ask, route: Route) -> dict[str, object]:
    """The decision as JSON: policy and why, candidates in their order, refusals with reasons.

    Amounts are sats (exact decimals as strings), rates sats per 1,000 tokens.
    """
    return {
        "object": "arbstr.route",
        "requested_model": route.requested,
        "policy": route.choice.name,
        "policy_source": route.choice.source,
        "strategy": None if route.choice.rule is None else route.choice.rule.strategy,
        "request": {
            "prompt_bytes": ask.prompt_bytes,
            "max_output": ask.max_output,
            "stream": ask.stream,
            "tools": ask.tools,
            "images": ask.images,
            "json_mode": ask.json_mode,
            "conversation": ask.conversation is not None,
        },
        "candidates": [_candidate(n, c) for n, c in enumerate(route.candidates, 1)],
        "refusals": _refusals(route.refusals),
        "not_allowed": _refusals(route.outside),
    }


def explain_refusal(error: NoModelError) -> dict[str, object]:
    """Why nobody can be tried."""
    return {
        "object": "arbstr.route",
        "error": {"message": error.message, "code": error.code, "status": error.status},
        "candidates": [],
        "refusals": _refusals(error.refusals),
        "near": list(error.near),
    }


def _candidate(n: int, candidate: Candidate) -> dict[str, object]:
    model = candidate.model
    return {
        "n": n,
        "model": model.id,
        "provider": model.provider,
        "expected_sats": sats(candidate.expected_msats),
        "turn_sats": sats(candidate.turn_msats),
        "input_tokens": round(candidate.input_tokens),
        "cached_tokens": round(candidate.cached_tokens),
        "output_tokens": round(candidate.output_tokens),
        "samples": round(candidate.samples),
        "input_rate": None if model.price is None else str(model.price.input),
        "output_rate": None if model.price is None else str(model.price.output),
        "reservation_sats": (
            None
            if candidate.reservation_msats is None
            else round(candidate.reservation_msats / MSATS_PER_SAT, 3)
        ),
        "max_tokens": candidate.max_tokens,
        "note": candidate.note,
    }


def _refusals(refusals: Sequence[Refusal]) -> list[Mapping[str, object]]:
    return [{"model": r.model, "provider": r.provider, "reason": r.reason} for r in refusals]

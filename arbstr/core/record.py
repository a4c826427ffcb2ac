"""What the ledger keeps of one request: frozen rows, named as its columns."""

from __future__ import annotations

from typing import Literal

import msgspec

from arbstr.core.price import CostSource

type Outcome = Literal["ok", "error", "refused", "interrupted", "client_closed", "in_flight"]


class AttemptRow(msgspec.Struct, frozen=True):
    """One upstream try. `n` counts from 1. Times: UTC ms and durations in ms."""

    n: int
    provider: str
    model: str
    started_at: int
    outcome: Outcome
    status: int | None = None
    error_code: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_msats: int | None = None
    cost_source: CostSource = "unknown"
    ttft_ms: int | None = None
    latency_ms: int | None = None


class RequestRow(msgspec.Struct, frozen=True):
    """One request of a client. Column meanings: design.md, "Money" and "Ledger".

    `upstream_priced`: the bill followed the upstream's own cost, so a difference to
    `computed_msats` is labelled apart and is no overcharge.
    """

    id: int
    instance: str
    started_at: int
    endpoint: str
    outcome: Outcome
    client: str | None = None
    requested_model: str | None = None
    policy: str | None = None
    policy_source: str | None = None
    model: str | None = None
    provider: str | None = None
    stream: bool = False
    status: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    attempts: int = 0
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated_msats: int | None = None
    cost_msats: int | None = None
    cost_source: CostSource = "unknown"
    computed_msats: int | None = None
    baseline_msats: int | None = None
    balance_msats: int | None = None
    upstream_priced: bool = False
    ttft_ms: int | None = None
    latency_ms: int | None = None
    prompt_bytes: int | None = None
    """As in `Ask`, for the forecast; None where the request held images."""


class LateCost(msgspec.Struct, frozen=True):
    """The cost of an attempt that was given up by time-out and read on in the background."""

    request_id: int
    n: int
    input_tokens: int | None
    output_tokens: int | None
    cost_msats: int | None
    cost_source: CostSource
    balance_msats: int | None = None


class PriceRow(msgspec.Struct, frozen=True):
    """What a model cost at a provider from `at_ms` (UTC ms) on.

    Rates: exact decimals, msats a token.

    `raw` is the catalog entry as the sync encoded it; the ledger keeps it on the latest row of each
    model only. `seen_ms`: when a sync last found this very price; None, when writing, is `at_ms`.
    """

    provider: str
    model: str
    at_ms: int
    input_rate: str
    output_rate: str
    cached_rate: str | None = None
    cache_write_rate: str | None = None
    base_fee_msats: str = "0"
    raw: bytes | None = None
    seen_ms: int | None = None

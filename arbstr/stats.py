"""The figures behind ``GET /v1/stats`` and ``GET /v1/requests``: a query string in, JSON out.

The commands show the same totals (`arbstr.commands.costs`): both ask `arbstr.ledger.queries`. What
reads the ledger blocks. A bad query is a ValueError that names the parameter and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from arbstr.core.moments import LOCAL, iso_time, moment
from arbstr.core.price import MSATS_PER_SAT
from arbstr.core.record import AttemptRow, Outcome, RequestRow
from arbstr.ledger.queries import By, Filters, Reader, Totals

_HOUR_MS = 3_600_000
RANGES: Mapping[str, int] = {
    "last_1h": _HOUR_MS,
    "last_24h": 24 * _HOUR_MS,
    "last_7d": 7 * 24 * _HOUR_MS,
    "last_30d": 30 * 24 * _HOUR_MS,
}
_DEFAULT_RANGE = "last_7d"
_GROUPS: tuple[By, ...] = get_args(By.__value__)
_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome.__value__)
_SPAN = ("range", "since", "until")
_NAMES = ("model", "provider", "policy", "client")
_STATS = (*_SPAN, *_NAMES, "group_by")
_REQUESTS = (*_SPAN, *_NAMES, "outcome", "failed", "page", "per_page", "sort", "order")
_SORTS: Mapping[str, str] = {
    "timestamp": "started_at",
    "cost_sats": "cost_msats",
    "latency_ms": "latency_ms",
    "ttft_ms": "ttft_ms",
    "output_tokens": "output_tokens",
    "model": "model",
}
_MOST_PER_PAGE = 100
_PER_PAGE = 20
_LAST_PAGE = 1_000_000


def stats_json(reader: Reader, query: Mapping[str, str], now_ms: int) -> dict[str, object]:
    """``GET /v1/stats``: the totals of a range (the last seven days), and of groups within it."""
    _refuse_unknown(query, _STATS)
    filters = read_filters(query, now_ms, default_range=_DEFAULT_RANGE)
    answer: dict[str, object] = {**_span_json(filters, now_ms)}
    answer |= totals_json(reader.totals(filters))
    if "group_by" in query:
        by = _one_of("group_by", query["group_by"], _GROUPS)
        groups = reader.groups(filters, by, tz=LOCAL)
        answer["group_by"] = by
        answer["groups"] = [{by: name, **totals_json(totals)} for name, totals in groups]
    return answer


def requests_json(reader: Reader, query: Mapping[str, str], now_ms: int) -> dict[str, object]:
    """``GET /v1/requests``: one page of requests, newest first but for `sort` and `order`."""
    _refuse_unknown(query, _REQUESTS)
    filters = read_filters(query, now_ms)
    page = _whole("page", query.get("page", "1"), _LAST_PAGE)
    per_page = _whole("per_page", query.get("per_page", str(_PER_PAGE)), _MOST_PER_PAGE)
    sort = _one_of("sort", query.get("sort", "timestamp"), tuple(_SORTS))
    order = _one_of("order", query.get("order", "desc"), ("asc", "desc"))
    rows, total = reader.requests(
        filters,
        sort=_SORTS[sort],
        descending=order == "desc",
        limit=per_page,
        offset=(page - 1) * per_page,
    )
    attempts = reader.attempts([row.id for row in rows])
    return {
        "data": [request_json(row, attempts.get(row.id, ())) for row in rows],
        "page": page,
        "per_page": per_page,
        "total": total,
        "total_pages": -(-total // per_page),
        **_span_json(filters, now_ms),
    }


def read_filters(
    query: Mapping[str, str], now_ms: int, *, default_range: str | None = None
) -> Filters:
    """Which requests a query asks for. Raises ValueError.

    ``since`` and ``until`` win over ``range``; `default_range` holds where none of them is there.
    """
    range_ = query.get("range")
    if range_ is None and "since" not in query and "until" not in query:
        range_ = default_range
    since_ms = None if range_ is None else now_ms - RANGES[_one_of("range", range_, tuple(RANGES))]
    if "since" in query:
        since_ms = _moment("since", query["since"], now_ms)
    until_ms = _moment("until", query["until"], now_ms, end=True) if "until" in query else None
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise ValueError(f"since: {iso_time(since_ms)} is not before until, {iso_time(until_ms)}")
    outcome = query.get("outcome")
    return Filters(
        since_ms=since_ms,
        until_ms=until_ms,
        **{name: query[name] for name in _NAMES if name in query},
        outcome=None if outcome is None else _one_of("outcome", outcome, _OUTCOMES),
        failed=_one_of("failed", query.get("failed", "false"), ("true", "false")) == "true",
    )


def totals_json(totals: Totals) -> dict[str, object]:
    """Totals as ``/v1/stats`` has them. Amounts are sats, exact to the msat; null is unknown."""
    return {
        "counts": {
            "total": totals.total,
            "success": totals.ok,
            "error": totals.error,
            "refused": totals.refused,
            "interrupted": totals.interrupted,
            "client_closed": totals.client_closed,
            "in_flight": totals.in_flight,
            "streaming": totals.streaming,
            "attempts": totals.attempts,
        },
        "costs": {
            "total_cost_sats": as_sats(spent_msats(totals)),
            "billed": totals.billed,
            "computed": totals.computed,
            "unknown": totals.unknown,
            "billed_sats": as_sats(totals.billed_msats),
            "computed_sats": as_sats(totals.computed_cost_msats),
            "expected_sats": as_sats(totals.expected_msats),
            "saved_sats": as_sats(totals.saved_msats),
            "overcharged": totals.overcharged,
            "overcharge_sats": as_sats(totals.overcharge_msats),
            "upstream_priced": totals.upstream_priced,
            "total_input_tokens": prompt_tokens(totals),
            "cached_input_tokens": totals.cached_tokens,
            "cache_write_input_tokens": totals.cache_write_tokens,
            "total_output_tokens": totals.output_tokens,
            "reasoning_tokens": totals.reasoning_tokens,
        },
        "performance": {
            "ttft_p50_ms": _whole_ms(totals.ttft_p50_ms),
            "ttft_p95_ms": _whole_ms(totals.ttft_p95_ms),
            "latency_p50_ms": _whole_ms(totals.latency_p50_ms),
            "latency_p95_ms": _whole_ms(totals.latency_p95_ms),
        },
    }


def request_json(row: RequestRow, attempts: tuple[AttemptRow, ...]) -> dict[str, object]:
    """One request and its attempts. The id is a string: JavaScript's numbers end at 53 bits."""
    failed = row.error_code is not None or row.error_message is not None
    return {
        "id": str(row.id),
        "timestamp": iso_time(row.started_at),
        "endpoint": row.endpoint,
        "client": row.client,
        "requested_model": row.requested_model,
        "policy": row.policy,
        "policy_source": row.policy_source,
        "model": row.model,
        "provider": row.provider,
        "streaming": row.stream,
        "outcome": row.outcome,
        "success": None if row.outcome == "in_flight" else row.outcome == "ok",
        "status": row.status,
        "tokens": {
            "input": row.input_tokens,
            "cached": row.cached_tokens,
            "cache_write": row.cache_write_tokens,
            "output": row.output_tokens,
            "reasoning": row.reasoning_tokens,
        },
        "cost": {
            "sats": as_sats(row.cost_msats),
            "source": row.cost_source,
            "estimated_sats": as_sats(row.estimated_msats),
            "computed_sats": as_sats(row.computed_msats),
            "baseline_sats": as_sats(row.baseline_msats),
            "balance_sats": as_sats(row.balance_msats),
            "upstream_priced": row.upstream_priced,
        },
        "timing": {"ttft_ms": row.ttft_ms, "latency_ms": row.latency_ms},
        "error": {"code": row.error_code, "message": row.error_message} if failed else None,
        "attempts": [_attempt_json(attempt) for attempt in attempts],
    }


def spent_msats(totals: Totals) -> int | None:
    """What is known to have been spent; None where something was and none of it is known."""
    if totals.unknown and not totals.billed and not totals.computed and not totals.cost_msats:
        return None
    return totals.cost_msats


def prompt_tokens(totals: Totals) -> int:
    """All input: fresh, read from a cache, written to one."""
    return totals.input_tokens + totals.cached_tokens + totals.cache_write_tokens


def as_sats(msats: int | None) -> float | None:
    """Msats as a JSON number of sats."""
    return None if msats is None else msats / MSATS_PER_SAT


def _whole_ms(ms: float | None) -> int | None:
    """Percentiles are good to 5 %: decimals would say more than is known."""
    return None if ms is None else round(ms)


def _attempt_json(attempt: AttemptRow) -> dict[str, object]:
    return {
        "n": attempt.n,
        "provider": attempt.provider,
        "model": attempt.model,
        "timestamp": iso_time(attempt.started_at),
        "outcome": attempt.outcome,
        "status": attempt.status,
        "error_code": attempt.error_code,
        "tokens": {"input": attempt.input_tokens, "output": attempt.output_tokens},
        "cost": {"sats": as_sats(attempt.cost_msats), "source": attempt.cost_source},
        "timing": {"ttft_ms": attempt.ttft_ms, "latency_ms": attempt.latency_ms},
    }


def _span_json(filters: Filters, now_ms: int) -> dict[str, object]:
    until_ms = now_ms if filters.until_ms is None else filters.until_ms
    return {
        "since": None if filters.since_ms is None else iso_time(filters.since_ms),
        "until": iso_time(until_ms),
    }


def _refuse_unknown(query: Mapping[str, str], known: tuple[str, ...]) -> None:
    for name in query:
        if name not in known:
            raise ValueError(f"{name}: no such parameter; allowed: {', '.join(known)}")


def _one_of[T: str](name: str, value: str, choices: tuple[T, ...]) -> T:
    for choice in choices:
        if choice == value:
            return choice
    raise ValueError(f"{name}: {value!r} is not known; allowed: {', '.join(choices)}")


def _whole(name: str, value: str, most: int) -> int:
    if value.isascii() and value.isdigit() and 1 <= int(value[:10]) <= most and len(value) <= 10:
        return int(value)
    raise ValueError(f"{name}: {value!r} does not fit; allowed: a whole number from 1 to {most:,}")


def _moment(name: str, value: str, now_ms: int, *, end: bool = False) -> int:
    if "T" in value:
        value = value.replace(" ", "+")  # a zone's plus sign that nobody has escaped
    try:
        return moment(value, now_ms, end=end)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None

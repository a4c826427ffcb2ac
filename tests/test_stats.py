"""``GET /v1/stats`` and ``GET /v1/requests``: a query in, JSON out, on real ledgers."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from arbstr.ledger.queries import Reader
from arbstr.stats import requests_json, stats_json
from tests.ledger_helpers import DAY_MS, HOUR_MS, after_a_failure, answered, running, write

NOW = 1_795_000_000_123  # 2026-11-18T11:06:40.123Z


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spend.db"


@pytest.fixture
def reader(path: Path) -> Iterator[Reader]:
    reader = Reader(path)
    yield reader
    reader.close()


def stats(reader: Reader, query: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
    return json.loads(json.dumps(stats_json(reader, query or {}, NOW)))


def requests(reader: Reader, query: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
    return json.loads(json.dumps(requests_json(reader, query or {}, NOW)))


def test_stats_are_those_of_the_last_7_days(path: Path, reader: Reader) -> None:
    write(path, [answered(NOW - HOUR_MS), answered(NOW - 6 * DAY_MS), answered(NOW - 8 * DAY_MS)])

    told = stats(reader)

    assert (told["since"], told["until"]) == (
        "2026-11-11T11:06:40.123Z",
        "2026-11-18T11:06:40.123Z",
    )
    assert told["counts"]["total"] == told["counts"]["success"] == 2
    assert told["costs"]["total_cost_sats"] == 0.824
    assert told["costs"]["saved_sats"] == 2.472
    assert (told["costs"]["billed"], told["costs"]["unknown"]) == (2, 0)
    assert told["costs"]["total_input_tokens"] == 2400
    assert told["costs"]["total_output_tokens"] == 600
    assert told["performance"]["ttft_p50_ms"] == pytest.approx(410, rel=0.05)
    assert "groups" not in told


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ({"range": "last_1h"}, 1),
        ({"range": "last_24h"}, 2),
        ({"range": "last_30d"}, 4),
        ({"since": "2026-11-18T10:30:00Z"}, 1),
        ({"since": "2026-11-18T10:30:00+00:00"}, 1),
        ({"since": "2026-11-18T10:30:00 00:00"}, 1),
        ({"since": "5d", "range": "last_1h"}, 3),
        ({"until": "2026-11-17T00:00:00Z"}, 2),
        ({"range": "last_30d", "model": "gpt-4o"}, 1),
        ({"range": "last_30d", "provider": "routstr"}, 4),
        ({"range": "last_30d", "policy": "none of them"}, 0),
        ({"range": "last_30d", "client": "OpenAI/Python 3.54.0"}, 4),
    ],
)
def test_stats_of_a_range_and_of_filters(
    path: Path, reader: Reader, query: Mapping[str, str], total: int
) -> None:
    ages = (HOUR_MS // 2, 3 * HOUR_MS, 3 * DAY_MS)
    old = answered(NOW - 20 * DAY_MS, "gpt-4o")
    write(path, [old, *(answered(NOW - age) for age in ages)])
    assert stats(reader, query)["counts"]["total"] == total


def test_groups_have_the_same_sections_as_the_whole(path: Path, reader: Reader) -> None:
    write(
        path,
        [
            answered(NOW, "cheap", n=1, cost_msats=1),
            answered(NOW, "dear", n=2, cost_msats=5000),
            answered(NOW - DAY_MS, "dear", n=3, cost_msats=5000),
        ],
    )

    told = stats(reader, {"group_by": "model"})

    assert told["group_by"] == "model"
    assert [(g["model"], g["counts"]["total"]) for g in told["groups"]] == [
        ("dear", 2),
        ("cheap", 1),
    ]
    assert told["groups"][0].keys() == {"model", "counts", "costs", "performance"}
    days = stats(reader, {"group_by": "day"})["groups"]
    assert [day["counts"]["total"] for day in days] == [1, 2]
    sums = sum(g["costs"]["total_cost_sats"] for g in told["groups"])
    assert sums == told["costs"]["total_cost_sats"] == 10.001


def test_unknown_is_null_and_nothing_is_zero(path: Path, reader: Reader) -> None:
    assert stats(reader)["costs"]["total_cost_sats"] == 0
    assert stats(reader)["performance"]["latency_p95_ms"] is None
    write(path, [answered(NOW, cost_msats=None)])
    assert stats(reader)["costs"]["total_cost_sats"] is None
    assert requests(reader)["data"][0]["cost"] == {
        "sats": None,
        "source": "unknown",
        "estimated_sats": 0.4,
        "computed_sats": None,
        "baseline_sats": None,
        "balance_sats": None,
        "upstream_priced": False,
    }


def test_requests_come_newest_first_with_their_attempts(path: Path, reader: Reader) -> None:
    write(path, [answered(NOW - 2000), after_a_failure(answered(NOW - 1000), "gpt-4o", 500)])

    told = requests(reader)

    assert (told["page"], told["per_page"], told["total"], told["total_pages"]) == (1, 20, 2, 1)
    newest, oldest = told["data"]
    assert newest["timestamp"] == "2026-11-18T11:06:39.123Z"
    assert newest["id"] == str((NOW - 1000) << 20)
    assert [(a["model"], a["outcome"], a["status"]) for a in newest["attempts"]] == [
        ("gpt-4o", "error", 500),
        ("deepseek-chat", "ok", 200),
    ]
    assert newest["success"] is True
    assert newest["error"] is None
    assert newest["tokens"] == {
        "input": 1000,
        "cached": 200,
        "cache_write": None,
        "output": 300,
        "reasoning": None,
    }
    assert oldest["cost"]["sats"] == 0.412
    assert oldest["timing"] == {"ttft_ms": 410, "latency_ms": 2300}


def test_pages_sort_and_order(path: Path, reader: Reader) -> None:
    write(path, [answered(NOW - n * 1000, n=n, cost_msats=100 * n) for n in range(1, 6)])

    page = requests(reader, {"per_page": "2", "page": "2", "sort": "cost_sats", "order": "asc"})

    assert [row["cost"]["sats"] for row in page["data"]] == [0.3, 0.4]
    assert (page["total"], page["total_pages"]) == (5, 3)
    assert requests(reader, {"page": "9"})["data"] == []


def test_failed_ones_and_outcomes(path: Path, reader: Reader) -> None:
    error = answered(NOW - 1, outcome="error", status=502, error_code="x", error_message="y")
    write(path, [answered(NOW), error, answered(NOW - 2, outcome="client_closed")])

    (failed,) = requests(reader, {"failed": "true"})["data"]

    assert failed["error"] == {"code": "x", "message": "y"}
    assert (failed["success"], failed["status"]) == (False, 502)
    assert requests(reader, {"outcome": "client_closed"})["total"] == 1
    assert requests(reader, {"failed": "false"})["total"] == 3


def test_what_still_runs_is_neither_success_nor_failure(path: Path, reader: Reader) -> None:
    with running(path) as put:
        put(answered(NOW, outcome="in_flight", cost_msats=None))
        told = requests(reader, {"since": "1h"})["data"][0]
        assert (told["outcome"], told["success"]) == ("in_flight", None)
        assert stats(reader)["counts"]["in_flight"] == 1


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"rnage": "last_1h"}, "rnage: no such parameter; allowed: range, since, until, model"),
        (
            {"range": "1h"},
            "range: '1h' is not known; allowed: last_1h, last_24h, last_7d, last_30d",
        ),
        ({"since": "x"}, "since: 'x' is no time; allowed: 90m, 24h"),
        ({"until": "x"}, "until: 'x' is no time; allowed: 90m, 24h"),
        ({"since": "1h", "until": "2h"}, "since: 2026-11-18T10:06:40.123Z is not before until"),
        ({"group_by": "color"}, "group_by: 'color' is not known; allowed: model, provider, policy"),
    ],
)
def test_a_bad_stats_query_says_what_is_allowed(
    reader: Reader, query: Mapping[str, str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        stats_json(reader, query, NOW)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"page": "0"}, "page: '0' does not fit; allowed: a whole number from 1 to 1,000,000"),
        ({"page": "-1"}, "page: '-1' does not fit"),
        ({"page": "9" * 400}, "page: '999"),
        (
            {"per_page": "101"},
            "per_page: '101' does not fit; allowed: a whole number from 1 to 100",
        ),
        ({"per_page": "\u0661"}, "per_page: "),
        ({"sort": "id; DROP TABLE"}, "sort: 'id; DROP TABLE' is not known; allowed: timestamp"),
        ({"order": "up"}, "order: 'up' is not known; allowed: asc, desc"),
        ({"failed": "yes"}, "failed: 'yes' is not known; allowed: true, false"),
        ({"outcome": "bad"}, "outcome: 'bad' is not known; allowed: ok, error"),
        ({"group_by": "model"}, "group_by: no such parameter; allowed: range"),
    ],
)
def test_a_bad_requests_query_says_what_is_allowed(
    reader: Reader, query: Mapping[str, str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        requests_json(reader, query, NOW)

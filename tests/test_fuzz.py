"""A short run of the fuzzer; `scripts/fuzz.py --seconds N` runs it for as long as one likes."""

from __future__ import annotations

from tests.fuzzing.run import fuzz


def test_nothing_is_found_in_a_few_seconds() -> None:
    report = fuzz(0.1, 20260101, examples=25)
    assert report.failures == []
    assert sum(report.cases.values()) >= 9 * 25
    assert report.rows > 10
    assert {200, 400} <= report.statuses.keys()

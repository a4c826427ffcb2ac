"""Moments in words, and back."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from arbstr.core.moments import LOCAL, day_start, iso_time, moment

NOW = 1_795_000_000_123  # 2026-11-18T11:06:40.123Z


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone with summer time: UTC+2 until 2026-10-25 03:00, then UTC+1."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", "2026-11-18T09:36:40.123Z"),
        ("24h", "2026-11-17T11:06:40.123Z"),
        ("7d", "2026-11-11T11:06:40.123Z"),
        ("2w", "2026-11-04T11:06:40.123Z"),
        ("today", "2026-11-17T23:00:00.000Z"),
        ("yesterday", "2026-11-16T23:00:00.000Z"),
        ("2026-11-01", "2026-10-31T23:00:00.000Z"),
        ("2026-10-01", "2026-09-30T22:00:00.000Z"),
        ("2026-11-01T08:30", "2026-11-01T07:30:00.000Z"),
        ("2026-11-01 08:30", "2026-11-01T07:30:00.000Z"),
        ("2026-11-01T08:30Z", "2026-11-01T08:30:00.000Z"),
        ("2026-11-01T08:30:00.250-05:00", "2026-11-01T13:30:00.250Z"),
        (" 2026-11-01 ", "2026-10-31T23:00:00.000Z"),
    ],
)
@pytest.mark.usefixtures("berlin")
def test_a_moment_is_read_in_local_time(text: str, expected: str) -> None:
    assert iso_time(moment(text, NOW)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", "2026-11-01T23:00:00.000Z"),
        ("today", "2026-11-18T23:00:00.000Z"),
        ("2026-11-01T08:30Z", "2026-11-01T08:30:00.000Z"),
        ("1h", "2026-11-18T10:06:40.123Z"),
    ],
)
@pytest.mark.usefixtures("berlin")
def test_at_the_end_of_a_range_a_day_means_all_of_it(text: str, expected: str) -> None:
    assert iso_time(moment(text, NOW, end=True)) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "7", "d", "-7d", "2026-13-01", "2026-11-31", "9999999d", "\u0667d", "7 d"]
)
def test_what_is_no_moment_is_refused_and_says_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time; allowed: 90m, 24h, 7d"):
        moment(text, NOW)


def test_a_time_before_the_epoch_is_the_epoch() -> None:
    assert moment("999999w", NOW) == 0


@pytest.mark.usefixtures("berlin")
def test_a_day_with_a_change_of_clocks_has_its_own_length() -> None:
    summer_ends = round(datetime(2026, 10, 25, 12, tzinfo=UTC).timestamp() * 1000)
    hours = (day_start(summer_ends, 1) - day_start(summer_ends)) / 3_600_000
    assert hours == 25


@pytest.mark.usefixtures("berlin")
def test_the_local_zone_has_the_offset_of_each_moment() -> None:
    summer = datetime(2026, 7, 1, 12, tzinfo=UTC).astimezone(LOCAL)
    winter = datetime(2026, 12, 1, 12, tzinfo=UTC).astimezone(LOCAL)
    assert (summer.utcoffset(), winter.utcoffset()) == (timedelta(hours=2), timedelta(hours=1))
    assert (summer.hour, winter.hour) == (14, 13)
    assert summer.timestamp() == datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()

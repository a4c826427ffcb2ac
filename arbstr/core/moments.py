"""Moments as people write and read them; inside they are milliseconds since the epoch, UTC.

A date or time without a zone is meant in the local one.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_AGO = re.compile(r"([0-9]{1,6})([mhdw])")
_MINUTES = {"m": 1, "h": 60, "d": 1440, "w": 10_080}
_DAYS = {"today": 0, "yesterday": 1}
ALLOWED = "90m, 24h, 7d, 4w (ago), today, yesterday, 2026-11-23, 2026-11-23T08:00"


def moment(text: str, now_ms: int, *, end: bool = False) -> int:
    """UTC ms of a moment in words: one of the kinds in `ALLOWED`, or any time of ISO 8601.

    A day means its first moment; with `end`, where a range ends, the first of the day after.

    Raises ValueError.
    """
    word = text.strip()
    if (ago := _AGO.fullmatch(word)) is not None:
        return max(0, now_ms - int(ago[1]) * _MINUTES[ago[2]] * 60_000)
    try:
        if word in _DAYS:
            return day_start(now_ms, -_DAYS[word] + end)
        if len(word) == len("2026-11-23"):
            return _midnight(date.fromisoformat(word) + timedelta(days=end))
        found = datetime.fromisoformat(word)
        return max(0, round(found.timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is no time; allowed: {ALLOWED}") from None


def day_start(now_ms: int, days: int = 0) -> int:
    """UTC ms at which the local day of `now_ms` began, or the day that lies `days` after it."""
    return _midnight(datetime.fromtimestamp(now_ms / 1000).astimezone().date() + timedelta(days))


def iso_time(ms: int) -> str:
    """UTC milliseconds as ISO 8601: ``2026-11-23T03:15:22.123Z``."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _midnight(day: date) -> int:
    # Through the naive local time, so that the zone's offset is the one of that day.
    return max(0, round(datetime.combine(day, time()).timestamp() * 1000))


class _Local(tzinfo):
    """The zone of this machine, with its summer times (`datetime.astimezone` fixes one offset)."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None if dt is None else timedelta(0)

    def tzname(self, dt: datetime | None) -> str | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime) -> datetime:
        return dt.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


LOCAL: tzinfo = _Local()
"""Local time, for days that begin at the local midnight."""

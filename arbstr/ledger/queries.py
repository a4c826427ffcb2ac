"""Reading the ledger: rows, totals, prices."""

# ruff: noqa: S608 - the statements are put together from names and numbers of our own

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, Literal

import msgspec
from peewee import SQL, Select, Tuple, fn

from arbstr.core.record import AttemptRow, PriceRow, RequestRow
from arbstr.ledger.database import LedgerError
from arbstr.ledger.reading import Snapshot, Source
from arbstr.ledger.rollup import HOUR_MS
from arbstr.ledger.tables import (
    FAILED,
    IN_FLIGHT,
    NAMED,
    OK,
    OUTCOMES,
    REQUEST_COLUMNS,
    Attempt,
    Name,
    Price,
    Request,
    unpack_attempt,
    unpack_request,
)
from arbstr.ledger.totals import Filters, Totals, summed

__all__ = ["By", "Filters", "LedgerError", "Reader", "Totals"]

type By = Literal["model", "provider", "policy", "client", "day", "hour"]
type Group = tuple[str | None, Totals]

_PAGE_ROWS = 2000
_NOTHING = Totals()
_SPAN = (
    f"SELECT min(hour) * {HOUR_MS} FROM rollups"
    f" UNION ALL SELECT (max(hour) + 1) * {HOUR_MS} - 1 FROM rollups"
    " UNION ALL SELECT started_at FROM request_rows INDEXED BY request_rows_in_flight"
    f" WHERE outcome = {IN_FLIGHT}"
)


class Reader:
    """Reads the ledger at `path`. For one thread at a time; which one does not matter.

    A file that is not there yet has nothing in it. Every method raises LedgerError, one line, where
    the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._source = Source(path)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def totals(self, f: Filters) -> Totals:
        """What the requests of `f` add up to."""
        with self._source.snapshot() as ledger:
            return _NOTHING if ledger is None else _totals(ledger, f)

    def groups(self, f: Filters, by: By, *, tz: tzinfo = UTC) -> tuple[Group, ...]:
        """The totals of `f` by something: the dearest first, days and hours in their order.

        Days (``2025-01-31``) begin at midnight in `tz`; hours (``2025-01-31 13:00``) are those of
        UTC, told in `tz`. What has no request is left out; None is the group of those without.
        """
        with self._source.snapshot() as ledger:
            if ledger is None:
                return ()
            groups: list[Group]
            if by == "day":
                days = _days(ledger, f, tz)
                groups = [(str(day), _totals(ledger, part)) for day, part in days]
            else:
                found = summed(ledger.connection, f, _numbers(ledger, f), by)
                lows = ledger.lows()
                totals = sorted((key or 0, group.totals(lows)) for key, group in found.items())
                if by == "hour":
                    groups = [(_hour(key, tz), group) for key, group in totals]
                else:
                    groups = [(ledger.text(key), group) for key, group in totals]
                    groups.sort(key=lambda group: (-group[1].cost_msats, -group[1].total))
        return tuple(group for group in groups if group[1].total)

    def requests(
        self,
        f: Filters,
        *,
        sort: str = "started_at",
        descending: bool = True,
        limit: int = 20,
        offset: int = 0,
    ) -> tuple[tuple[RequestRow, ...], int]:
        """A page of the requests of `f`, and how many there are in all.

        `sort`: a column of `RequestRow`, else ValueError; unknown values come last.
        """
        if sort not in REQUEST_COLUMNS:
            raise ValueError(f"requests have no column {sort!r}")
        with self._source.snapshot() as ledger:
            if ledger is None:
                return (), 0
            found = _conditions(ledger, f)
            query = _select().where(*found) if found else _select()
            query = query.order_by(*_order(sort, descending=descending)).limit(limit).offset(offset)
            return _rows(ledger, query), _sum(ledger, f, "requests")

    def request(self, id: int) -> tuple[RequestRow, tuple[AttemptRow, ...]] | None:  # noqa: A002
        """One request and its attempts; None where there is none."""
        with self._source.snapshot() as ledger:
            rows = () if ledger is None else _rows(ledger, _select().where(Request.id == id))
            if ledger is None or not rows:
                return None
            return rows[0], _attempts(ledger, [id]).get(id, ())

    def attempts(self, ids: Sequence[int]) -> dict[int, tuple[AttemptRow, ...]]:
        """The attempts of the requests `ids`, in their order; a request without any is left out."""
        with self._source.snapshot() as ledger:
            return {} if ledger is None else _attempts(ledger, ids)

    def newer(self, after_id: int, limit: int) -> tuple[RequestRow, ...]:
        """At most `limit` requests that have ended, with ids above `after_id`, in their order.

        A request has its id from its start, so a slow one ends below ids that were seen already:
        whoever follows remembers `in_flight` and asks for those by `request`.
        """
        with self._source.snapshot() as ledger:
            if ledger is None:
                return ()
            query = _select().where(Request.id > after_id, Request.outcome != IN_FLIGHT)
            return _rows(ledger, query.order_by(Request.id).limit(limit))

    def in_flight(self) -> tuple[int, ...]:
        """The ids of the requests that have not ended, in their order."""
        with self._source.snapshot() as ledger:
            if ledger is None:
                return ()
            found = ledger.connection.execute(
                "SELECT id FROM request_rows INDEXED BY request_rows_in_flight"
                f" WHERE outcome = {IN_FLIGHT} ORDER BY id"
            )
            return tuple(request_id for (request_id,) in found.fetchall())

    def export(self, f: Filters) -> Iterator[RequestRow]:
        """All requests of `f`, oldest first; read in pages: the WAL can shrink meanwhile."""
        after = (-1, -1)
        while True:
            with self._source.snapshot() as ledger:
                if ledger is None:
                    return
                beyond = (Request.started_at > after[0]) | (Request.id > after[1])
                query = _select().where(
                    *_conditions(ledger, f), Request.started_at >= after[0], beyond
                )
                query = query.order_by(Request.started_at, Request.id).limit(_PAGE_ROWS)
                rows = _rows(ledger, query)
            yield from rows
            if len(rows) < _PAGE_ROWS:
                return
            after = (rows[-1].started_at, rows[-1].id)

    def answers(self, since_ms: int, limit: int) -> Iterator[RequestRow]:
        """The newest `limit` answered requests whose output is known, the oldest first."""
        with self._source.snapshot() as ledger:
            if ledger is None:
                return
            query = _select().where(
                Request.started_at >= since_ms,
                Request.outcome == OK,
                Request.output_tokens.is_null(False),  # noqa: FBT003 - peewee's
            )
            newest = _order("started_at", descending=True)
            rows = _rows(ledger, query.order_by(*newest).limit(limit))
        yield from reversed(rows)

    def spent_msats(self, since_ms: int, policy: str | None = None) -> int:
        """What is known to have been spent since `since_ms` under `policy`; None: under all."""
        with self._source.snapshot() as ledger:
            f = Filters(since_ms=since_ms, policy=policy)
            return 0 if ledger is None else _sum(ledger, f, "cost_msats")

    def prices(self) -> tuple[PriceRow, ...]:
        """The latest price of each model at each provider."""
        with self._source.snapshot() as ledger:
            if ledger is None:
                return ()
            key = (Price.provider, Price.model)
            latest = Price.select(*key, fn.MAX(Price.at_ms)).group_by(*key)
            query = Price.select().where(Tuple(*key, Price.at_ms).in_(latest)).order_by(*key)
            return tuple(PriceRow(*values) for values in _values(ledger, query))


def _totals(ledger: Snapshot, f: Filters) -> Totals:
    return summed(ledger.connection, f, _numbers(ledger, f))[None].totals(ledger.lows())


def _sum(ledger: Snapshot, f: Filters, name: str) -> int:
    """One measure of `f`."""
    numbers = _numbers(ledger, f)
    return summed(ledger.connection, f, numbers, names=(name,), times=False)[None].numbers[name]


def _numbers(ledger: Snapshot, f: Filters) -> dict[str, int]:
    asked = {"model": f.model, "provider": f.provider, "policy": f.policy, "client": f.client}
    return {name: ledger.number(text) for name, text in asked.items() if text is not None}


# peewee's own types are of no help with expressions: its `==` is a bool to mypy. Hence Any.


def _conditions(ledger: Snapshot, f: Filters) -> list[Any]:
    found: list[Any] = [
        getattr(Request, name) == number for name, number in _numbers(ledger, f).items()
    ]
    if f.since_ms is not None:
        found.append(Request.started_at >= f.since_ms)
    if f.until_ms is not None:
        found.append(Request.started_at < f.until_ms)
    if f.outcome is not None:
        found.append(Request.outcome == OUTCOMES[f.outcome])
    if f.failed:
        found.append(Request.outcome.in_(FAILED))
    return found


def _order(sort: str, *, descending: bool) -> list[Any]:
    column: Any = getattr(Request, sort)
    if sort in NAMED:
        column = fn.LOWER(Name.select(Name.text).where(Name.id == column))
    known = [] if sort in {"id", "started_at"} else [column.is_null()]
    ties = [] if sort == "id" else [Request.id]
    return [*known, *(c.desc() if descending else c.asc() for c in (column, *ties))]


def _select() -> Any:  # noqa: ANN401 - see above
    return Request.select()


def _rows(ledger: Snapshot, query: Any) -> tuple[RequestRow, ...]:  # noqa: ANN401 - see above
    return tuple(unpack_request(values, ledger.text) for values in _values(ledger, query))


def _values(ledger: Snapshot, query: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - see above
    sql, values = query.bind(ledger.database).sql()
    return ledger.connection.execute(sql, values).fetchall()


def _attempts(ledger: Snapshot, ids: Sequence[int]) -> dict[int, tuple[AttemptRow, ...]]:
    found: dict[int, list[AttemptRow]] = {}
    given = fn.json_each(json.dumps(list(ids)))  # one parameter, however many ids
    query = Attempt.select().where(Attempt.request_id.in_(Select([given], [SQL("value")])))
    for values in _values(ledger, query.order_by(Attempt.request_id, Attempt.n)):
        found.setdefault(values[0], []).append(unpack_attempt(values, ledger.text))
    return {request_id: tuple(rows) for request_id, rows in found.items()}


def _days(ledger: Snapshot, f: Filters, tz: tzinfo) -> Iterator[tuple[date, Filters]]:
    """The days of `tz` from the first request of `f` to its last, each with its part of `f`."""
    known = [ms for (ms,) in ledger.connection.execute(_SPAN) if ms is not None]
    if not known:
        return
    first_ms = min(known) if f.since_ms is None else max(min(known), f.since_ms)
    last_ms = max(known) if f.until_ms is None else min(max(known), f.until_ms - 1)
    day = datetime.fromtimestamp(first_ms / 1000, tz).date()
    while (start := _midnight_ms(day, tz)) <= last_ms:
        end = _midnight_ms(day + timedelta(days=1), tz)
        since = start if f.since_ms is None else max(start, f.since_ms)
        until = end if f.until_ms is None else min(end, f.until_ms)
        yield day, msgspec.structs.replace(f, since_ms=since, until_ms=until)
        day += timedelta(days=1)


def _midnight_ms(day: date, tz: tzinfo) -> int:
    return round(datetime.combine(day, time(), tz).timestamp() * 1000)


def _hour(hour: int, tz: tzinfo) -> str:
    return f"{datetime.fromtimestamp(hour * HOUR_MS / 1000, tz):%Y-%m-%d %H:%M}"

"""``arbstr requests``: what was asked and how it went, newest first, or as it comes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from arbstr.commands.costs import nothing
from arbstr.commands.failure import CommandError, UsageError, complain
from arbstr.commands.lines import SHORT_DIGITS, columns, line_row, one_line
from arbstr.commands.screen import Screen
from arbstr.commands.settings import ledger_path, now_ms, reading
from arbstr.commands.span import read_filters
from arbstr.core.record import RequestRow
from arbstr.ledger.queries import Filters, Reader
from arbstr.report import Row, csv_text, raw, render

_POLL_S = 0.5
_AGAIN = 5000 << 22
"""Ids begin with the time in ms: rows of the last five seconds are asked for again each time."""
_BATCH = 500
_SEARCHED = 10_000


def run(args: argparse.Namespace) -> int:
    """List, follow, or show one."""
    filters = read_filters(args, failed=args.failed)
    screen = Screen(sys.stdout, os.environ)
    path = ledger_path(args)
    with reading(path) as reader:
        if args.id is not None:
            from arbstr.commands.request import show_request  # noqa: PLC0415 - needs the router

            return show_request(args, reader, _named(reader, args.id), screen)
        if args.follow:
            if args.format == "markdown":
                raise UsageError("--follow goes with table, json or csv")
            if filters.until_ms is not None:
                raise UsageError("--follow has no end; leave out --until")
            _Follower(reader, filters, args.format, screen).run(args.limit)
        else:
            _list(reader, filters, args, screen)
    return 0


def _list(reader: Reader, filters: Filters, args: argparse.Namespace, screen: Screen) -> None:
    found, total = reader.requests(filters, limit=args.limit)
    if not found and args.format == "table":
        screen.line(nothing(filters))
        return
    rows = _rows(reader, found)
    screen.write(render(rows, columns(rows, args.format, now_ms()), args.format))
    if args.format == "table" and total > len(found):
        complain(f"the newest {len(found)} of {total:,}; --limit {min(total, 10 * args.limit)}")


def _rows(reader: Reader, found: Sequence[RequestRow]) -> list[Row]:
    attempts = reader.attempts([row.id for row in found])
    return [line_row(row, attempts.get(row.id, ())) for row in found]


def _named(reader: Reader, text: str) -> int:
    """The id that `text` is, or ends: the newest one with these last digits."""
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise UsageError(f"{text!r} is no id; an id is a whole number, as x-arbstr-request-id says")
    if len(text) < SHORT_DIGITS:
        raise UsageError(f"{text} is too short for an id: at least the last {SHORT_DIGITS} digits")
    if reader.request(int(text)) is not None:
        return int(text)
    rows, _ = reader.requests(Filters(), limit=_SEARCHED)
    for row in rows:
        if str(row.id).endswith(text):
            return row.id
    where = "" if len(rows) < _SEARCHED else f" among the newest {_SEARCHED:,}"
    raise CommandError(f"no request {text}{where}")


class _Follower:
    """Writes requests as they end. The first are those that have ended already."""

    def __init__(self, reader: Reader, filters: Filters, form: str, screen: Screen) -> None:
        self._reader = reader
        self._filters = filters
        self._form = form
        self._screen = screen
        self._seen: set[int] = set()
        self._running: set[int] = set()
        self._after = 0

    def run(self, limit: int) -> None:
        """Go on until Ctrl-C."""
        found, _ = self._reader.requests(self._filters, limit=limit)
        newest, _ = self._reader.requests(Filters(), sort="id", limit=1)
        self._after = newest[0].id if newest else now_ms() << 22
        self._running = set(self._reader.in_flight())
        # Those of the last seconds that are not shown (the filters, --limit) are not new either.
        self._seen = {row.id for row in self._lately()}
        self._write([row for row in reversed(found) if row.outcome != "in_flight"])
        while True:
            self._screen.flush()
            time.sleep(_POLL_S)
            self._write([row for row in self._new() if self._asked_for(row)])

    def _lately(self) -> list[RequestRow]:
        """All that has ended with an id of the last seconds or above."""
        found: list[RequestRow] = []
        after = max(0, self._after - _AGAIN)
        while page := self._reader.newer(after, _BATCH):
            found += page
            after = page[-1].id
        return found

    def _new(self) -> list[RequestRow]:
        """What has ended since the last time, in the order of the ids."""
        ended = {row.id: row for row in self._lately()}
        for request_id in self._running - ended.keys():
            known = self._reader.request(request_id)
            if known is not None and known[0].outcome != "in_flight":
                ended[request_id] = known[0]
        self._running = set(self._reader.in_flight()) | (self._running - ended.keys())
        new = [ended[i] for i in sorted(ended.keys() - self._seen)]
        self._after = max((self._after, *ended))
        self._seen = {i for i in self._seen if i > self._after - 2 * _AGAIN} | ended.keys()
        return new

    def _asked_for(self, row: RequestRow) -> bool:
        f = self._filters
        asked = ((f.model, row.model), (f.provider, row.provider), (f.policy, row.policy))
        if any(wanted is not None and wanted != value for wanted, value in asked):
            return False
        return not f.failed or row.outcome in ("error", "refused", "interrupted")

    def _write(self, found: Sequence[RequestRow]) -> None:
        for row in _rows(self._reader, found):
            if self._form == "table":
                self._screen.line(one_line(row))
                continue
            values = raw(row, columns((), self._form, 0))
            if self._form == "csv":
                self._screen.write(csv_text([values], tuple(values), heading=False))
            else:
                import json  # noqa: PLC0415 - a table needs none

                self._screen.line(json.dumps(values, ensure_ascii=False))

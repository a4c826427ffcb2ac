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
_AGAIN_MS = 5000
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
    """Writes requests as they end. The first are those that have ended already.

    Requests end in another order than they begin, and what began a moment before another may be
    written a moment after it. So each time all that began in the last seconds is looked at again,
    and whatever was seen running before that.
    """

    def __init__(self, reader: Reader, filters: Filters, form: str, screen: Screen) -> None:
        self._reader = reader
        self._filters = filters
        self._form = form
        self._screen = screen
        self._after_ms = now_ms()
        self._seen: dict[int, int] = {}
        self._running: set[int] = set()

    def run(self, limit: int) -> None:
        """Go on until Ctrl-C."""
        newest, _ = self._reader.requests(Filters(), limit=1)
        if newest:
            self._after_ms = newest[0].started_at
        # Those of the last seconds that are not shown (the filters, --limit) are not new either.
        self._new()
        found, _ = self._reader.requests(self._filters, limit=limit)
        ended = [row for row in reversed(found) if row.outcome != "in_flight"]
        self._seen |= {row.id: row.started_at for row in ended}
        self._write(ended)
        while True:
            self._screen.flush()
            time.sleep(_POLL_S)
            self._write([row for row in self._new() if self._asked_for(row)])

    def _new(self) -> list[RequestRow]:
        """What has ended since the last time, in the order of its start."""
        lately = Filters(since_ms=max(0, self._after_ms - _AGAIN_MS))
        found = {row.id: row for row in self._reader.export(lately)}
        for request_id in self._running - found.keys():
            if (known := self._reader.request(request_id)) is not None:
                found[request_id] = known[0]
        self._running = {i for i, row in found.items() if row.outcome == "in_flight"}
        self._running.update(self._reader.in_flight())
        ended = [row for row in found.values() if row.outcome != "in_flight"]
        new = [row for row in ended if row.id not in self._seen]
        self._after_ms = max((self._after_ms, *(row.started_at for row in new)))
        self._seen |= {row.id: row.started_at for row in new}
        old_ms = self._after_ms - 2 * _AGAIN_MS
        self._seen = {i: at for i, at in self._seen.items() if at >= old_ms or i in self._running}
        return sorted(new, key=lambda row: (row.started_at, row.id))

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

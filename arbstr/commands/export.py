"""``arbstr export``: the ledger's requests, whole, for other programs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from arbstr.commands.failure import CommandError
from arbstr.commands.screen import Screen
from arbstr.commands.settings import ledger_path, reading
from arbstr.commands.span import read_filters
from arbstr.core.moments import iso_time
from arbstr.core.record import RequestRow
from arbstr.report import Value, csv_text


class _Writable(Protocol):
    def write(self, text: str, /) -> object: ...


KEYS = RequestRow.__struct_fields__


def run(args: argparse.Namespace) -> int:
    """Write every request of the range, oldest first, a line each."""
    filters = read_filters(args)
    is_csv = args.format == "csv"
    count = 0
    with reading(ledger_path(args)) as reader, _opened(args.output) as file:
        if is_csv:
            file.write(csv_text((), KEYS))
        for row in reader.export(filters):
            values = exported(row)
            file.write(csv_text([values], KEYS, heading=False) if is_csv else _line(values))
            count += 1
    if args.output is not None:
        sys.stdout.write(f"{args.output}: {count:,} requests\n")
    return 0


def exported(row: RequestRow) -> dict[str, Value]:
    """A row under its columns' names; the time is ISO 8601 in UTC, amounts are msats.

    The id is text: it has more digits than many programs' numbers.
    """
    values: dict[str, Value] = msgspec.structs.asdict(row)
    return values | {"id": str(row.id), "started_at": iso_time(row.started_at)}


def _line(values: dict[str, Value]) -> str:
    return msgspec.json.encode(values).decode() + "\n"


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[_Writable]:
    """Open standard output, or a file that only its owner may read; an older one is replaced.

    What models and clients are called is nobody else's business. The file is written beside its
    name and moved there in the end: it is whole or not there.
    """
    if path is None:
        yield Screen(sys.stdout, os.environ)
        return
    path = path.expanduser()
    part = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a descriptor
            yield file
        part.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)

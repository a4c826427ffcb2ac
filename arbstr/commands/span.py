"""``--since``, ``--until``, ``--model`` and the like: which requests a command is about."""

from __future__ import annotations

import argparse

from arbstr.commands.failure import UsageError
from arbstr.commands.settings import now_ms
from arbstr.core.moments import iso_time, moment
from arbstr.ledger.queries import Filters


def when(option: str, text: str | None, *, end: bool = False) -> int | None:
    """The moment, UTC ms, that an option names. Raises UsageError."""
    if text is None:
        return None
    try:
        return moment(text, now_ms(), end=end)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def read_filters(args: argparse.Namespace, *, failed: bool = False) -> Filters:
    """The filters of a command's arguments. Raises UsageError."""
    since_ms, until_ms = when("--since", args.since), when("--until", args.until, end=True)
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        told = f"{iso_time(since_ms)} is not before {iso_time(until_ms)}"
        raise UsageError(f"--since comes after --until: {told}")
    return Filters(
        since_ms=since_ms,
        until_ms=until_ms,
        model=args.model,
        provider=args.provider,
        policy=args.policy,
        failed=failed,
    )

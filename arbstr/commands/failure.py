"""How a command fails: a line, or a few, and an exit code."""

from __future__ import annotations

import sys


class CommandError(Exception):
    """The command cannot do what it was asked to. Each of its `args` is one line for the user."""

    code = 1


class UsageError(CommandError):
    """The command was asked for something that makes no sense."""

    code = 2


def complain(*lines: str) -> None:
    """Say `lines` on standard error, each under the program's name."""
    for line in lines:
        text = f"arbstr: {line}\n"
        encoding = sys.stderr.encoding or "ascii"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))

"""``arbstr serve``: the proxy. The one command that loads mitmproxy."""

from __future__ import annotations

import argparse

from arbstr.commands.failure import UsageError
from arbstr.commands.settings import config_path
from arbstr.config.addresses import listen


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C or SIGTERM."""
    if args.listen is not None:
        try:
            listen(args.listen)
        except ValueError as error:
            raise UsageError(f"--listen: {args.listen!r} {error}") from None
    from arbstr.proxy.serve import serve  # noqa: PLC0415 - a second to load; usage errors come first

    return serve(config_path(args), mock=args.mock, listen=args.listen, verbose=args.verbose)

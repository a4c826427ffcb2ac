"""`python -m arbstr.mock`: the mock node on its own, until Ctrl-C."""

import argparse
import asyncio
import contextlib
import sys

from arbstr.mock.faults import FAULTS
from arbstr.mock.node import DEFAULT_KEY, MockNode


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m arbstr.mock", description=__doc__)
    parser.add_argument("--port", type=int, default=8401, help="0 takes any (default: 8401)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--balance-sats", type=int, default=10_000)
    parser.add_argument("--token-delay-ms", type=float, default=0.0)
    parser.add_argument("--stall-ms", type=float, default=600_000.0)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> None:
    node = MockNode(
        balance_msats=options.balance_sats * 1000,
        token_delay_ms=options.token_delay_ms,
        stall_ms=options.stall_ms,
    )
    await node.start(options.port, options.host)
    lines = [f"mock node: {node.url}   key: {DEFAULT_KEY}", "misbehaving models:"]
    for row in FAULTS.values():
        names = ", ".join(name for name, _ in row.models)
        lines += [f"  {names}", f"      streamed: {row.streamed}", f"      plain: {row.plain}"]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await node.stop()


if __name__ == "__main__":
    main()

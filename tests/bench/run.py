"""The benchmarks on the command line; every figure of a table comes from one run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.bench import peers, report
from tests.bench.contenders import OURS
from tests.bench.ledger import ledger
from tests.bench.memory import memory
from tests.bench.options import Options
from tests.bench.report import Verdict
from tests.bench.route import route
from tests.bench.stall import stall
from tests.bench.start import start
from tests.bench.streams import stream
from tests.bench.throughput import body, proxy

BENCHMARKS: Mapping[str, tuple[Callable[[Options], list[Verdict]], str]] = {
    "proxy": (proxy, "throughput at 1, 8 and 64 connections; sequential p50 and p99"),
    "stream": (stream, "time to the first token, gap between tokens, 1 to 200 streams at once"),
    "body": (body, "request bodies from 1 KB to 8 MB"),
    "memory": (memory, "resident memory: at start, after 50,000 requests, with 200 open streams"),
    "ledger": (ledger, "30-day figures of a large ledger; requests while they are asked for"),
    "route": (route, "one routing decision with 300 models"),
    "stall": (stall, "callbacks over 20 ms under a mixed load"),
    "start": (start, "time to the first answer; arbstr --help; arbstr costs"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark; 1 where a bar is missed and ``--check`` asks for that."""
    args = _parser().parse_args(argv)
    run, _ = BENCHMARKS[args.benchmark]
    place: Path | None = None
    found: dict[str, str] = {}
    if args.peers:
        place = args.peers_folder
        place.mkdir(parents=True, exist_ok=True)
        found = peers.install(place)
    print(report.machine(found))
    names = [name for name in (*OURS, *found) if args.only is None or name in args.only]
    with tempfile.TemporaryDirectory(prefix="arbstr-bench-") as folder:
        options = Options(args.rounds, args.seconds, args.count, names, place, Path(folder))
        verdicts = run(options)
    report.show_verdicts(verdicts)
    missed = [verdict for verdict in verdicts if not verdict.met]
    return 1 if args.check and missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench.py",
        description="arbstr beside the bare upstream, bare mitmdump and its peers, interleaved.",
    )
    kinds = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for name, (_, text) in BENCHMARKS.items():
        kind = kinds.add_parser(name, help=text, description=text)
        kind.add_argument("--rounds", type=int, default=5, help="measurements of each (5)")
        kind.add_argument("--seconds", type=float, default=3.0, help="of each measurement (3)")
        kind.add_argument("--count", type=int, help="requests, streams or rows, where they count")
        kind.add_argument("--only", nargs="+", metavar="NAME", help="only these contenders")
        kind.add_argument("--peers", action="store_true", help="also LiteLLM and Portkey's gateway")
        kind.add_argument(
            "--peers-folder",
            type=Path,
            default=Path(tempfile.gettempdir()) / "arbstr-bench-peers",
            help="where they are installed, once (a folder among the temporary ones)",
        )
        kind.add_argument("--check", action="store_true", help="exit 1 if a bar is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())

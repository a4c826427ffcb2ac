"""The command ``arbstr``: its arguments, its exit codes, and how it fails.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C. What went wrong is one line on
standard error. A command's module is imported when it runs: most need neither the ledger nor the
router, and only `serve` needs mitmproxy.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from arbstr import __version__
from arbstr.commands.failure import CommandError, complain
from arbstr.report import FORMATS

GROUPS = ("model", "provider", "policy", "day", "hour", "client")
_SINCE = "how far back: 90m, 24h, 7d, today, a date or a time (2026-11-23, 2026-11-23T08:00)"
_UNTIL = "up to when, written the same way; now without it"
_EXAMPLES = """\
examples:
  arbstr serve --mock           try it: no key, no network, no sats
  arbstr check                  is config.toml right?
  arbstr costs                  what was spent today, in 7 days, in 30 days
  arbstr costs --by model       where it went
  arbstr requests --follow      every request as it comes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `argv`: without the program's name."""
    args = parser().parse_args(argv)
    try:
        module = importlib.import_module(f"arbstr.commands.{args.command}")
        run: Callable[[argparse.Namespace], int] = module.run
        code = run(args)
        sys.stdout.flush()
    except CommandError as error:
        complain(*map(str, error.args))
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`head`, a pager) has enough. Nothing may be flushed into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="arbstr",
        description="Sends every AI request to the cheapest Routstr model allowed to answer it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"arbstr {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        made.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="the config file ($ARBSTR_CONFIG, else config.toml)",
        )
        return made

    _add_serve(command("serve", "run the proxy"))
    command("check", "say everything that is wrong in the config")
    _add_rows(command("providers", "show the providers, their models and whether they work"))
    _add_models(command("models", "show every model with its price in sats, its age and source"))
    _add_costs(command("costs", "show what was spent and saved"))
    _add_requests(command("requests", "list requests, newest first, or show one in full"))
    _add_export(command("export", "write the ledger's requests to a file"))
    _add_explain(command("explain", "show how a chat request would be routed; sends nothing"))
    _add_simulate(command("simulate", "replay past requests under a policy, beside other routers"))
    return top


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--mock", action="store_true", help="answer from a built-in node: no key, no network"
    )
    command.add_argument("--listen", metavar="HOST:PORT", help="instead of server.listen")
    command.add_argument("--verbose", action="store_true", help="log every attempt")


def _add_mock(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mock", action="store_true", help="look at the ledger of mock mode")


def _add_rows(
    command: argparse.ArgumentParser, formats: Sequence[str] = FORMATS, default: str = "table"
) -> None:
    command.add_argument(
        "--format", choices=formats, default=default, help=f"how rows come out ({default})"
    )


def _add_span(command: argparse.ArgumentParser) -> None:
    command.add_argument("--since", metavar="WHEN", help=_SINCE)
    command.add_argument("--until", metavar="WHEN", help=_UNTIL)
    command.add_argument("--model", metavar="NAME", help="only requests that this model answered")
    command.add_argument("--provider", metavar="NAME", help="only requests to this provider")
    command.add_argument("--policy", metavar="NAME", help="only requests under this policy")


def _add_models(command: argparse.ArgumentParser) -> None:
    _add_mock(command)
    command.add_argument("--policy", metavar="NAME", help="only what this policy allows")
    command.add_argument(
        "--learned",
        action="store_true",
        help="what the forecast learned of each model, and how far off it was",
    )
    command.add_argument("--sync", action="store_true", help="fetch models and prices now")
    command.add_argument(
        "--write", nargs="+", metavar="ID", help="put these models into the config as they are"
    )
    _add_rows(command)


def _add_costs(command: argparse.ArgumentParser) -> None:
    _add_mock(command)
    _add_span(command)
    command.add_argument("--by", choices=GROUPS, help="one row each instead of a sum")
    command.add_argument(
        "--plot",
        nargs="?",
        const="-",
        metavar="FILE.png",
        help="a bar for each day, here or in a picture",
    )
    _add_rows(command)


def _add_requests(command: argparse.ArgumentParser) -> None:
    _add_mock(command)
    command.add_argument("id", nargs="?", metavar="ID", help="show this one in full")
    _add_span(command)
    command.add_argument("--failed", action="store_true", help="only those without a whole answer")
    command.add_argument("--follow", action="store_true", help="wait for more; Ctrl-C ends it")
    command.add_argument("--limit", type=_limit, default=20, metavar="N", help="at most N (20)")
    _add_rows(command)


def _add_export(command: argparse.ArgumentParser) -> None:
    _add_mock(command)
    _add_span(command)
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="a new file, readable by you alone"
    )
    _add_rows(command, ("csv", "jsonl"), "csv")


def _add_explain(command: argparse.ArgumentParser) -> None:
    _add_mock(command)
    command.add_argument("file", metavar="FILE", help="a chat body in JSON; - is standard input")
    command.add_argument("--policy", metavar="NAME", help="as the header X-Arbstr-Policy")
    _add_rows(command)


def _add_simulate(command: argparse.ArgumentParser) -> None:
    _add_mock(command)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--trace",
        nargs="+",
        type=Path,
        metavar="CSV",
        help="files with the columns input_tokens and output_tokens",
    )
    source.add_argument("--since", metavar="WHEN", help="your own requests since then: 30d, a date")
    command.add_argument("--prices", type=Path, metavar="JSON", help="prices in USD per token")
    command.add_argument(
        "--workload", type=Path, metavar="JSON", help="policies, and how much each model writes"
    )
    command.add_argument("--policy", metavar="NAME", help="only under this policy")
    command.add_argument(
        "--requested", metavar="MODEL", help="compare with this model, as if all had asked for it"
    )
    command.add_argument("--seed", type=int, default=1, metavar="N", help="of order and noise (1)")
    _add_rows(command)


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) == int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)

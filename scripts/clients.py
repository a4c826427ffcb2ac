"""Run real coding agents through arbstr, against its own mock node, and say which of them work.

    python scripts/clients.py [NAME ...] [--cache DIR]

Each client is installed from npm or PyPI into the cache (once), told of arbstr as docs/clients.md
says, and asked to call a tool and say hello. One line each: ``ok`` and what it cost, or what
failed. The exit code is the number of those that failed. Needs Node.js with npm, Python 3.10 to
3.12 for aider, and the network; it is no part of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEY = "sk-client-0000000000"
ASK = "call a tool, then say hello"
"""To this the mock node's models call the first tool they are given, then answer in words."""
HEARD = "Hello! How can I help you today?"
INSTALL_S = 900
RUN_S = 180
START_S = 30
_KEPT = ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "TMPDIR")


class FailedError(Exception):
    """Why a client does not work, in one line."""


@dataclass(frozen=True)
class Arbstr:
    """A running arbstr. `url`: without ``/v1``."""

    url: str
    ledger: Path

    def rows(self, agent: str) -> list[tuple[str, str, str, int | None]]:
        """Endpoint, outcome, model and cost of the requests whose user agent begins with this."""
        query = (
            "SELECT endpoint, outcome, model, cost_msats FROM requests WHERE client LIKE ?"
            " ORDER BY id"
        )
        database = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=10)
        try:
            return database.execute(query, (f"{agent}%",)).fetchall()
        finally:
            database.close()


@dataclass(frozen=True)
class Client:
    """A client: how it is installed, told of arbstr, and run.

    `configure` gets arbstr's URL and the client's own empty folder, which is its home as well, and
    returns what goes into the environment. `command` follows the program's path.
    """

    name: str
    install: Callable[[Path], Path]
    configure: Callable[[str, Path], Mapping[str, str]]
    command: Sequence[str]
    agent: str
    """How its user agent begins."""
    endpoint: str
    turns: int = 2
    """Requests that it takes at least: one for the tool's call, one for its result."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Environment that keeps it from asking for updates and the like."""


# --- installing -----------------------------------------------------------------------------------


def npm(package: str, program: str) -> Callable[[Path], Path]:
    """Install a package of the npm registry, and find its program."""

    def install(cache: Path) -> Path:
        folder = cache / program
        found = folder / "node_modules" / ".bin" / program
        if not found.exists():
            tool = _program("npm")
            folder.mkdir(parents=True, exist_ok=True)
            _run([tool, "install", "--no-audit", "--no-fund", "--prefix", str(folder), package])
        return found

    return install


def pypi(package: str, program: str, versions: Sequence[str]) -> Callable[[Path], Path]:
    """Install a package of PyPI into a virtual environment of one of these Pythons."""

    def install(cache: Path) -> Path:
        folder = cache / program
        found = folder / "bin" / program
        if not found.exists():
            _run([_python(versions), "-m", "venv", str(folder)])
            _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", package])
        return found

    return install


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FailedError(f"{name} is not installed")
    return found


def _python(versions: Sequence[str]) -> str:
    """A Python of one of these versions that really starts (a shim on the PATH may not)."""
    for version in versions:
        found = shutil.which(f"python{version}")
        if (
            found
            and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return found
    raise FailedError(f"no Python {' or '.join(versions)} is installed")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        raise FailedError(f"{' '.join(command[:3])}… failed: {_last_line(done.stderr)}")


# --- the clients ----------------------------------------------------------------------------------


def claude(url: str, _home: Path) -> Mapping[str, str]:
    """Claude Code: three variables."""
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_MODEL": "arbstr/code",
    }


def codex(url: str, home: Path) -> Mapping[str, str]:
    """Codex: a model provider in its config."""
    folder = home / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text(
        'model = "arbstr/code"\n'
        'model_provider = "arbstr"\n'
        "[model_providers.arbstr]\n"
        'name = "arbstr"\n'
        f'base_url = "{url}/v1"\n'
        'env_key = "ARBSTR_CLIENT_KEY"\n'
        'wire_api = "responses"\n'
    )
    return {"ARBSTR_CLIENT_KEY": KEY}


def opencode(url: str, home: Path) -> Mapping[str, str]:
    """Opencode: a provider in the project's config."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "arbstr",
        "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
        "models": {"arbstr/code": {"name": "code"}},
    }
    config = {"model": "arbstr/arbstr/code", "provider": {"arbstr": provider}}
    (home / "opencode.json").write_text(json.dumps(config))
    return {}


def aider(url: str, _home: Path) -> Mapping[str, str]:
    """Aider: an OpenAI-compatible API."""
    return {"OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": KEY}


CLIENTS = (
    Client(
        "claude",
        npm("@anthropic-ai/claude-code", "claude"),
        claude,
        ("-p", ASK),
        "claude-cli",
        "/v1/messages",
        also={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
    ),
    Client(
        "codex",
        npm("@openai/codex", "codex"),
        codex,
        ("exec", "--skip-git-repo-check", ASK),
        "codex_exec",
        "/v1/responses",
    ),
    Client(
        "opencode",
        npm("opencode-ai", "opencode"),
        opencode,
        ("run", ASK),
        "opencode",
        "/v1/chat/completions",
        also={"OPENCODE_DISABLE_AUTOUPDATE": "1"},
    ),
    Client(
        "aider",
        pypi("aider-chat", "aider", ("3.12", "3.11", "3.10")),
        aider,
        (
            *("--model", "openai/arbstr/code", "--message", ASK),
            *("--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings"),
            *("--analytics-disable", "--no-pretty", "--map-tokens", "0"),
        ),
        "OpenAI/Python",
        "/v1/chat/completions",
        turns=1,  # it has no tools
        also={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    ),
)


# --- running --------------------------------------------------------------------------------------


@contextmanager
def serving(folder: Path) -> Iterator[Arbstr]:
    """Run arbstr with its mock node on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "config.toml"
    shutil.copy(ROOT / "config.toml", config)
    log = folder / "arbstr.log"
    run = "import sys; from arbstr.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "serve", "--mock", "--listen", address]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--config", str(config)], cwd=ROOT, stdout=out, stderr=out
        )
    try:
        health = _wait(f"http://{address}/health", process, log)
        yield Arbstr(f"http://{address}", Path(health["ledger"]["path"]))
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> dict[str, dict[str, str]]:
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=START_S) as answer:  # noqa: S310 - our own
                found: dict[str, dict[str, str]] = json.load(answer)
                return found
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise FailedError(f"arbstr did not start: {_last_line(log.read_text(errors='replace'))}")


def attempt(client: Client, arbstr: Arbstr, cache: Path) -> str:
    """Install, configure and run one client; what it did, in one line. Raises FailedError."""
    program = client.install(cache)
    with tempfile.TemporaryDirectory(prefix=f"arbstr-{client.name}-") as made:
        home = Path(made)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"HOME": made, "XDG_CONFIG_HOME": str(home / ".config"), **client.also}
        environment |= client.configure(arbstr.url, home)
        try:
            done = subprocess.run(
                [str(program), *client.command],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=RUN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FailedError(f"it did not end within {RUN_S} s") from None
    rows = arbstr.rows(client.agent)
    bad = [f"{endpoint} {outcome}" for endpoint, outcome, _, _ in rows if outcome != "ok"]
    if done.returncode:
        raise FailedError(f"exit code {done.returncode}: {_last_line(done.stderr or done.stdout)}")
    if len(rows) < client.turns:
        raise FailedError(f"it asked arbstr {len(rows)} times, not {client.turns}")
    if bad:
        raise FailedError(f"in the ledger: {', '.join(bad)}")
    if HEARD not in done.stdout:
        raise FailedError(f"it did not show the answer: {_last_line(done.stdout)}")
    if client.endpoint not in {endpoint for endpoint, *_ in rows}:
        raise FailedError(f"it never asked {client.endpoint}")
    models = ", ".join(dict.fromkeys(model for _, _, model, _ in rows))
    sats = sum(cost or 0 for *_, cost in rows) / 1000
    return f"{len(rows)} requests to {client.endpoint}, {models}, {sats:g} sats"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def main() -> int:
    """Run the clients that are named, or all of them."""
    names = [client.name for client in CLIENTS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"which: {', '.join(names)}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arbstr-clients"
    parser.add_argument("--cache", type=Path, default=cache, help=f"where they live ({cache})")
    args = parser.parse_args()
    if unknown := set(args.name) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="arbstr-clients-") as folder,
        serving(Path(folder)) as arbstr,
    ):
        for client in CLIENTS:
            if args.name and client.name not in args.name:
                continue
            try:
                print(f"{client.name}: ok: {attempt(client, arbstr, args.cache)}", flush=True)
            except (FailedError, OSError, subprocess.SubprocessError) as error:
                print(f"{client.name}: failed: {error}", flush=True)
                failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""arbstr as a process: its config, its start and end, its log, its ledger."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2

from tests.faults.certs import Certificates
from tests.faults.model import Case

ROOT = Path(__file__).parents[2]
LISTED = "listed"
"""The provider whose models come by sync."""
LOG_LINES = 60
"""How many lines of a log are shown from the first odd one on."""
START_S = 20.0
STOP_S = 20.0

_BAD_LOG = re.compile(
    r"Traceback|never (?:awaited|retrieved)|\w*Warning\b|Addon error|Exception in|has crashed",
)


@dataclass(frozen=True, slots=True)
class Group:
    """How a proxy is configured. `program`: what runs it; durations as in ``config.toml``."""

    name: str
    program: Literal["serve", "mitmdump"] = "serve"
    first_token: str = "5s"
    idle: str = "5s"
    total: str = "12s"
    grace: str = "1s"


GROUPS: Mapping[str, Group] = {
    group.name: group
    for group in (
        Group("main"),
        Group("clock", first_token="600ms", idle="800ms", total="4s"),
        Group("h2", program="mitmdump", first_token="1500ms", idle="2500ms"),
        Group("scenes", idle="1s"),
        Group("slow", idle="2s"),
        Group("stops"),
        Group("soak", first_token="1500ms", idle="3s"),
    )
}


def config_text(
    group: Group, port: int, urls: Mapping[str, str], cases: Sequence[Case], folder: Path
) -> str:
    """The config file of a group: every provider, and every case's models and policy."""
    q = json.dumps
    lines = [
        "[server]", f'listen = "127.0.0.1:{port}"',
        "[database]", f"path = {q(str(folder / 'ledger.db'))}",
        "[fallback]", "max_attempts = 4",
        f"first_token_timeout = {q(group.first_token)}", f"idle_timeout = {q(group.idle)}",
        f"total_timeout = {q(group.total)}", f"shutdown_grace = {q(group.grace)}",
    ]  # fmt: skip
    lines += ["[fallback.models]"]
    for case in cases:
        if case.substitutes:
            names = [case.model(n) for n in range(len(case.candidates))]
            lines += [f"{q(names[0])} = {q(names[1:])}"]
    used = {candidate.provider for case in cases for candidate in case.candidates}
    for name in sorted(used):
        lines += ["[[providers]]", f"name = {q(name)}", f"url = {q(urls[name])}"]
        lines += [f"sync = {q('1h' if name == LISTED else 'off')}"]
    for case in cases:
        lines += _models(case)
    return "\n".join((*lines, ""))


def key_of(provider: str) -> str:
    """Our key at `provider`."""
    return f"sk-{provider}"


def _models(case: Case) -> list[str]:
    q = json.dumps
    lines: list[str] = []
    for number, candidate in enumerate(case.candidates):
        if candidate.provider == LISTED:
            continue
        rate = case.rate(number)
        lines += [
            "[[models]]",
            f"id = {q(case.model(number))}",
            f"provider = {q(candidate.provider)}",
        ]
        lines += [f"input_rate = {rate}", f"output_rate = {rate}"]
        lines += [f"context = {candidate.context}"] if candidate.context else []
    if not case.substitutes:
        names = [case.model(number) for number in range(len(case.candidates))]
        lines += ["[[policies.rules]]", f"name = {q(case.id)}", f"allowed_models = {q(names)}"]
    return lines


class Proxy:
    """One running arbstr. `base_url`: for clients; `folder`: its config, log and ledger."""

    def __init__(self, group: Group, folder: Path, certificates: Certificates) -> None:
        """`folder`: empty and its own. The port is taken when it starts."""
        self.group = group
        self.folder = folder
        self.certificates = certificates
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None

    @property
    def secure(self) -> bool:
        """Whether clients come over TLS."""
        return self.group.program == "mitmdump"

    @property
    def base_url(self) -> str:
        """Where clients find it."""
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def ledger(self) -> Path:
        """The SQLite file."""
        return self.folder / "ledger.db"

    async def start(self, urls: Mapping[str, str], cases: Iterable[Case]) -> None:
        """Write the config, start, wait until it answers. Raises RuntimeError if it does not."""
        cases = list(cases)
        self.port = _free_port()
        config = self.folder / "config.toml"
        text = config_text(self.group, self.port, urls, cases, self.folder)
        await asyncio.to_thread(config.write_text, text)
        config.chmod(0o600)
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            self.process = await asyncio.create_subprocess_exec(
                *self._command(config),
                cwd=ROOT,
                env=_environment(config, urls),
                stdout=out,
                stderr=err,
            )
        try:
            async with asyncio.timeout(START_S):
                while not await self._ready(cases):
                    if self.process.returncode is not None:
                        raise RuntimeError(f"arbstr did not start:\n{self.log()[-4000:]}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise RuntimeError(
                f"no answer from arbstr in {START_S:g} s:\n{self.log()[-4000:]}"
            ) from None

    async def _ready(self, cases: Iterable[Case]) -> bool:
        """Whether it answers, and has synced what is to be synced."""
        if not await self.health():
            return False
        synced = [
            case.model(number)
            for case in cases
            for number, candidate in enumerate(case.candidates)
            if candidate.provider == LISTED
        ]
        listed = await self._get("/v1/models") if synced else {}
        names = json.dumps(listed)
        return all(f'"{name}"' in names for name in synced)

    def _command(self, config: Path) -> list[str]:
        if self.group.program == "serve":
            return [sys.executable, "-m", "arbstr", "serve", "--config", str(config)]
        run = "import sys; from mitmproxy.tools.main import mitmdump; sys.exit(mitmdump())"
        options = {
            "arbstr_config": config,
            "confdir": self.folder / "mitmproxy",
            "ssl_verify_upstream_trusted_ca": self.certificates.ca,
        }
        sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
        certs = ["--certs", f"*={self.certificates.server}"]
        return [sys.executable, "-c", run, "-q", "-s", str(ROOT / "arbstr_addon.py"), *certs, *sets]

    async def health(self) -> dict[str, object]:
        """What ``/health`` says; empty where nobody answers."""
        return await self._get("/health")

    async def _get(self, path: str) -> dict[str, object]:
        context = self.certificates.client_context() if self.secure else False
        url = self.base_url.removesuffix("/v1") + path
        try:
            async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=5) as client:
                answer = await client.get(url)
        except httpx2.TransportError:
            return {}
        body = answer.json() if answer.status_code == 200 else {}
        return body if isinstance(body, dict) else {}

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """End it as a user would; its exit code, None where it had to be killed."""
        process = self.process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(how)
        return await self.wait()

    async def wait(self) -> int | None:
        """Wait for its end; its exit code, None where it had to be killed."""
        process = self.process
        if process is None:
            return 0
        try:
            async with asyncio.timeout(STOP_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            return None

    def log(self) -> str:
        """Everything it printed."""
        return "".join((self.folder / name).read_text(errors="replace") for name in ("out", "err"))

    def complaints(self) -> list[str]:
        """What no log should have, each with the lines around it."""
        lines = self.log().splitlines()
        found: list[str] = []
        shown = 0
        for number, line in enumerate(lines):
            if number >= shown and _BAD_LOG.search(line):
                shown = number + LOG_LINES
                found.append("\n".join(lines[number:shown]))
        return found

    def rows(self, table: str, where: str, *values: object) -> list[dict[str, object]]:
        """Rows of the ledger, read as any other program would."""
        with sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=5) as db:
            db.row_factory = sqlite3.Row
            query = f"SELECT * FROM {table} WHERE {where}"  # noqa: S608 - both are ours
            rows = db.execute(query, values).fetchall()
        db.close()
        return [dict(row) for row in rows]

    def forget_peak(self) -> None:
        """Let `peak_bytes` begin anew (proc(5): 5 resets the peak resident set)."""
        pid = 0 if self.process is None else self.process.pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """The most memory it has held since `forget_peak`. Linux only."""
        pid = 0 if self.process is None else self.process.pid
        status = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0


def _environment(config: Path, providers: Iterable[str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ARBSTR_")}
    keys = {f"ARBSTR_{name.upper().replace('-', '_')}_API_KEY": key_of(name) for name in providers}
    warnings = "default::RuntimeWarning,default::ResourceWarning"
    fixed = {"ARBSTR_CONFIG": str(config), "PYTHONWARNINGS": warnings, "PYTHONUNBUFFERED": "1"}
    return kept | keys | fixed


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

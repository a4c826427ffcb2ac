"""arbstr as a process, for tests that talk to it over real sockets: start, look, stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_S = 30.0
STOP_S = 20.0
_POLL_S = 0.02
_STARTS = 3
_RUN = "import sys; from arbstr.cli import main; sys.exit(main())"
ROOT = Path(__file__).parents[1]

type Row = dict[str, Any]


class Running:
    """One arbstr that serves. `url`: its origin, without a slash; `base_url`: that and ``/v1``."""

    def __init__(
        self, process: subprocess.Popen[bytes], url: str, log_path: Path, token: str = ""
    ) -> None:
        """`log_path`: where its output goes. `token`: its ``server.auth_token``, if it has one."""
        self.process = process
        self.url = url
        self.base_url = f"{url}/v1"
        self._log_path = log_path
        self._token = token
        self._ledger_path: Path | None = None

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def ledger_path(self) -> Path:
        """Its SQLite file, as ``/health`` names it."""
        if self._ledger_path is None:
            self._ledger_path = Path(self.get("/health")["ledger"]["path"])
        return self._ledger_path

    def get(self, path: str) -> Any:  # noqa: ANN401 - decoded JSON
        """The JSON at `path` of arbstr itself. Raises OSError."""
        request = urllib.request.Request(self.url + path)
        if self._token:
            request.add_header("x-arbstr-token", self._token)
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            return json.load(answer)

    def requests(self) -> list[Row]:
        """The rows of ``requests``, oldest first; costs may still come late for some."""
        return self.rows("SELECT * FROM requests ORDER BY id")

    def request(self, request_id: str | None) -> Row:
        """The row of an ended request, by the ``x-arbstr-request-id`` that the client was told."""
        assert request_id is not None
        found: list[Row] = []

        def ended() -> bool:
            query = "SELECT * FROM requests WHERE id = ? AND outcome <> 'in_flight'"
            found[:] = self.rows(query, int(request_id))
            return bool(found)

        eventually(ended)
        return found[0]

    def attempts(self, request_id: int | str) -> list[Row]:
        """The rows of ``attempts`` of one request, in their order."""
        return self.rows("SELECT * FROM attempts WHERE request_id = ? ORDER BY n", int(request_id))

    def rows(self, query: str, *values: object) -> list[Row]:
        """Read the ledger as any other program would."""
        db = sqlite3.connect(f"file:{self.ledger_path}?mode=ro", uri=True, timeout=5)
        try:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query, values)]
        finally:
            db.close()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End it as a user would: its exit code and everything it printed. May be called again.

        Raises subprocess.TimeoutExpired, after a kill, where it does not end.
        """
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        return code, self.log


@contextmanager
def running(
    folder: Path,
    config: str = "",
    *,
    mock: bool = False,
    verbose: bool = False,
    **environment: str,
) -> Iterator[Running]:
    """Run arbstr on a free port of 127.0.0.1, for as long as the block lasts.

    `folder`: empty and its own; `config`: the text of its ``config.toml``, with no `listen` needed;
    empty: the one that is shipped. `mock`: it sells from its own mock node. A token, if the config
    wants one, is given as ``ARBSTR_TOKEN``. Once the block is entered it answers, and each
    provider's models were fetched, or that has failed.

    Raises RuntimeError where it does not start.
    """
    path = folder / "config.toml"
    path.write_text(config or (ROOT / "config.toml").read_text(encoding="utf-8"), encoding="utf-8")
    path.chmod(0o600)
    flags = [*(["--mock"] if mock else []), *(["--verbose"] if verbose else [])]
    arbstr = _start(path, flags, environment)
    try:
        yield arbstr
    finally:
        arbstr.stop()


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until `condition` holds, for what another process does in its own time."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"{condition} did not come true within {within_s:g} s"
        time.sleep(_POLL_S)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _start(config: Path, flags: list[str], environment: dict[str, str]) -> Running:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ARBSTR_")}
    for _ in range(_STARTS):
        port = free_port()
        command = [sys.executable, "-c", _RUN, "serve", "--config", str(config)]
        command += ["--listen", f"127.0.0.1:{port}", *flags]
        log_path = config.parent / "arbstr.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**kept, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        token = environment.get("ARBSTR_TOKEN", "")
        arbstr = Running(process, f"http://127.0.0.1:{port}", log_path, token)
        if _wait(arbstr):
            return arbstr
        arbstr.stop()
        if "address already in use" not in arbstr.log.lower():
            break  # else somebody else has taken the port meanwhile
    raise RuntimeError(f"arbstr did not start:\n{arbstr.log[-4000:]}")


def _wait(arbstr: Running) -> bool:
    """Wait until it answers and has its prices; False where it ends or takes too long."""
    end = time.monotonic() + START_S
    while arbstr.process.poll() is None and time.monotonic() < end:
        try:
            synced = arbstr.get("/health")["sync"].values()
        except (OSError, ValueError):
            synced = None
        if synced is not None and all(s["last_ok_ms"] or s["error"] for s in synced):
            return True
        time.sleep(_POLL_S)
    return False

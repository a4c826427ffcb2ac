"""arbstr with a watch on its event loop, for ``stall`` and for the test that nothing blocks there.

``python -m tests.bench.watched REPORT serve --config FILE`` runs ``arbstr serve`` and writes what
it saw to REPORT, as JSON, when it ends: callbacks that took long, and calls that may block. A call
is seen through Python's audit events and SQLite's own trace, whoever makes it; only those on the
thread of the event loop count, from SIGUSR2 on (the start reads files, as it must).
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from arbstr.cli import main

LONG_S = 0.02
_MOST = 200
_BLOCKING = frozenset(
    {"open", "sqlite3.connect", "socket.getaddrinfo", "socket.gethostbyname", "time.sleep",
     "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "subprocess.Popen"}
)  # fmt: skip


class Watch:
    """What was seen. Everything is added on the thread of the event loop."""

    def __init__(self) -> None:
        self.active = False
        self.callbacks = 0
        self.long: list[tuple[float, str]] = []
        self.blocking: Counter[str] = Counter()
        self.threads: Counter[str] = Counter()
        self._thread = threading.get_ident()

    def start(self, *_: object) -> None:
        """Count from now on."""
        self.active = True

    def install(self) -> None:
        """Hook into Python and into its event loops."""
        sys.addaudithook(self._audit)
        connect = sqlite3.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_trace_callback(self._statement)
            return connection

        sqlite3.connect = sqlite3.dbapi2.connect = traced  # type: ignore[assignment]
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began = time.thread_time()
            run(handle)
            took_s = time.thread_time() - began
            if self.active:
                self.callbacks += 1
                if took_s > LONG_S and len(self.long) < _MOST:
                    self.long.append((took_s, repr(handle)[:300]))

        asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _BLOCKING or (event == "socket.connect" and _blocks(arguments[0])):
            self._note(f"{event} {arguments[0]!r:.120}", event)

    def _statement(self, text: str) -> None:
        self._note(f"SQLite: {text[:120]}", "SQLite")

    def _note(self, what: str, kind: str) -> None:
        if not self.active:
            return
        if threading.get_ident() != self._thread:
            self.threads[f"{kind} on {threading.current_thread().name.rstrip('0123456789')}"] += 1
            return
        frames = [f for f in traceback.extract_stack()[:-2] if "/bench/" not in f.filename]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[:-5:-1])
        self.blocking[f"{what} ({where})"] += 1

    def report(self) -> str:
        """For whoever started us."""
        longest = sorted(self.long, reverse=True)
        return json.dumps(
            {
                "callbacks": self.callbacks,
                "long": longest,
                "blocking": self.blocking,
                "elsewhere": self.threads,
            }
        )


def _blocks(connection: object) -> bool:
    return isinstance(connection, socket.socket) and connection.gettimeout() != 0


def run(report: Path, words: list[str]) -> int:
    """Run ``arbstr`` with `words`; write what was seen to `report`."""
    watch = Watch()
    watch.install()
    signal.signal(signal.SIGUSR2, watch.start)
    try:
        return main(words)
    finally:
        watch.active = False
        report.write_text(watch.report())


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))

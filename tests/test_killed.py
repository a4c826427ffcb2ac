"""A kill of the whole proxy under load: what a client has in full is in the ledger."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx2

from arbstr.mock import MockNode, ThreadedNode
from tests.running import Running, eventually, running

KILLS = int(os.environ.get("ARBSTR_KILLS", "3"))
_CLIENTS = 8
_CONFIG = """
[database]
path = "ledger.db"

[[providers]]
name = "node"
url = "{url}"
api_key = "${{NODE_KEY}}"

[policies]
default = "quick"

[[policies.rules]]
name = "quick"
allowed_models = ["gpt-4o-mini"]
"""


class Client(threading.Thread):
    """Asks on and on, plain and streamed, and keeps the ids of the answers it has in full."""

    def __init__(self, arbstr: Running, seed: int) -> None:
        super().__init__(daemon=True)
        self.whole: list[int] = []
        self._url = f"{arbstr.base_url}/chat/completions"
        self._chance = random.Random(seed)

    def has_some(self) -> bool:
        """Whether there is a whole answer yet."""
        return bool(self.whole)

    def run(self) -> None:
        with suppress(httpx2.HTTPError, OSError), httpx2.Client(timeout=10) as client:
            while True:
                self._ask(client, stream=self._chance.random() < 0.5)

    def _ask(self, client: httpx2.Client, *, stream: bool) -> None:
        body = {
            "model": "arbstr/quick",
            "stream": stream,
            "messages": [{"role": "user", "content": "hello"}],
        }
        with client.stream("POST", self._url, json=body) as answer:
            text = b"".join(answer.iter_bytes())
            if answer.status_code == 200 and (b"data: [DONE]" in text or not stream):
                self.whole.append(int(answer.headers["x-arbstr-request-id"]))


def test_every_whole_answer_has_its_row_after_a_kill(tmp_path: Path) -> None:
    chance = random.Random(7)
    with ThreadedNode(MockNode(balance_msats=10**12)) as served:
        config = _CONFIG.format(url=served.node.url)
        whole: list[int] = []
        for kill in range(KILLS):
            with running(tmp_path, config, NODE_KEY="sk-test-0123456789") as arbstr:
                clients = [Client(arbstr, kill * _CLIENTS + n) for n in range(_CLIENTS)]
                for client in clients:
                    client.start()
                eventually(clients[0].has_some)
                time.sleep(chance.uniform(0, 0.5))  # the random moment
                arbstr.process.send_signal(signal.SIGKILL)
                arbstr.process.wait()
                for client in clients:
                    client.join(20)
                whole += [n for client in clients for n in client.whole]
        # One more start: what was in flight is closed, and nothing else has changed.
        with running(tmp_path, config, NODE_KEY="sk-test-0123456789"):
            pass
    db = sqlite3.connect(tmp_path / "ledger.db")
    try:
        rows = dict(db.execute("SELECT id, outcome FROM requests"))
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()
    assert [n for n in whole if rows.get(n) != "ok"] == []
    assert "in_flight" not in rows.values()

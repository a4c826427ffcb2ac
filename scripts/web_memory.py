"""Memory of mitmweb with arbstr over many requests: flat, once its list is full.

    python scripts/web_memory.py [--requests 20000]

Prints the resident memory of mitmweb at steps; the figures of docs/mitmweb.md come from here.
Needs Linux (``/proc``).
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from arbstr.mock import MockNode
from arbstr.mock.thread import ThreadedNode
from tests.mitmweb import Mitmweb, mitmweb

CONNECTIONS = 8
STEP = 1000
SETTLE_S = 3.0
CONFIG = """
[[providers]]
name = "node"
url = "{url}"
[policies]
[[policies.rules]]
name = "shaky"
allowed_models = ["mock-fail-500", "gpt-4o-mini"]
"""
MODELS = (*(["gpt-4o-mini"] * 8), "arbstr/shaky", "gpt-4o")
"""One request in ten falls back, and so has a flow for its failed attempt too."""
PROMPT = "word " * 400


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    total = parser.parse_args().requests
    node = MockNode(keep_requests=1, balance_msats=10**12)
    with tempfile.TemporaryDirectory() as folder, ThreadedNode(node):
        config = CONFIG.format(url=node.url)
        with mitmweb(Path(folder), config, mock=False) as web:
            print(f"{0:>7,} requests  {_resident_mb(web):7.1f} MB")
            for done in range(STEP, total + 1, STEP):
                _send(web, STEP)
                time.sleep(SETTLE_S)
                flows = len(web.flows())
                print(f"{done:>7,} requests  {_resident_mb(web):7.1f} MB  {flows:,} flows")


def _send(web: Mitmweb, requests: int) -> None:
    threads = [
        threading.Thread(target=_client, args=(web, requests // CONNECTIONS))
        for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _client(web: Mitmweb, requests: int) -> None:
    address = urlsplit(web.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    headers = {"content-type": "application/json", "authorization": "Bearer sk-of-the-memory-run"}
    for n in range(requests):
        body = {
            "model": MODELS[n % len(MODELS)],
            "stream": n % 2 == 0,
            "messages": [{"role": "user", "content": f"{n} {PROMPT}"}],
        }
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"HTTP {answer.status}")
    connection.close()


def _resident_mb(web: Mitmweb) -> float:
    status = Path(f"/proc/{web.process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()

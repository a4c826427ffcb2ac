"""A balance that falls by more than the rows explain, seen from outside."""

from __future__ import annotations

from pathlib import Path

import httpx2

from arbstr.mock import DEFAULT_KEY, MockNode, ThreadedNode
from tests.running import running

_CONFIG = """
[database]
path = "ledger.db"

[[providers]]
name = "node"
url = "{url}"
api_key = "${{NODE_KEY}}"
"""
_BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


def test_spending_that_is_not_ours_shows_in_health(tmp_path: Path) -> None:
    with ThreadedNode(MockNode()) as served, httpx2.Client(timeout=30) as client:
        config = _CONFIG.format(url=served.node.url)
        with running(tmp_path, config, NODE_KEY=DEFAULT_KEY) as arbstr:
            ours = f"{arbstr.base_url}/chat/completions"
            for _ in range(3):
                assert client.post(ours, json=_BODY).status_code == 200
            quiet = arbstr.get("/health")["unexplained_sats"]
            bearer = {"authorization": f"Bearer {DEFAULT_KEY}"}
            direct = client.post(f"{served.node.url}/chat/completions", json=_BODY, headers=bearer)
            assert client.post(ours, json=_BODY).status_code == 200
            told = arbstr.get("/health")["unexplained_sats"]
            code, log = arbstr.stop()
    assert quiet == {}
    assert round(1000 * float(told["node"])) == direct.json()["usage"]["cost"]["total_msats"]
    assert "the balance at node fell by" in log
    assert code == 0

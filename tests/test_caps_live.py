"""Daily caps against parallel requests, over real sockets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.replay import Asked, upstream
from tests.running import Running, running

_CONFIG = """
[database]
path = "ledger.db"

[[providers]]
name = "node"
url = "{url}"
api_key = "${{NODE_KEY}}"
sync = "off"

[[models]]
id = "flat"
input_rate = 0
output_rate = 0
base_fee = 1

[policies]
default = "capped"

[[policies.rules]]
name = "capped"
allowed_models = ["flat"]
max_sats_per_day = 10
"""
_BODY = {"model": "flat", "messages": [{"role": "user", "content": "hello"}]}


def answering(_asked: Asked) -> Iterator[bytes]:
    """An answer that costs just what it was expected to: the base fee of one sat."""
    answer = {
        "id": "x",
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 9, "cost": {"total_msats": 1000}},
    }
    body = json.dumps(answer).encode()
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    yield head.encode() + body


def _ask(arbstr: Running, client: httpx2.Client) -> httpx2.Response:
    return client.post(f"{arbstr.base_url}/chat/completions", json=_BODY)


def _client() -> httpx2.Client:
    return httpx2.Client(timeout=30, limits=httpx2.Limits(max_connections=100))


def test_a_hundred_at_once_against_a_cap_that_admits_ten(tmp_path: Path) -> None:
    served: list[Asked] = []

    def counted(asked: Asked) -> Iterator[bytes]:
        served.append(asked)
        yield from answering(asked)

    with upstream(counted, b"") as node:
        config = _CONFIG.format(url=node.url)
        with (
            running(tmp_path, config, NODE_KEY="sk-test-0123456789") as arbstr,
            _client() as client,
        ):
            with ThreadPoolExecutor(100) as pool:
                answers = list(pool.map(lambda _: _ask(arbstr, client), range(100)))
            rows = Counter(row["outcome"] for row in arbstr.requests())
    assert Counter(answer.status_code for answer in answers) == {200: 10, 402: 90}
    assert rows == {"ok": 10, "refused": 90}
    assert len(served) == 10
    refusal = next(a for a in answers if a.status_code == 402).json()["error"]
    assert refusal["code"] == "cap_reached"
    assert "policies.rules.capped.max_sats_per_day" in refusal["message"]
    assert "resets" in refusal["message"]


def test_what_was_spent_counts_after_a_restart(tmp_path: Path) -> None:
    with upstream(answering, b"") as node:
        config = _CONFIG.format(url=node.url)
        with (
            running(tmp_path, config, NODE_KEY="sk-test-0123456789") as arbstr,
            _client() as client,
        ):
            assert [_ask(arbstr, client).status_code for _ in range(9)] == [200] * 9
        with (
            running(tmp_path, config, NODE_KEY="sk-test-0123456789") as arbstr,
            _client() as client,
        ):
            statuses = [_ask(arbstr, client).status_code for _ in range(3)]
    assert statuses == [200, 402, 402]

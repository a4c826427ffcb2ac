"""What is told after the answer: late bills, clients that left, bodies too long to keep."""

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from arbstr.mock import MockNode
from arbstr.mock.thread import ThreadedNode
from arbstr.proxy.viewing import Kept
from tests.mitmweb import Mitmweb, mitmweb

CONFIG = """
[[providers]]
name = "node"
url = "{url}"
[policies]
[[policies.rules]]
name = "late"
allowed_models = ["mock-stall", "gpt-4o-mini"]
[fallback]
first_token_timeout = "200ms"
"""
ATTEMPT, LATE = "try 1 of arbstr/late", "arbstr/late → gpt-4o-mini"
KEY = {"Authorization": "Bearer sk-client-of-the-tests"}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmweb]:
    node = MockNode(stall_ms=600)
    with (
        ThreadedNode(node),
        mitmweb(
            tmp_path_factory.mktemp("late"), CONFIG.format(url=node.url), mock=False
        ) as running,
    ):
        yield running


def test_a_late_bill_changes_the_story_of_request_and_attempt(web: Mitmweb) -> None:
    web.chat("arbstr/late", **KEY)
    assert "first_token_timeout: no token within 0.2 s" in web.flow(ATTEMPT)["comment"]

    def billed(_flows: object) -> bool:
        told = [web.view(web.flow(comment), "request", "arbstr")[1] for comment in (ATTEMPT, LATE)]
        return all("sats all the same, billed" in text for text in told)

    def as_in_the_ledger(_flows: object) -> bool:
        row = json.loads(web.get("/v1/requests?model=gpt-4o-mini")[1])["data"][0]
        msats = round(row["cost"]["sats"] * 1000)
        return f"{msats:,} msat · 2 tries" in web.flow(LATE)["comment"]

    web.until(billed)
    web.until(as_in_the_ledger)


def test_a_client_that_leaves_is_told(web: Mitmweb) -> None:
    address = urlsplit(web.url)
    client = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    body = {"model": "mock-slow", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    headers = {"content-type": "application/json", **KEY}
    client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = client.getresponse()
    answer.read1()
    answer.close()
    client.close()
    flow = web.flow("mock-slow · ")
    assert flow["comment"].endswith(" · the client left")
    assert "msat" in flow["comment"]
    assert web.view(flow, "response", "raw")[1].startswith("data: ")


def test_a_body_is_kept_whole_as_far_as_it_is_short() -> None:
    kept = Kept()
    pieces = [b"data: %d\n\n" % n for n in range(1000)]
    for piece in pieces:
        kept.add(piece)
    assert kept.body(events=True) == b"".join(pieces)


@pytest.mark.parametrize("events", [True, False])
def test_of_a_long_body_beginning_and_end_are_kept(events: bool) -> None:
    kept = Kept()
    pieces = [b"data: %07d" % n + b"x" * 1000 + b"\n\n" for n in range(3000)]
    for piece in pieces:
        kept.add(piece)
    body = kept.body(events=events)
    assert len(body) < 1_100_000
    assert body.startswith(b"".join(pieces[:700]))
    assert body.endswith(b"".join(pieces[-200:]))
    assert (b": arbstr keeps no more: " in body) is events

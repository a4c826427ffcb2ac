"""What the official clients see of models that fail: nothing, or an error after the first token.

Every case has a failing model of its own, so that no circuit breaker hides it from the next.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator

import openai
import pytest

from arbstr.mock import DEFAULT_KEY, Fault, MockModel, MockNode, ThreadedNode
from tests.running import Running, running
from tests.sdk_helpers import ASYNC, ERRORS, PLAIN, STREAMED, Clients, Heard, async_clients, clients

CONFIG = """\
[database]
path = "ledger.db"
[fallback]
first_token_timeout = "400ms"
idle_timeout = "1s"
[[providers]]
name = "node"
url = "{url}"
api_key = "{key}"
sync = "1h"
"""
RULE = '[[policies.rules]]\nname = "{name}"\nallowed_models = ["{name}", "good"]\n'
BEFORE = {
    "fail-500": (Fault.FAIL, 500),
    "fail-503": (Fault.FAIL, 503),
    "fail-429": (Fault.FAIL, 429),
    "fail-401": (Fault.FAIL, 401),
    "fail-404": (Fault.FAIL, 404),
    "drop": (Fault.DROP, None),
    "reset": (Fault.RESET, None),
    "stall": (Fault.STALL, None),
    "empty": (Fault.EMPTY, None),
    "html": (Fault.HTML, None),
    "broken-json": (Fault.BROKEN_JSON, None),
    "200-error": (Fault.ERROR_200, None),
    "error-event": (Fault.ERROR_EVENT, None),
}
"""Failures that no client may see while another model works."""
PLAIN_TOO = ("cut", "cut-reset", "error-mid")
AFTER = {
    "cut": (Fault.CUT, None),
    "cut-reset": (Fault.CUT_RESET, None),
    "error-mid": (Fault.ERROR_MID, None),
    "stall-mid": (Fault.STALL_MID, None),
}
"""Failures after the first token."""
APIS = ("chat", "responses", "messages")
HOW = ("plain", "streamed", "async")
GOOD = MockModel("good", "0.1", "0.4")


def name(fault: str, api: str, how: str) -> str:
    return f"{fault}.{api}.{how}"


def bad_models() -> Iterator[MockModel]:
    for (fault, (kind, status)), api, how in itertools.product((BEFORE | AFTER).items(), APIS, HOW):
        # cheaper than the good one, so that it is tried first
        yield MockModel(name(fault, api, how), "0.01", "0.04", fault=kind, fail_status=status)


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    models = (GOOD, *bad_models())
    with ThreadedNode(MockNode(models=models, faults=False, stall_ms=20_000)) as served:
        yield served.node


@pytest.fixture(scope="module")
def arbstr(node: MockNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    rules = "".join(RULE.format(name=model.id) for model in bad_models())
    config = CONFIG.format(url=node.url, key=DEFAULT_KEY) + rules
    with running(tmp_path_factory.mktemp("sdk"), config) as started:
        yield started


@pytest.fixture(scope="module")
def to(arbstr: Running) -> Iterator[Clients]:
    with clients(arbstr.url) as made:
        yield made


def check_answered_by_the_second(arbstr: Running, first: str, heard: Heard) -> None:
    """One normal answer; its headers and the ledger name both models."""
    assert heard.text.startswith("Hello! How can I help you today? I am good.")
    row = arbstr.request(heard.request_id)
    assert (row["outcome"], row["status"], row["model"]) == ("ok", 200, "good")
    assert row["cost_source"] == "billed"
    *failed, good = arbstr.attempts(heard.request_id)
    assert row["attempts"] == len(failed) + 1
    # A connection that had served before and then broke was tried again, once, on a fresh one.
    assert len(failed) == 1 or (len(failed) == 2 and failed[0]["error_code"] == "reset")
    for attempt in failed:
        assert (attempt["model"], attempt["outcome"]) == (first, "error")
        assert attempt["error_code"]
    assert (good["model"], good["outcome"]) == ("good", "ok")
    assert good["cost_msats"] == row["cost_msats"]
    assert heard.headers["x-arbstr-model"] == "good"
    assert heard.headers["x-arbstr-requested-model"] == f"arbstr/{first}"
    assert heard.headers["x-arbstr-retries"] == ", ".join(f"{a['n']}/{first}" for a in failed)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", [*BEFORE, *PLAIN_TOO])
def test_a_first_model_that_fails_is_not_seen(
    arbstr: Running, to: Clients, fault: str, api: str
) -> None:
    first = name(fault, api, "plain")
    heard = PLAIN[api](to, f"arbstr/{first}")
    assert heard.headers["x-arbstr-policy"] == first
    check_answered_by_the_second(arbstr, first, heard)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", BEFORE)
def test_nor_is_it_seen_in_a_stream(arbstr: Running, to: Clients, fault: str, api: str) -> None:
    first = name(fault, api, "streamed")
    heard = STREAMED[api](to, f"arbstr/{first}")
    assert heard.headers["x-arbstr-streaming"] == "true"
    check_answered_by_the_second(arbstr, first, heard)


async def test_nor_by_the_async_clients_all_at_once(arbstr: Running) -> None:
    cases = list(itertools.product(BEFORE, APIS))
    async with async_clients(arbstr.url) as to:
        heard = await asyncio.gather(
            *(ASYNC[api](to, f"arbstr/{name(fault, api, 'async')}") for fault, api in cases)
        )
    for (fault, api), answer in zip(cases, heard, strict=True):
        check_answered_by_the_second(arbstr, name(fault, api, "async"), answer)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", ["cut", "cut-reset", "error-mid"])
def test_an_interrupted_stream_raises(arbstr: Running, to: Clients, fault: str, api: str) -> None:
    first = name(fault, api, "streamed")
    with pytest.raises(ERRORS):
        STREAMED[api](to, f"arbstr/{first}")
    check_interrupted(arbstr, first)


async def test_so_it_does_in_the_async_clients_and_after_a_silence(arbstr: Running) -> None:
    cases = list(itertools.product(AFTER, APIS))
    async with async_clients(arbstr.url) as to:
        heard = await asyncio.gather(
            *(ASYNC[api](to, f"arbstr/{name(fault, api, 'async')}") for fault, api in cases),
            return_exceptions=True,
        )
    for (fault, api), error in zip(cases, heard, strict=True):
        assert isinstance(error, ERRORS), (fault, api, error)
        check_interrupted(arbstr, name(fault, api, "async"))


def check_interrupted(arbstr: Running, first: str) -> None:
    (row,) = arbstr.rows("SELECT * FROM requests WHERE policy = ?", first)
    assert (row["outcome"], row["status"]) == ("interrupted", 200)
    assert (row["model"], row["attempts"]) == (first, 1)
    assert row["error_code"] == "stream_interrupted"


@pytest.mark.parametrize("api", APIS)
def test_an_interruption_says_what_it_is(to: Clients, api: str) -> None:
    first = name("cut", api, "plain")
    body: object = None
    try:
        STREAMED[api](to, f"arbstr/{first}")
    except ERRORS as caught:
        body = caught.body
    assert isinstance(body, dict)
    error = body.get("error", body)
    assert error["code"] == "stream_interrupted"
    assert "cut" in error["message"]


def test_an_answer_of_half_its_length_is_no_answer(to: Clients) -> None:
    alone = name("cut", "chat", "async")
    with pytest.raises(openai.InternalServerError) as caught:
        PLAIN["chat"](to, alone)
    assert caught.value.status_code == 502
    error = json.loads(caught.value.response.content)["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_error")
    assert [attempt["model"] for attempt in error["attempts"]] == [alone]

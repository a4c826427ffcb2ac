"""The mock node as a shop: balance, reservations, keys, tokens, caching, clients that leave."""

import asyncio
import json
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from arbstr.mock import DEFAULT_KEY, DEFAULT_MODELS, FAULT_MODELS, MockModel, MockNode, ThreadedNode
from tests.mock_helpers import CAPTURED_MODELS, chat, fetch, get, mid, one, request, running

TOKEN = "cashuB" + "0" * 60


async def test_the_balance_goes_down_by_what_is_billed() -> None:
    async with running(MockNode(models=(mid(),), balance_msats=100_000)) as node:
        first = (await fetch(node, chat("mock-mid"))).json()
        second = (await fetch(node, chat("mock-mid", stream=True))).events()[-2][1]
        info = (await fetch(node, get("/v1/balance/info"))).json()
        # 11 tokens in, 40 out.
        assert first["cost"]["total_msats"] == second["cost"]["total_msats"] == 11 + 160
        assert first["usage"]["remaining_balance_msats"] == 100_000 - 171
        assert second["usage"]["remaining_balance_msats"] == 100_000 - 342
        assert (node.balance_msats, node.billed_msats) == (100_000 - 342, 342)
        assert (info["balance"], info["reserved"], info["total_spent"]) == (99_658, 0, 342)
        assert [seen.charged_msats for seen in node.requests] == [171, 171, 0]


async def test_a_request_is_remembered() -> None:
    async with running(MockNode(models=(mid(),), keep_requests=2)) as node:
        for text in ("one", "two", "three"):
            await fetch(node, chat("MOCK-MID-20251222", text))
        assert len(node.requests) == 2
        seen = node.requests[-1]
        assert (seen.method, seen.path, seen.model) == ("POST", "/v1/chat/completions", "mock-mid")
        assert seen.headers["authorization"] == f"Bearer {DEFAULT_KEY}"
        assert json.loads(seen.body)["messages"][0]["content"] == "three"


@pytest.mark.parametrize(
    ("prompt", "completion", "msats"),
    [
        ("0.15", "0.6", 26),  # 1.65 + 24 = 25.65
        ("0.1", "0.4", 18),  # 1.1 + 16 = 17.1
        ("1", "4", 171),
        ("0.000000001", "0", 1),
        ("0", "0", 1),
    ],
)
async def test_a_price_is_exact_and_rounded_up_once(
    prompt: str, completion: str, msats: int
) -> None:
    reply = await one(chat("m"), MockModel("m", prompt, completion))
    assert reply.json()["cost"]["total_msats"] == msats
    assert reply.header("x-routstr-cost-msats") == str(msats)


async def test_a_small_balance_is_enough_for_a_small_limit() -> None:
    # 16,221 msats are reserved for any answer, 81 for one of 20 tokens.
    assert (await one(chat("mock-mid"), balance_msats=16_220)).status == 402
    assert (await one(chat("mock-mid"), balance_msats=16_221)).status == 200
    assert (await one(chat("mock-mid", max_tokens=20), balance_msats=81)).status == 200
    # Another spelling limits the answer, not the reservation.
    assert (await one(chat("mock-mid", max_completion_tokens=20), balance_msats=81)).status == 402


async def test_the_responses_api_gets_no_smaller_reservation() -> None:
    raw = request("/v1/responses", {"model": "mock-mid", "input": "hi", "max_output_tokens": 1})
    assert (await one(raw, balance_msats=44_604)).status == 402
    assert (await one(raw, balance_msats=44_605)).status == 200


async def test_an_answer_in_progress_holds_its_reservation() -> None:
    model = mid(token_delay_ms=5)
    async with running(MockNode(models=(model,), balance_msats=20_000)) as node:
        first = asyncio.create_task(fetch(node, chat("mock-mid", stream=True)))
        await node.arrived()
        info = (await fetch(node, get("/v1/wallet/info"))).json()
        assert (info["balance"], info["reserved"]) == (20_000 - 16_221, 16_221)
        refused = await fetch(node, chat("mock-mid"))
        assert refused.status == 402
        assert "3.779 sats (3779 msats) available" in refused.json()["error"]["message"]
        assert (await first).end == "whole"
        assert (await fetch(node, chat("mock-mid", max_tokens=1))).status == 200


async def test_a_client_that_leaves_pays_in_full() -> None:
    model = mid(token_delay_ms=1)
    async with running(MockNode(models=(model,))) as node:
        host, port = urlsplit(node.url).netloc.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(chat("mock-mid", stream=True))
        await reader.readuntil(b"Hell")
        assert node.billed_msats == 0
        writer.transport.abort()
        await node.idle()
        assert node.billed_msats == 11 + 160
        assert node.requests[0].charged_msats == 11 + 160
        assert node.balance_msats == 10_000_000 - 171


async def test_stopping_ends_what_is_played() -> None:
    node = MockNode(stall_ms=60_000)
    await node.start()
    waiting = asyncio.create_task(fetch(node, chat("mock-stall")))
    await node.arrived()
    await node.stop()
    assert (await waiting).end == "cut"
    assert node.billed_msats == 0
    with pytest.raises(RuntimeError, match="not running"):
        _ = node.url


async def test_keys_are_checked_after_the_model() -> None:
    async with running(MockNode(models=(mid(),))) as node:
        for key in ("sk-12345", DEFAULT_KEY):
            raw = request("/v1/chat/completions", {"model": "mock-mid", "messages": []}, key)
            assert (await fetch(node, raw)).status == 200
        bad = request("/v1/chat/completions", {"model": "mock-mid", "messages": []}, "sk-1")
        assert (await fetch(node, bad)).json()["detail"]["error"]["code"] == "invalid_api_key"
        unknown = request("/v1/chat/completions", {"model": "other", "messages": []}, "sk-1")
        assert (await fetch(node, unknown)).json()["error"]["type"] == "invalid_model"


async def test_every_answer_has_a_request_id() -> None:
    async with running(MockNode()) as node:
        for raw in (chat("gpt-4o"), chat("nobody"), get("/v1/models"), get("/v1/balance/info")):
            reply = await fetch(node, raw)
            assert len(reply.header("x-routstr-request-id") or "") == 36


async def test_a_token_is_good_once_and_change_comes_back() -> None:
    body = {"model": "mock-mid", "messages": [{"role": "user", "content": "hello"}]}
    raw = request("/v1/chat/completions", body, None, f"X-Cashu: {TOKEN}")
    async with running(MockNode(models=CAPTURED_MODELS)) as node:
        paid = await fetch(node, raw)
        assert (paid.header("x-cashu") or "").startswith("cashuB")
        assert paid.header("x-routstr-cost-msats") == "171"
        assert paid.json()["usage"]["cost"]["total_msats"] == 171
        assert "cost" not in paid.json()
        assert "remaining_balance_msats" not in paid.json()["usage"]
        spent = await fetch(node, raw)
        assert (spent.status, spent.json()["error"]["code"]) == (400, "cashu_token_already_spent")
        assert (node.balance_msats, node.billed_msats) == (10_000_000, 171)


async def test_a_token_too_small_stays_good() -> None:
    def asking(model: str) -> bytes:
        body = {"model": model, "messages": []}
        return request("/v1/chat/completions", body, None, f"X-Cashu: {TOKEN}")

    async with running(MockNode(models=CAPTURED_MODELS)) as node:
        assert (await fetch(node, asking("mock-pricey"))).status == 402
        assert (await fetch(node, asking("mock-mid"))).status == 200


async def test_a_refund_takes_everything() -> None:
    async with running(MockNode(balance_msats=59_953)) as node:
        reply = await fetch(node, request("/v1/balance/refund", {}))
        assert reply.json()["sats"] == "59"
        assert node.balance_msats == 0
        refused = await fetch(node, request("/v1/balance/refund", {}, None))
        assert refused.status == 401


async def test_count_tokens_counts_what_is_billed() -> None:
    body = {"model": "mock-mid", "max_tokens": 9, "messages": [{"role": "user", "content": "hey"}]}
    async with running(MockNode(models=(mid(),))) as node:
        counted = (await fetch(node, request("/v1/messages/count_tokens", body))).json()
        billed = (await fetch(node, request("/v1/messages?beta=true", body))).json()
    assert counted == {"input_tokens": billed["usage"]["input_tokens"]}


async def test_prices_and_models_can_change() -> None:
    async with running(MockNode(models=(mid(),), faults=False)) as node:
        node.sell((MockModel("new", "1", "1"),))
        listed = (await fetch(node, get("/v1/models"))).json()["data"]
        assert [model["id"] for model in listed] == ["new"]
        assert (await fetch(node, chat("mock-mid"))).status == 400


async def test_the_usual_models_and_every_fault_are_listed() -> None:
    async with running(MockNode()) as node:
        listed = (await fetch(node, get("/v1/models", None))).json()["data"]
    assert [model["id"] for model in listed] == [m.id for m in (*DEFAULT_MODELS, *FAULT_MODELS)]
    mini = next(model for model in listed if model["id"] == "gpt-4o-mini")
    assert mini["sats_pricing"]["prompt"] == 0.00015
    assert mini["architecture"]["input_modalities"] == ["text", "image"]
    sold = {model["id"]: model["sats_pricing"]["completion"] for model in listed}
    real = [price for name, price in sold.items() if not name.startswith("mock-")]
    faults = [sold[model.id] for model in FAULT_MODELS]
    assert max(faults) < min(price for price in real if price > 2e-5)


def test_two_models_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="two models answer to 'b'"):
        MockNode(models=(MockModel("a", "1", "1", aliases=("b",)), MockModel("b", "1", "1")))


async def test_one_connection_carries_many_requests() -> None:
    body = json.dumps({"model": "mock-mid", "messages": []}).encode()
    raw = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: mock\r\nAuthorization: Bearer sk-00000000\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    async with running(MockNode(models=(mid(),))) as node:
        host, port = urlsplit(node.url).netloc.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for n in range(1, 4):
            writer.write(raw)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert "connection: close" not in head
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            assert json.loads(await reader.readexactly(length))["object"] == "chat.completion"
            assert len(node.requests) == n
        writer.close()


@pytest.mark.parametrize("depth", [5_000, 1_000_000])
async def test_a_body_nested_too_deep_is_an_error(depth: int) -> None:
    data = b'{"model": "mock-mid", "messages": %s%s}' % (b"[" * depth, b"]" * depth)
    head = request("/v1/chat/completions", {}).partition(b"Content-Length")[0]
    reply = await one(head + b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
    assert reply.status in (400, 500)
    assert reply.end == "whole"


def test_it_runs_alone_until_interrupted() -> None:
    command = [sys.executable, "-m", "arbstr.mock", "--port", "0", "--balance-sats", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        url = first.split()[2]
        assert url.startswith("http://127.0.0.1:")
        info = asyncio.run(fetch(url, get("/v1/balance/info"))).json()
        process.send_signal(signal.SIGINT)
        table = process.stdout.read()
    assert info["balance"] == 7000
    assert DEFAULT_KEY in first
    assert all(model.id in table for model in FAULT_MODELS)
    assert process.returncode == 0


def test_a_node_runs_in_a_thread_for_those_without_a_loop() -> None:
    with ThreadedNode(MockNode(models=(mid(),))) as served:
        reply = asyncio.run(fetch(served.node, chat("mock-mid")))
        assert reply.status == 200
        served.idle()
        assert served.node.billed_msats == 171
        port = urlsplit(served.node.url).port
        assert port is not None
        with pytest.raises(OSError, match="in use"), ThreadedNode(MockNode(), port):
            pass

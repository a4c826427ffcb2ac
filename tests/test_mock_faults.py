"""Every misbehaving model misbehaves as its table says, in each dialect, streamed and not."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from arbstr.mock import FAULT_MODELS, FAULTS, Fault, MockModel, MockNode
from arbstr.mock.faults import FAIL_STATUSES
from tests.mock_helpers import Reply, fetch, request, running

HELLO = [{"role": "user", "content": "hello"}]
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
BODIES: dict[str, dict[str, object]] = {
    CHAT: {"messages": HELLO},
    MESSAGES: {"messages": HELLO, "max_tokens": 1000},
    RESPONSES: {"input": "hello"},
}
DIALECTS = pytest.mark.parametrize("path", BODIES)
STREAMED = pytest.mark.parametrize("stream", [False, True])
GOOD = MockModel("mock-good", "0.05", "0.1", max_output=4_096)
PRICE_MSATS = 5  # 11 * 0.05 + 40 * 0.1, rounded up
WORDS = ("chat.completion.chunk", "content_block_delta", "response.output_text.delta")


async def reply_and_bill(path: str, model: str, *, stream: bool) -> tuple[Reply, int]:
    body = BODIES[path] | {"model": model, "stream": stream}
    async with running(MockNode(models=(GOOD,), stall_ms=30)) as node:
        reply = await fetch(node, request(path, body))
        await node.idle()
        assert node.requests[0].model == model
        assert node.balance_msats == 10_000_000 - node.billed_msats
        return reply, node.billed_msats


def billed(path: str, *, stream: bool) -> int:
    """What a good answer costs: the node bills nothing for streamed responses."""
    return 0 if stream and path == RESPONSES else PRICE_MSATS


def is_ended(path: str, reply: Reply) -> bool:
    """Whether the end marker came."""
    marker = {
        CHAT: b"data: [DONE]",
        MESSAGES: b'"message_stop"',
        RESPONSES: b'"response.completed"',
    }
    return marker[path] in reply.body


def has_words(reply: Reply) -> bool:
    return (
        any(word.encode() in reply.body for word in WORDS) and b"Hello! How can I hel" in reply.body
    )


def test_every_fault_has_a_row_and_a_model() -> None:
    assert set(FAULTS) == set(Fault)
    assert {model.fault for model in FAULT_MODELS} == set(Fault)
    assert {model.fail_status for model in FAULT_MODELS} == {None, *FAIL_STATUSES}
    assert all(model.id.startswith("mock-") for model in FAULT_MODELS)


@DIALECTS
@STREAMED
@pytest.mark.parametrize("status", [*FAIL_STATUSES, 403, 520])
async def test_fail(path: str, stream: bool, status: int) -> None:
    body = BODIES[path] | {"model": "f", "stream": stream}
    model = MockModel("f", "1", "1", fault=Fault.FAIL, fail_status=status)
    async with running(MockNode(models=(model,))) as node:
        reply = await fetch(node, request(path, body))
    assert (reply.status, reply.end, node.billed_msats) == (status, "whole", 0)
    assert reply.header("content-type") == "application/json"
    assert {"error", "detail"} & reply.json().keys()
    assert (reply.header("retry-after") == "20") == (status == 429 and path != MESSAGES)
    if status == 400:
        assert reply.json()["error"]["code"] == "context_length_exceeded"
    if status == 402:
        assert reply.json()["detail"]["error"]["code"] == "insufficient_balance"


@DIALECTS
@STREAMED
async def test_drop_and_reset_send_no_byte(path: str, stream: bool) -> None:
    dropped, drop_cost = await reply_and_bill(path, "mock-drop", stream=stream)
    reset, reset_cost = await reply_and_bill(path, "mock-reset", stream=stream)
    assert (dropped.status, dropped.end, drop_cost) == (0, "cut", 0)
    assert (reset.status, reset.end, reset_cost) == (0, "reset", 0)


@DIALECTS
@STREAMED
@pytest.mark.parametrize("model", ["mock-stall", "mock-stall-mid", "mock-good"])
async def test_a_stall_ends_in_a_whole_answer(path: str, stream: bool, model: str) -> None:
    reply, cost = await reply_and_bill(path, model, stream=stream)
    assert (reply.status, reply.end) == (200, "whole")
    assert cost == billed(path, stream=stream)
    assert is_ended(path, reply) if stream else reply.json()["usage"]


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@STREAMED
async def test_a_stall_that_nobody_waits_for_is_billed(path: str, stream: bool) -> None:
    body = BODIES[path] | {"model": "mock-stall", "stream": stream}
    async with running(MockNode(stall_ms=30)) as node:
        host, port = urlsplit(node.url).netloc.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(request(path, body))
        await node.arrived()
        writer.transport.abort()
        await node.idle()
        assert node.billed_msats == PRICE_MSATS


@DIALECTS
async def test_a_cut_stream_ends_cleanly_or_by_a_reset(path: str) -> None:
    cut, cut_cost = await reply_and_bill(path, "mock-cut", stream=True)
    reset, reset_cost = await reply_and_bill(path, "mock-cut-reset", stream=True)
    assert (cut.end, reset.end, cut_cost, reset_cost) == ("whole", "reset", 0, 0)
    for reply in (cut, reset):
        assert has_words(reply)
        assert not is_ended(path, reply)
        assert b"cost" not in reply.body


@DIALECTS
async def test_a_cut_plain_body_is_shorter_than_it_says(path: str) -> None:
    cut, cut_cost = await reply_and_bill(path, "mock-cut", stream=False)
    reset, reset_cost = await reply_and_bill(path, "mock-cut-reset", stream=False)
    assert (cut.end, reset.end, cut_cost, reset_cost) == ("cut", "reset", 0, 0)
    for reply in (cut, reset):
        assert 0 < len(reply.body) < int(reply.header("content-length") or 0)


async def test_a_tool_call_is_cut_too() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    body = {"model": "mock-cut", "messages": HELLO, "tools": [tool], "tool_choice": "required"}
    async with running(MockNode()) as node:
        reply = await fetch(node, request(CHAT, body | {"stream": True}))
    assert b'"tool_calls"' in reply.body
    assert b'finish_reason": "tool' not in reply.body
    assert not is_ended(CHAT, reply)


@DIALECTS
async def test_an_error_event_comes_first_or_in_the_middle(path: str) -> None:
    first, first_cost = await reply_and_bill(path, "mock-error-event", stream=True)
    later, later_cost = await reply_and_bill(path, "mock-error-mid", stream=True)
    assert (first.status, later.status, first_cost, later_cost) == (200, 200, 0, 0)
    assert b"Provider disconnected" in first.body.partition(b"\n\n")[0]
    assert not has_words(first)
    before, _, after = later.body.partition(b"Provider disconnected")
    assert b"Hello! How can I hel" in before
    assert is_ended(path, later) == (path == CHAT)
    if path == CHAT:
        usage = json.loads(after.split(b"data: ")[1])["usage"]
        assert (usage["total_tokens"], usage["cost"]["total_msats"]) == (0, 0)


@DIALECTS
@pytest.mark.parametrize(
    ("model", "stream"),
    [
        ("mock-200-error", True),
        ("mock-200-error", False),
        ("mock-error-event", False),
        ("mock-error-mid", False),
    ],
)
async def test_an_error_under_200(path: str, model: str, stream: bool) -> None:
    reply, cost = await reply_and_bill(path, model, stream=stream)
    assert (reply.status, cost) == (200, 0)
    assert reply.header("content-type") == "application/json"
    assert reply.json()["error"]["message"]


@DIALECTS
async def test_no_done_lacks_only_the_end_marker(path: str) -> None:
    reply, cost = await reply_and_bill(path, "mock-no-done", stream=True)
    assert (reply.end, cost) == ("whole", billed(path, stream=True))
    assert has_words(reply)
    assert not is_ended(path, reply)
    assert (b"total_msats" in reply.body) == (path != RESPONSES)


@DIALECTS
@STREAMED
async def test_no_usage_is_not_billed(path: str, stream: bool) -> None:
    reply, cost = await reply_and_bill(path, "mock-no-usage", stream=stream)
    assert (reply.status, reply.end, cost) == (200, "whole", 0)
    if stream:
        assert is_ended(path, reply)
        assert b'tokens": 40' not in reply.body
    else:
        assert "usage" not in reply.json()
        assert reply.json()["cost"]["total_msats"] == 0


@DIALECTS
@STREAMED
async def test_empty(path: str, stream: bool) -> None:
    reply, cost = await reply_and_bill(path, "mock-empty", stream=stream)
    assert (reply.status, reply.body, reply.end, cost) == (200, b"", "whole", 0)


@DIALECTS
@STREAMED
async def test_html(path: str, stream: bool) -> None:
    reply, cost = await reply_and_bill(path, "mock-html", stream=stream)
    assert (reply.status, reply.end, cost) == (200, "whole", 0)
    assert reply.header("content-type") == "text/html; charset=utf-8"
    assert reply.body.startswith(b"<!DOCTYPE html>")


@DIALECTS
@STREAMED
async def test_broken_json(path: str, stream: bool) -> None:
    reply, cost = await reply_and_bill(path, "mock-broken-json", stream=stream)
    assert (reply.status, reply.end, cost) == (200, "whole", 0)
    with pytest.raises(ValueError, match="line 1 column"):
        json.loads(reply.body.removeprefix(b"data: "))


@DIALECTS
@STREAMED
async def test_overcharge_bills_three_times_and_says_so(path: str, stream: bool) -> None:
    reply, cost = await reply_and_bill(path, "mock-overcharge", stream=stream)
    assert cost == 3 * billed(path, stream=stream)
    assert b'"total_msats": %d' % cost in reply.body


async def test_slow_sends_token_by_token() -> None:
    hasty = MockModel("m", "1", "1", token_delay_ms=1)
    async with running(MockNode(models=(hasty,))) as node:
        body = BODIES[CHAT] | {"model": "m", "stream": True}
        slow = await fetch(node, request(CHAT, body))
        plain = await fetch(node, request(CHAT, body | {"stream": False}))
    pieces = [
        choice["delta"]["content"]
        for _, data in slow.events()[:-1]
        for choice in data["choices"]
        if choice["delta"].get("content")
    ]
    assert max(map(len, pieces)) == 4
    assert "".join(pieces) == plain.json()["choices"][0]["message"]["content"]
    assert next(m for m in FAULT_MODELS if m.fault is Fault.SLOW).token_delay_ms == 100

"""Given the captured tokens, text and ids, the mock node writes the captured bytes."""

import re
from dataclasses import replace
from typing import Any

import pytest

from arbstr.mock import MockModel
from arbstr.mock.answer import Answer
from arbstr.mock.ask import read
from arbstr.mock.dialects import chat, messages, responses
from arbstr.mock.dialects.events import dumps
from arbstr.mock.models import Rates
from arbstr.mock.money import Bill, Usage, in_sats, reservation_msats
from arbstr.mock.script import Dialect
from tests.mock_helpers import CAPTURED_MODELS, capture

ASK = read({"messages": [{"role": "user", "content": "hello"}]})
HELLO = "Hello! How can I help you today?"
ODD = MockModel("odd", "1", "4", "0.1")
RATES = {model.id: Rates.of(model) for model in (*CAPTURED_MODELS, ODD)}
ANY_UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
VENDOR = {"gpt-4o-mini": "openai/gpt-4o-mini", "claude-sonnet-4.5": "anthropic/claude-sonnet-4.5"}


def answer_of(
    body: dict[str, Any], usage: Usage, text: str = HELLO, reasoning: str = "", tool: str = ""
) -> Answer:
    """The answer that a captured body or event holds."""
    inner = body.get("response", body)
    output = inner.get("output") or [{"id": "msg-"}]
    return Answer(
        model=inner["model"],
        text=text,
        reasoning=reasoning,
        tool=tool or None,
        cut=False,
        usage=usage,
        id=re.sub(r"^(chatcmpl|resp|msg)[-_]", "", inner["id"]),
        call_id="mock_1",
        item_id=output[0]["id"].removeprefix("msg-"),
        created=inner.get("created", inner.get("created_at", 0)),
    )


def bill_for(model: str, usage: Usage, remaining_msats: int) -> Bill:
    bill = Bill.of(RATES[model], usage)
    return bill.paid(remaining_msats + bill.total_msats)


def remaining(body: dict[str, Any]) -> int:
    return int(body["cost"]["remaining_balance_msats"])


@pytest.mark.parametrize(
    ("name", "model", "usage", "text"),
    [
        ("chat_ok", "mock-mid", Usage(11, 0, 9), HELLO),
        ("cost_big", "mock-mid", Usage(12345, 0, 6789), "A very expensive answer."),
        ("cost_fraction_cheap", "mock-cheap", Usage(11, 0, 9), HELLO),
        ("cost_free_model", "mock-free", Usage(11, 0, 9), HELLO),
        ("cost_pricey", "mock-pricey", Usage(11, 0, 9), HELLO),
        ("cost_zero_usage", "mock-mid", Usage(), "zero usage"),
        ("model_id_alias", "claude-sonnet-4.5", Usage(11, 0, 9), HELLO),
        ("model_id_without_vendor_prefix", "gpt-4o-mini", Usage(11, 0, 9), HELLO),
    ],
)
def test_plain_chat_is_the_captured_bytes(name: str, model: str, usage: Usage, text: str) -> None:
    seen = capture(name)
    bill = bill_for(model, usage, remaining(seen.json()))
    assert dumps(chat.plain(ASK, answer_of(seen.json(), usage, text), bill)) == seen.body
    costs = [
        f"{key}: {value}"
        for key, value in seen.headers
        if key.startswith("x-routstr-")
        if "cost" in key
    ]
    assert bill.header_lines() == costs


def test_chat_with_reasoning_and_with_a_tool_is_the_captured_bytes() -> None:
    seen = capture("chat_reasoning")
    usage = Usage(30, 0, 25)
    thought = answer_of(seen.json(), usage, "42", "Let me think about the question.")
    bill = bill_for("mock-mid", usage, remaining(seen.json()))
    assert dumps(chat.plain(ASK, thought, bill)) == seen.body

    seen = capture("chat_tool")
    usage = Usage(50, 0, 18)
    call = answer_of(seen.json(), usage, "", tool="get_weather")
    bill = bill_for("mock-mid", usage, remaining(seen.json()))
    prague = rb'"{\"city\":\"Prague\"}"'  # the mock knows no arguments
    assert dumps(chat.plain(ASK, call, bill)) == seen.body.replace(prague, b'"{}"')


def test_more_than_the_balance_is_not_taken() -> None:
    seen = capture("cost_overrun_beyond_balance")
    usage = Usage(12345, 0, 6789)
    bill = Bill.of(RATES["mock-mid"], usage).paid(5000)
    answer = answer_of(seen.json(), usage, "A very expensive answer.")
    assert dumps(chat.plain(ASK, answer, bill)) == seen.body
    assert bill.header_lines()[0] == f"x-routstr-cost-msats: {seen.header('x-routstr-cost-msats')}"
    assert (bill.total_msats, bill.remaining_msats) == (5000, 0)


def whole_stream(dialect: Dialect, answer: Answer, bill: Bill, *, usage: bool = True) -> bytes:
    words = [dialect.piece(ASK, answer, text) for text in answer.pieces(20)]
    end = dialect.closing(ASK, answer, bill, usage=usage)
    return b"".join([*dialect.opening(ASK, answer), *words, *end])


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("chat_stream_include_usage", "mock-mid"),
        ("chat_stream_no_include_usage", "mock-mid"),
        ("cost_free_model_stream", "mock-free"),
    ],
)
def test_streamed_chat_is_the_captured_bytes(name: str, model: str) -> None:
    seen = capture(name)
    last = seen.events()[-2][1]
    usage = Usage(11, 0, 9)
    bill = bill_for(model, usage, remaining(last))
    assert whole_stream(chat, answer_of(last, usage), bill).strip() == seen.body.strip()


def test_streamed_reasoning_is_the_captured_bytes() -> None:
    seen = capture("chat_stream_reasoning")
    last = seen.events()[-2][1]
    usage = Usage(30, 0, 25)
    answer = answer_of(last, usage, "42", "Let me think about the question.")
    bill = bill_for("mock-mid", usage, remaining(last))
    assert whole_stream(chat, answer, bill).strip() == seen.body.strip()


def test_a_streamed_tool_call_is_the_captured_bytes() -> None:
    seen = capture("chat_stream_tool")
    last = seen.events()[-2][1]
    usage = Usage(50, 0, 18)
    answer = answer_of(last, usage, "", tool="get_weather")
    bill = bill_for("mock-mid", usage, remaining(last))
    prague = rb'"{\"city\":\"Prague\"}"'
    assert whole_stream(chat, answer, bill).strip() == seen.body.strip().replace(prague, b'"{}"')


def test_cached_tokens_stand_and_are_priced_as_captured() -> None:
    # The odd upstream leaves out fields that the usual one has: only the end is compared.
    usage = Usage(100, 60, 10)
    plain, stream = capture("odd_cached"), capture("odd_cached_stream").events()[-2][1]
    bill = bill_for("odd", usage, remaining(plain.json()))
    ours = dumps(chat.plain(ASK, answer_of(plain.json(), usage), bill))
    start = b'"usage": '
    assert ours[ours.index(start) :] == plain.body[plain.body.index(start) :]
    assert bill.total_msats == 86
    bill = bill_for("odd", usage, remaining(stream))
    _, last, _ = chat.closing(ASK, answer_of(stream, usage), bill)
    assert last == b"data: %s\n\n" % dumps(stream)


def test_an_error_and_a_missing_usage_are_written_as_captured() -> None:
    nothing = Usage()
    error = capture("odd_error_event_stream").events()
    answer = replace(answer_of(error[0][1], nothing), model="odd")
    bill = bill_for("odd", nothing, remaining(error[3][1]))
    ours = b"".join(chat.failure(answer, bill, first=False))
    theirs = [dumps(error[2][1] | {"model": "odd"}), dumps(error[3][1]), b"[DONE]"]
    assert ours == b"".join(b"data: %s\n\n" % event for event in theirs)

    plain = capture("odd_error_event")
    bill = bill_for("odd", nothing, remaining(plain.json()))
    body = dumps(chat.error_body(replace(answer, model="odd-error-event"), bill))
    assert ANY_UUID.sub(b"", body) == ANY_UUID.sub(b"", plain.body)

    plain = capture("odd_no_usage")
    bill = bill_for("odd", nothing, remaining(plain.json()))
    body = dumps(chat.plain(ASK, answer_of(plain.json(), Usage(9, 0, 9)), bill, usage=False))
    start = b', "provider": '
    assert body[body.index(start) :] == plain.body[plain.body.index(start) :]
    assert b'"usage"' not in body

    last = capture("odd_no_usage_stream").events()[-2][1]
    bill = bill_for("odd", nothing, remaining(last))
    end = chat.closing(ASK, answer, bill, usage=False)
    assert end[1:] == [b"data: %s\n\n" % dumps(last), b"data: [DONE]\n\n"]


def test_responses_are_the_captured_bytes() -> None:
    usage = Usage(11, 0, 9)
    seen = capture("responses_ok")
    bill = bill_for("mock-mid", usage, remaining(seen.json()))
    assert dumps(responses.plain(ASK, answer_of(seen.json(), usage), bill)) == seen.body

    seen = capture("responses_stream")
    last = seen.events()[-1][1]
    free = bill_for("mock-mid", Usage(), remaining(last))
    assert whole_stream(responses, answer_of(last, usage), free).strip() == seen.body.strip()


def test_messages_are_the_captured_bytes_but_for_their_ids() -> None:
    usage = Usage(11, 0, 9)
    seen = capture("messages_litellm")
    bill = bill_for("mock-mid", usage, remaining(seen.json()))
    body = dumps(messages.plain(ASK, answer_of(seen.json(), usage), bill))
    assert ANY_UUID.sub(b"", body) == ANY_UUID.sub(b"", seen.body)

    seen = capture("messages_litellm_stream")
    first = seen.events()[0][1]["message"]
    body = whole_stream(messages, answer_of(first, usage), bill)
    assert ANY_UUID.sub(b"", body).strip() == ANY_UUID.sub(b"", seen.body).strip()


@pytest.mark.parametrize(
    ("model", "chars", "max_tokens", "msats"),
    [
        ("mock-pricey", 5, None, 2_376_015),  # err_402_insufficient
        ("mock-mid", 5, None, 16_221),  # err_402_max_completion_tokens_ignored
        ("mock-mid", 12, None, 16_224),  # balance_info_while_reserved
        ("claude-native", 5, 1000, 15_153),  # err_402_messages
        ("mock-mid", 5, 10, 41),
        ("mock-mid", 5, -7, 1),
        ("mock-mid", None, None, 44_605),  # no messages to size: 0.99 of max_cost
        ("mock-free", 5, None, 0),
    ],
)
def test_a_reservation_is_the_captured_one(
    model: str, chars: int | None, max_tokens: int | None, msats: int
) -> None:
    assert reservation_msats(RATES[model], chars, max_tokens) == msats


@pytest.mark.parametrize(
    ("msats", "prose"),
    [(2_376_015, "2376.015"), (1000, "1"), (953, "0.953"), (0, "0"), (10, "0.01")],
)
def test_amounts_are_written_as_the_node_writes_them(msats: int, prose: str) -> None:
    assert in_sats(msats) == prose


@pytest.mark.parametrize("price", ["-1", "NaN", "Infinity", "a", "0.0000000001"])
def test_a_price_that_cannot_be_kept_exactly_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match="not a price"):
        MockModel("x", price, "1")

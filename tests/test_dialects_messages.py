"""Anthropic messages: usage that is not counted twice, errors in Anthropic's shape."""

from __future__ import annotations

import json

import pytest

from arbstr.core.dialects import by_path
from arbstr.core.dialects.base import Mark, Problem
from arbstr.core.dialects.messages import COUNT_TOKENS, MESSAGES
from arbstr.core.price import Bill
from arbstr.core.usage import Usage
from tests.dialect_helpers import ask, edited, facts, marks, reader
from tests.talk import event

USER = {"role": "user", "content": "hello"}
EPHEMERAL = {"cache_control": {"type": "ephemeral"}}


def body(**more: object) -> dict[str, object]:
    return {"model": "m", "max_tokens": 100, "messages": [USER]} | more


def text(said: str, **more: object) -> dict[str, object]:
    return {"type": "text", "text": said} | more


def test_what_claude_code_asks_for() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text("7")], **EPHEMERAL}
    found = ask(
        MESSAGES,
        body(
            stream=True,
            system=[text("you are"), text("claude", **EPHEMERAL)],
            thinking={"type": "adaptive"},
            tools=[{"name": "Bash"}],
            messages=[
                {"role": "user", "content": [text("context"), text("do it", **EPHEMERAL)]},
                {"role": "system", "content": "a reminder"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]},
                {"role": "user", "content": [result]},
            ],
        ),
    )
    assert (found.stream, found.tools, found.max_output, found.reserves) == (True, True, 100, True)
    assert (found.images, found.messages, found.output) == (0, 4, True)
    assert found.last_user_text == "context\ndo it"  # a tool's result is not the user's words


def test_images_are_counted_also_in_tool_results() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 5_000}}
    result = {"type": "tool_result", "content": [image]}
    found = ask(MESSAGES, body(messages=[{"role": "user", "content": [image, result]}]))
    assert found.images == 2
    assert found.prompt_bytes < 500


def test_a_conversation_keeps_its_name_while_the_cache_marks_wander() -> None:
    def name(system: object, *messages: object) -> str | None:
        return ask(MESSAGES, body(system=system, messages=list(messages))).conversation

    marked = {"role": "user", "content": [text("hello", **EPHEMERAL)]}
    first = name("s", marked)
    assert first is not None
    assert name([text("s", **EPHEMERAL)], USER, {"role": "assistant", "content": "hi"}) == first
    assert name("t", USER) != first
    assert name("s", {"role": "user", "content": "other"}) != first
    assert name("s") is None


def test_only_the_model_changes() -> None:
    sent = body(stream=True, metadata={"user_id": "u"}, system="s")
    assert edited(MESSAGES, sent, "other", None) == sent | {"model": "other"}
    assert edited(MESSAGES, sent, "m", 50) == sent | {"max_tokens": 50}


# --- usage ----------------------------------------------------------------------------------------


def start(**usage: int) -> bytes:
    return event({"type": "message_start", "message": {"usage": usage}}, "message_start")


def change(**usage: int) -> bytes:
    return event({"type": "message_delta", "delta": {}, "usage": usage}, "message_delta")


@pytest.mark.parametrize(
    ("stream", "usage"),
    [
        # Anthropic's own: the delta's output is a total, the input stands in the start
        (
            start(input_tokens=25, output_tokens=1) + change(output_tokens=15),
            Usage(25, None, None, 15),
        ),
        (
            start(
                input_tokens=3,
                cache_read_input_tokens=60,
                cache_creation_input_tokens=30,
                output_tokens=1,
            )
            + change(output_tokens=15),
            Usage(3, 60, 30, 15),
        ),
        # the same, with all totals said again in the delta
        (
            start(input_tokens=3, cache_read_input_tokens=60, output_tokens=1)
            + change(input_tokens=3, cache_read_input_tokens=60, output_tokens=15),
            Usage(3, 60, None, 15),
        ),
        # server tools make the input grow
        (
            start(input_tokens=100, output_tokens=1) + change(input_tokens=2_000, output_tokens=15),
            Usage(2_000, None, None, 15),
        ),
        # litellm: nothing in the start (capture messages_litellm_stream)
        (
            start(input_tokens=0, output_tokens=0) + change(input_tokens=11, output_tokens=9),
            Usage(11, None, None, 9),
        ),
        # relays that fill in zeros
        (
            start(input_tokens=25, cache_read_input_tokens=5, output_tokens=1)
            + change(input_tokens=0, cache_read_input_tokens=0, output_tokens=15),
            Usage(25, 5, None, 15),
        ),
        # an estimate in the start, the truth in the end
        (
            start(input_tokens=100, output_tokens=1)
            + change(input_tokens=0, cache_read_input_tokens=98, output_tokens=9),
            Usage(0, 98, None, 9),
        ),
        # several deltas
        (
            start(input_tokens=25, output_tokens=1)
            + change(output_tokens=5)
            + change(output_tokens=15),
            Usage(25, None, None, 15),
        ),
        (start(input_tokens=25, output_tokens=1) + change(), Usage(25, None, None, 1)),
        (start(), None),
    ],
)
def test_counts_are_totals_and_never_added(stream: bytes, usage: Usage | None) -> None:
    found = reader(MESSAGES, body(stream=True))
    marks(found, stream)
    assert found.usage == usage


def test_the_bill_comes_after_the_end() -> None:
    found = reader(MESSAGES, body(stream=True))
    stream = event({"type": "message_stop"}, "message_stop")
    assert marks(found, stream) == [Mark.END]
    # the node's event names its kind in the `event:` line alone
    assert marks(found, event({"cost": {"total_msats": 47}}, "cost")) == [Mark.COST]
    assert found.bill == Bill(47)
    assert MESSAGES.bill_follows_end


def block(kind: str, **more: object) -> bytes:
    return event({"type": "content_block_start", "content_block": {"type": kind, **more}})


def delta(**members: object) -> bytes:
    return event({"type": "content_block_delta", "delta": members})


@pytest.mark.parametrize(
    ("raw", "mark"),
    [
        (start(input_tokens=1), Mark.NOTHING),
        (event({"type": "ping"}, "ping"), Mark.NOTHING),
        (b"event: ping\n\n", Mark.NOTHING),
        (block("text", text=""), Mark.NOTHING),
        (block("thinking", thinking=""), Mark.NOTHING),
        (block("text", text="x"), Mark.CONTENT),
        (block("tool_use", name="Bash", input={}), Mark.CONTENT),
        (block("redacted_thinking", data="x"), Mark.CONTENT),
        (block("server_tool_use", name="web_search"), Mark.CONTENT),
        (delta(type="text_delta", text="x"), Mark.CONTENT),
        (delta(type="text_delta", text=""), Mark.NOTHING),
        (delta(type="thinking_delta", thinking="x"), Mark.CONTENT),
        (delta(type="signature_delta", signature="x"), Mark.CONTENT),
        (delta(type="input_json_delta", partial_json="{"), Mark.CONTENT),
        (delta(type="input_json_delta", partial_json=""), Mark.NOTHING),
        (event({"type": "content_block_stop"}), Mark.NOTHING),
        (change(output_tokens=1), Mark.NOTHING),
        (event({"type": "message_stop"}), Mark.END),
        (event({}, "message_stop"), Mark.END),
        (event({"type": "error", "error": {"type": "overloaded_error"}}, "error"), Mark.ERROR),
        (event({"error": {"message": "no"}}, "error"), Mark.ERROR),
        (event({"error": {"message": "no"}}), Mark.ERROR),
        (event("{", "message_start"), Mark.BROKEN),
        (event({"type": "new_kind"}), Mark.NOTHING),
    ],
)
def test_what_an_event_is(raw: bytes, mark: Mark) -> None:
    assert marks(reader(MESSAGES, body(stream=True)), raw) == [mark]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"type": "message", "content": [text("hi")]}, None),
        ({"content": []}, None),
        ({"type": "message"}, "the answer has no content"),
        ({"type": "error", "error": {"type": "api_error", "message": "no"}}, "a 200 answer holds"),
        ({"type": "error"}, "a 200 answer holds"),
        ("<html>", "the answer is not a JSON object"),
    ],
)
def test_what_a_plain_answer_is(answer: object, problem: str | None) -> None:
    found = facts(MESSAGES, answer).problem
    assert found == problem or (problem and found and found.startswith(problem))


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_anthropics_shape_and_types(status: int, kind: str) -> None:
    upstreams = {"type": "insufficient_quota", "param": None}
    problem = Problem(status, "no", "insufficient_quota", "code", upstreams)
    for dialect in (MESSAGES, COUNT_TOKENS):
        assert json.loads(dialect.error_body(problem)) == {
            "type": "error",
            "error": {"type": kind, "message": "no", "code": "code", "param": None},
        }


def test_an_interruption_is_an_error_event() -> None:
    raw = MESSAGES.error_event(Problem(502, "cut", "upstream_error", "stream_interrupted"))
    assert raw.startswith(b"event: error\ndata: ")
    data = json.loads(raw.partition(b"data: ")[2])
    assert (data["type"], data["error"]["type"]) == ("error", "api_error")
    assert data["error"]["code"] == "stream_interrupted"


# --- counting tokens ------------------------------------------------------------------------------


def test_counting_is_a_plain_question_without_output() -> None:
    found = ask(COUNT_TOKENS, body(stream=True, tools=[{"name": "Bash"}]))
    assert (found.stream, found.output, found.tools) == (False, False, True)
    assert edited(COUNT_TOKENS, body(), "n") == body(model="n")
    assert by_path("/v1/messages/count_tokens") is COUNT_TOKENS


def test_what_it_costs_is_not_known() -> None:
    found = facts(COUNT_TOKENS, {"input_tokens": 8})
    assert (found.problem, found.usage, found.bill) == (None, None, None)
    assert facts(COUNT_TOKENS, {"tokens": 8}).problem == "the answer has no input_tokens"
    assert facts(COUNT_TOKENS, {"type": "error", "error": {"message": "no"}}).problem


def test_counting_tokens_counts_against_no_cap() -> None:
    assert ask(COUNT_TOKENS, body()).free
    assert not ask(MESSAGES, body()).free

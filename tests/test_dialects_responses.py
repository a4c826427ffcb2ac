"""OpenAI responses: items or a text, ends without an ``event:`` line, failures with a status."""

from __future__ import annotations

import json

import pytest

from arbstr.core.dialects.base import Mark, Problem
from arbstr.core.dialects.responses import RESPONSES
from arbstr.core.price import Bill
from arbstr.core.usage import Usage
from tests.dialect_helpers import ask, edited, facts, marks, reader
from tests.talk import event


def body(said: object = "hello", **more: object) -> dict[str, object]:
    return {"model": "m", "input": said} | more


def message(role: str, *texts: str) -> dict[str, object]:
    parts = [{"type": "input_text", "text": said} for said in texts]
    return {"type": "message", "role": role, "content": parts}


def test_what_codex_asks_for() -> None:
    found = ask(
        RESPONSES,
        body(
            [
                message("developer", "you are codex"),
                message("user", "context", "do it"),
                {"type": "function_call", "name": "exec_command", "arguments": "{}"},
                {"type": "function_call_output", "output": "7"},
            ],
            stream=True,
            tools=[{"type": "function"}],
            reasoning={"summary": "auto"},
            prompt_cache_key="key",
        ),
    )
    assert (found.stream, found.tools, found.messages) == (True, True, 4)
    assert (found.max_output, found.reserves, found.images) == (None, False, 0)
    assert (found.last_user_text, found.conversation) == ("context\ndo it", "key")


def test_a_text_is_an_input_too() -> None:
    found = ask(RESPONSES, body("fix bug", max_output_tokens=50))
    assert (found.last_user_text, found.max_output, found.reserves) == ("fix bug", 50, False)
    assert found.conversation is not None


@pytest.mark.parametrize(
    ("kind", "json_mode"), [("text", False), ("json_object", True), ("json_schema", True)]
)
def test_json_mode(kind: str, json_mode: bool) -> None:
    assert ask(RESPONSES, body(text={"format": {"type": kind}})).json_mode is json_mode


def test_images_are_counted_and_not_weighed() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 5_000}
    found = ask(RESPONSES, body([{"role": "user", "content": [image]}]))
    assert found.images == 1
    assert found.prompt_bytes < 500


def test_a_conversation_keeps_its_name_as_it_grows() -> None:
    def name(said: object, **more: object) -> str | None:
        return ask(RESPONSES, body(said, **more)).conversation

    first = name([message("user", "hello")], instructions="i")
    assert name("hello", instructions="i") == first
    grown = [message("user", "hello"), {"type": "function_call"}, message("user", "more")]
    assert name(grown, instructions="i") == first
    assert name("hello", instructions="j") != first
    assert name("other", instructions="i") != first


def test_only_the_model_changes() -> None:
    sent = body(stream=True, store=False)
    assert edited(RESPONSES, sent, "n") == sent | {"model": "n"}
    assert edited(RESPONSES, sent, "m", 50) == sent | {"max_output_tokens": 50}


USAGE = {"input_tokens": 11, "output_tokens": 9, "cost": 4.7e-5, "remaining_balance_msats": 3}


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
@pytest.mark.parametrize("name", ["", "kind"])
def test_an_end_with_and_without_its_event_line(kind: str, name: str) -> None:
    found = reader(RESPONSES, body(stream=True))
    response = {"output": [{"type": "message"}], "usage": USAGE}
    raw = event(
        {"type": kind, "response": response, "cost": {"total_msats": 47}}, kind if name else ""
    )
    assert marks(found, raw) == [Mark.END | Mark.CONTENT]
    assert found.usage == Usage(11, None, None, 9)
    assert found.bill == Bill(47, 3)
    assert not found.whole


@pytest.mark.parametrize(
    ("raw", "message_"),
    [
        (event({"type": "response.failed", "response": {"error": {"message": "no"}}}), "no"),
        (event({"type": "response.failed", "response": {}}), "the upstream reported a failed"),
        (event({"type": "error", "message": "no", "code": "x"}, "error"), "no"),
        (event({"type": "error", "error": {"message": "no"}}), "no"),
        (event({"error": {"message": "no"}}), "no"),
    ],
)
def test_a_failure_is_an_error(raw: bytes, message_: str) -> None:
    found = reader(RESPONSES, body(stream=True))
    assert marks(found, raw) == [Mark.ERROR]
    assert found.error is not None
    assert found.error.message.startswith(message_)


def test_what_a_failed_response_cost_is_read() -> None:
    found = reader(RESPONSES, body(stream=True))
    failed = {"error": {"message": "no"}, "usage": {"input_tokens": 11, "output_tokens": 0}}
    raw = {"type": "response.failed", "response": failed, "cost": {"total_msats": 11}}
    marks(found, event(raw))
    assert (found.usage, found.bill) == (Usage(11, None, None, 0), Bill(11))


def item(kind: str, **more: object) -> bytes:
    return event({"type": "response.output_item.added", "item": {"type": kind, **more}})


@pytest.mark.parametrize(
    ("raw", "mark"),
    [
        (event({"type": "response.created", "response": {"output": []}}), Mark.NOTHING),
        (event({"type": "response.in_progress"}), Mark.NOTHING),
        (item("message", content=[]), Mark.NOTHING),
        (item("reasoning", summary=[]), Mark.NOTHING),
        (item("function_call", name="f", arguments=""), Mark.CONTENT),
        (item("web_search_call"), Mark.CONTENT),
        (event({"type": "response.content_part.added", "part": {"text": ""}}), Mark.NOTHING),
        (event({"type": "response.output_text.delta", "delta": "x"}), Mark.CONTENT),
        (event({"type": "response.output_text.delta", "delta": ""}), Mark.NOTHING),
        (event({"type": "response.refusal.delta", "delta": "x"}), Mark.CONTENT),
        (event({"type": "response.reasoning_summary_text.delta", "delta": "x"}), Mark.CONTENT),
        (event({"type": "response.reasoning_text.delta", "delta": "x"}), Mark.CONTENT),
        (event({"type": "response.function_call_arguments.delta", "delta": "{"}), Mark.CONTENT),
        (event({"type": "response.output_text.done", "text": "x"}), Mark.NOTHING),
        (event({"type": "response.completed", "response": {"output": []}}), Mark.END),
        (event({"type": "response.completed"}), Mark.END),
        (event("[DONE]"), Mark.NOTHING),
        (b": ping\n\n", Mark.NOTHING),
        (event({"type": 7}), Mark.NOTHING),
        (event("{"), Mark.BROKEN),
    ],
)
def test_what_an_event_is(raw: bytes, mark: Mark) -> None:
    assert marks(reader(RESPONSES, body(stream=True)), raw) == [mark]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"output": [], "status": "completed", "error": None}, None),
        ({"output": [], "status": "incomplete"}, None),
        ({"output": [], "status": "failed"}, "the upstream reported a failed response"),
        ({"output": [], "error": {"message": "no"}}, "the upstream reported a failed response"),
        ({"status": "completed"}, "the answer has no output"),
        ("<html>", "the answer is not a JSON object"),
    ],
)
def test_what_a_plain_answer_is(answer: object, problem: str | None) -> None:
    assert facts(RESPONSES, answer).problem == problem


def test_an_interruption_is_an_error_event_that_the_sdk_raises_for() -> None:
    raw = RESPONSES.error_event(Problem(502, "cut", "upstream_error", "stream_interrupted"))
    assert raw.startswith(b"event: error\ndata: ")
    data = json.loads(raw.partition(b"data: ")[2])
    assert (data["type"], data["code"], data["message"]) == ("error", "stream_interrupted", "cut")
    assert data["error"]["code"] == "stream_interrupted"

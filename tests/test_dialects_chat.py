"""Chat completions, legacy completions and embeddings: what is read, what is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arbstr.core.dialects import CHAT, by_path
from arbstr.core.dialects.base import Mark
from arbstr.core.dialects.plain import COMPLETIONS, EMBEDDINGS
from arbstr.core.price import Bill
from arbstr.core.usage import Usage
from tests import replay
from tests.dialect_helpers import ask, edited, facts, marks, reader
from tests.talk import event

USER = {"role": "user", "content": "hello"}
IMAGE = "data:image/png;base64," + "A" * 5_000


def body(**more: object) -> dict[str, object]:
    return {"model": "m", "messages": [USER]} | more


def test_what_a_chat_asks_for() -> None:
    found = ask(
        CHAT,
        body(
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=100,
            n=3,
            tools=[{"type": "function"}],
            response_format={"type": "json_schema"},
            messages=[
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "tool", "content": "7"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]},
                {"role": "system", "content": "a reminder"},
            ],
        ),
    )
    assert (found.stream, found.wants_usage, found.choices, found.messages) == (True, True, 3, 6)
    assert (found.max_output, found.reserves) == (100, True)
    assert (found.tools, found.json_mode, found.images) == (True, True, 0)
    assert found.last_user_text == "a\nb"


@pytest.mark.parametrize(
    ("limits", "max_output", "reserves"),
    [
        ({}, None, False),
        ({"max_tokens": 5}, 5, True),
        # the node reserves by max_tokens alone (capture err_402_max_completion_tokens_ignored)
        ({"max_completion_tokens": 7}, 7, False),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7, True),
        ({"max_tokens": 0}, None, False),
    ],
)
def test_limits(limits: dict[str, object], max_output: int | None, reserves: bool) -> None:
    found = ask(CHAT, body(**limits))
    assert (found.max_output, found.reserves) == (max_output, reserves)


@pytest.mark.parametrize(
    ("more", "tools"),
    [({}, False), ({"tools": []}, False), ({"tools": [{}]}, True), ({"functions": [{}]}, True)],
)
def test_tools(more: dict[str, object], tools: bool) -> None:
    assert ask(CHAT, body(**more)).tools is tools


@pytest.mark.parametrize(
    ("kind", "json_mode"), [("text", False), ("json_object", True), ("json_schema", True)]
)
def test_json_mode(kind: str, json_mode: bool) -> None:
    assert ask(CHAT, body(response_format={"type": kind})).json_mode is json_mode


def test_images_are_counted_and_not_weighed() -> None:
    parts = [{"type": "image_url", "image_url": {"url": IMAGE}}] * 2
    found = ask(CHAT, body(messages=[USER, {"role": "user", "content": parts}]))
    assert found.images == 2
    assert found.prompt_bytes < 500


def test_a_conversation_keeps_its_name_as_it_grows() -> None:
    def name(*messages: object, **more: object) -> str | None:
        return ask(CHAT, body(messages=list(messages), **more)).conversation

    system, answer = {"role": "system", "content": "s"}, {"role": "assistant", "content": "hi"}
    first = name(system, USER)
    assert first is not None
    assert name(system, USER, answer, {"role": "user", "content": "more"}) == first
    parts = [{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}]
    assert name(system, {"role": "user", "content": parts}) == first
    assert name({"role": "system", "content": "t"}, USER) != first
    assert name(system, {"role": "user", "content": "other"}) != first
    assert name(USER) != first
    assert name(system) is None
    assert name(system, USER, prompt_cache_key="key") == "key"
    assert name(system, USER, prompt_cache_key="") == first


def test_only_what_must_change_changes() -> None:
    sent = body(temperature=1.0, vendor_field={"a": 1})
    assert edited(CHAT, sent, "m") == sent
    assert edited(CHAT, sent, "other") == sent | {"model": "other"}
    streamed = body(stream=True, stream_options={"include_obfuscation": False})
    assert edited(CHAT, streamed, "m") == streamed | {
        "stream_options": {"include_obfuscation": False, "include_usage": True}
    }
    refused = body(stream=True, stream_options={"include_usage": False})
    assert edited(CHAT, refused, "m")["stream_options"] == {"include_usage": True}
    wanted = body(stream=True, stream_options={"include_usage": True})
    assert edited(CHAT, wanted, "m") == wanted


@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens"])
def test_a_lowered_limit_goes_where_the_client_has_it(member: str) -> None:
    assert edited(CHAT, body(**{member: 900}), "m", 50) == body(**{member: 50})
    assert edited(CHAT, body(), "m", 50) == body(max_tokens=50)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"choices": [{"message": {"content": "hi"}}]}, None),
        ({"choices": [{"message": {"content": ""}}]}, None),
        ({"choices": [{}], "error": None}, None),
        ({"choices": []}, "the answer has no choices"),
        ({"choices": None}, "the answer has no choices"),
        ({}, "the answer has no choices"),
        ({"error": {"message": "no"}}, "a 200 answer holds an error"),
        ({"error": "no", "choices": [{}]}, "a 200 answer holds an error"),
        ([], "the answer is not a JSON object"),
        ("<html>", "the answer is not a JSON object"),
        ("", "the answer is not a JSON object"),
        ('{"choices": [{"mess', "the answer is not a JSON object"),
    ],
)
def test_what_a_plain_answer_is(answer: object, problem: str | None) -> None:
    assert facts(CHAT, answer).problem == problem


def delta(**members: object) -> bytes:
    return event({"choices": [{"index": 0, "delta": members}]})


@pytest.mark.parametrize(
    ("raw", "mark"),
    [
        (delta(role="assistant"), Mark.NOTHING),
        (delta(role="assistant", content=""), Mark.NOTHING),
        (delta(role="assistant", content=None, refusal=None), Mark.NOTHING),
        (delta(content="x"), Mark.CONTENT),
        (delta(reasoning_content="x"), Mark.CONTENT),
        (delta(reasoning="x"), Mark.CONTENT),
        (delta(reasoning_details=[{"text": "x"}]), Mark.CONTENT),
        (delta(tool_calls=[{"index": 0}]), Mark.CONTENT),
        (delta(tool_calls=[]), Mark.NOTHING),
        (delta(function_call={"name": "f"}), Mark.CONTENT),
        (delta(refusal="no"), Mark.CONTENT),
        (event({"choices": [{"index": 0, "text": "x"}]}), Mark.CONTENT),
        (event({"choices": []}), Mark.NOTHING),
        (event({"choices": [], "usage": None}), Mark.NOTHING),
        (event({"choices": [], "usage": {"prompt_tokens": 1}}), Mark.USAGE_ONLY),
        (event({"usage": {"prompt_tokens": 1}}), Mark.USAGE_ONLY),
        (event({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1}}), Mark.NOTHING),
        (event("[DONE]"), Mark.END),
        (event(" [DONE] "), Mark.END),
        (b": ping\n\n", Mark.NOTHING),
        (b"event: ping\n\n", Mark.NOTHING),
        (event({"error": {"message": "no"}}), Mark.ERROR),
        (event({"error": "no"}), Mark.ERROR),
        (event("{"), Mark.BROKEN),
        (event("[]"), Mark.BROKEN),
        (event(""), Mark.BROKEN),
    ],
)
def test_what_an_event_is(raw: bytes, mark: Mark) -> None:
    assert marks(reader(CHAT, body(stream=True)), raw) == [mark]


def test_usage_may_come_more_than_once_and_the_last_word_wins() -> None:
    found = reader(CHAT, body(stream=True))
    for tokens in (1, 2, 9):
        usage = {"prompt_tokens": 11, "completion_tokens": tokens}
        marks(found, event({"choices": [{"delta": {"content": "x"}}], "usage": usage}))
    assert found.usage == Usage(11, output_tokens=9)
    cost = {"total_msats": 47, "remaining_balance_msats": 3}
    marks(found, event({"choices": [], "cost": cost}))
    assert (found.usage, found.bill) == (Usage(11, output_tokens=9), Bill(47, 3))


def test_a_choice_of_any_index_is_read() -> None:
    indices: list[object] = [0, None, "0", {}, [1]]
    for index in indices:
        found = reader(CHAT, body(stream=True))
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        choice = {"index": index, "delta": {"content": "x"}, "finish_reason": "stop"}
        marks(found, event({"choices": [choice], "usage": usage}))
        assert found.whole


# --- legacy completions and embeddings ------------------------------------------------------------


def test_a_completion_is_asked_for() -> None:
    found = ask(COMPLETIONS, {"model": "m", "prompt": "once", "max_tokens": 5, "stream": True})
    assert (found.last_user_text, found.max_output, found.stream) == ("once", 5, True)
    assert ask(COMPLETIONS, {"model": "m", "prompt": ["a", "b"]}).last_user_text == ""
    sent: dict[str, Any] = {"model": "m", "prompt": "once", "stream": True}
    assert edited(COMPLETIONS, sent, "n")["stream_options"] == {"include_usage": True}


def test_a_completion_answers() -> None:
    assert facts(COMPLETIONS, {"choices": [{"text": "x"}]}).problem is None
    found = reader(COMPLETIONS, {"model": "m", "prompt": "once", "stream": True})
    stream = event({"choices": [{"text": "x", "index": 0, "finish_reason": "stop"}]})
    stream += event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    assert marks(found, stream) == [Mark.CONTENT, Mark.USAGE_ONLY]
    assert found.whole


def test_embeddings_have_no_output() -> None:
    found = ask(EMBEDDINGS, {"model": "m", "input": ["a", "b"], "encoding_format": "base64"})
    assert (found.output, found.stream, found.max_output) == (False, False, None)
    said = facts(EMBEDDINGS, json.loads(replay.load("embeddings").answer))
    assert said.problem is None
    assert said.usage == Usage(0, None, None, 0)
    assert said.bill is not None
    assert said.bill.total_msats == 0
    priced = facts(EMBEDDINGS, {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}})
    assert (priced.usage, priced.bill) == (Usage(8, None, None, 0), None)
    assert facts(EMBEDDINGS, {"object": "list"}).problem == "the answer has no data"
    assert facts(EMBEDDINGS, {"error": "no"}).problem == "a 200 answer holds an error"


def test_what_passes_through_is_not_judged() -> None:
    assert by_path("/v1/images/generations") is None

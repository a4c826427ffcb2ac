"""Answers put together from captures of real exchanges, and from shapes that captures lack."""

import json
from pathlib import Path

import pytest

from arbstr.core.dialects import CHAT, Dialect
from arbstr.core.dialects.messages import MESSAGES
from arbstr.core.dialects.plain import COMPLETIONS
from arbstr.core.dialects.responses import RESPONSES
from arbstr.proxy.answers import Part, read_answer
from arbstr.proxy.views_text import answer_text
from tests.mock_helpers import capture

RULE = "─" * 76


def events(*data: object) -> bytes:
    return b"".join(b"data: " + json.dumps(item).encode() + b"\n\n" for item in data)


def shown(dialect: Dialect, name: str, *, streamed: bool) -> str:
    return answer_text(dialect, capture(name).body, streamed=streamed)


def head_and_foot(text: str) -> tuple[str, str]:
    head, foot = text.rsplit(f"\n\n{RULE}\n", 1)
    return head, foot


@pytest.mark.parametrize(
    ("dialect", "name", "streamed"),
    [
        (CHAT, "chat_ok", False),
        (CHAT, "chat_stream_include_usage", True),
        (MESSAGES, "messages_litellm", False),
        (MESSAGES, "messages_litellm_stream", True),
        (RESPONSES, "responses_ok", False),
        (RESPONSES, "responses_stream", True),
    ],
)
def test_captured_answers_can_be_read(dialect: Dialect, name: str, streamed: bool) -> None:
    head, foot = head_and_foot(shown(dialect, name, streamed=streamed))
    assert len(head) > 10
    assert "data:" not in head
    assert "{" not in head
    assert foot.startswith("model   ")
    assert "tokens  input " in foot
    assert "cut" not in foot


def test_a_legacy_completion_can_be_read() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 3}
    body = {"model": "davinci", "choices": [{"text": "Hello"}], "usage": usage}
    text = answer_text(COMPLETIONS, json.dumps(body).encode(), streamed=False)
    assert text == f"Hello\n\n{RULE}\nmodel   davinci\ntokens  input 2, output 3\n"


def test_a_streamed_answer_reads_like_the_same_one_whole() -> None:
    streamed = shown(MESSAGES, "messages_litellm_stream", streamed=True)
    whole = shown(MESSAGES, "messages_litellm", streamed=False)
    assert head_and_foot(streamed)[0] == head_and_foot(whole)[0]


@pytest.mark.parametrize(("name", "streamed"), [("chat_tool", False), ("chat_stream_tool", True)])
def test_tool_calls_show_name_and_arguments(name: str, streamed: bool) -> None:
    text = shown(CHAT, name, streamed=streamed)
    assert "── tool call: get_weather ──" in text
    assert '  "city": ' in text


@pytest.mark.parametrize(
    ("name", "streamed"), [("chat_reasoning", False), ("chat_stream_reasoning", True)]
)
def test_reasoning_is_set_apart(name: str, streamed: bool) -> None:
    text = shown(CHAT, name, streamed=streamed)
    reasoning, _, answer = text.partition("── end of reasoning ──")
    assert reasoning.startswith("── reasoning ──\n")
    assert head_and_foot(answer)[0].strip()


def test_a_cut_stream_says_so() -> None:
    text = shown(CHAT, "stream_truncated_by_upstream", streamed=True)
    assert "cut     its end marker is missing: this is not the whole answer" in text


def test_an_error_in_the_stream_is_told() -> None:
    text = shown(CHAT, "odd_error_event_stream", streamed=True)
    assert "\nerror   " in text


def test_choices_are_told_apart() -> None:
    choices = [
        {"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"},
        {"index": 1, "delta": {"content": "two"}, "finish_reason": "length"},
    ]
    text = answer_text(CHAT, events({"choices": choices}), streamed=True)
    assert text.startswith("── choice 0 ──\n\none\n\n── choice 1 ──\n\ntwo\n")
    assert "ended: stop, length" in text


def test_messages_blocks_come_in_their_order() -> None:
    body = events(
        {"type": "message_start", "message": {"model": "claude", "content": []}},
        _block(0, {"type": "thinking", "thinking": ""}),
        _delta(0, {"type": "thinking_delta", "thinking": "hmm"}),
        _block(1, {"type": "text", "text": ""}),
        _delta(1, {"type": "text_delta", "text": "Let me "}),
        _delta(1, {"type": "text_delta", "text": "look."}),
        _block(2, {"type": "tool_use", "id": "t", "name": "read", "input": {}}),
        _delta(2, {"type": "input_json_delta", "partial_json": '{"path":'}),
        _delta(2, {"type": "input_json_delta", "partial_json": '"a.py"}'}),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}},
        {"type": "message_stop"},
    )
    answer = read_answer(MESSAGES, body, streamed=True)
    assert list(answer.parts.values()) == [
        Part("reasoning", "hmm"),
        Part("text", "Let me look."),
        Part("tool", '{"path":"a.py"}', "read"),
    ]
    assert answer.whole
    assert answer.ended == {0: "tool_use"}


def test_a_response_is_read_from_its_deltas_until_its_end_has_come() -> None:
    deltas = (
        {"type": "response.created", "response": {"model": "gpt-5"}},
        _added(0, {"type": "reasoning", "summary": []}),
        _said("reasoning_summary_text", 0, "think", summary_index=0),
        _added(1, {"type": "message", "content": []}),
        _said("output_text", 1, "Hel", content_index=0),
        _said("output_text", 1, "lo", content_index=0),
        _added(2, {"type": "function_call", "name": "run", "arguments": ""}),
        _said("function_call_arguments", 2, '{"a":1}'),
    )
    parts = [Part("reasoning", "think"), Part("text", "Hello"), Part("tool", '{"a":1}', "run")]
    cut = read_answer(RESPONSES, events(*deltas), streamed=True)
    assert list(cut.parts.values()) == parts
    assert not cut.whole
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "think"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
        {"type": "function_call", "name": "run", "arguments": '{"a":1}'},
    ]
    end = {"type": "response.completed", "response": {"status": "completed", "output": output}}
    whole = read_answer(RESPONSES, events(*deltas, end), streamed=True)
    assert list(whole.parts.values()) == parts
    assert whole.whole


def test_what_is_no_answer_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        answer_text(CHAT, b"<html>", streamed=False)


def test_an_empty_answer_says_nothing() -> None:
    text = answer_text(CHAT, b'{"choices":[{"message":{}}]}', streamed=False)
    assert text.startswith("(it says nothing)\n")
    assert "tokens  unknown" in text


def test_long_tool_arguments_are_folded() -> None:
    call = {"function": {"name": "write", "arguments": json.dumps({"text": "x" * 5000})}}
    body = json.dumps({"choices": [{"message": {"tool_calls": [call]}}]}).encode()
    text = answer_text(CHAT, body, streamed=False)
    assert "… 5,0" in text
    assert len(text) < 3000


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "captures").glob("*stream*")))
def test_no_captured_stream_breaks_the_view(path: Path) -> None:
    body = capture(path.name).body
    for dialect in (CHAT, MESSAGES, RESPONSES):
        assert answer_text(dialect, body, streamed=True)


def _block(index: int, block: object) -> object:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: int, delta: object) -> object:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _added(index: int, item: object) -> object:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def _said(what: str, index: int, delta: str, **more: int) -> object:
    return {"type": f"response.{what}.delta", "output_index": index, "delta": delta, **more}

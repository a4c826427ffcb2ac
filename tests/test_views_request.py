"""Requests shown as the conversations that they are."""

import json

import pytest

from arbstr.proxy.views_text import request_text


def shown(**body: object) -> str:
    return request_text(json.dumps({"model": "gpt-4o", **body}).encode())


def section(text: str, title: str) -> str:
    """What stands below the first line that begins with `title`."""
    _, _, rest = text.partition(f"── {title} ")
    return rest.partition("\n")[2].partition("\n\n── ")[0].strip()


def test_model_and_parameters_come_first() -> None:
    text = shown(temperature=0.5, stream=True, messages=[{"role": "user", "content": "hi"}])
    assert text.startswith("model   gpt-4o\ntemperature   0.5\nstream   true\n\n── user ─")


def test_a_long_parameter_is_only_told_the_size_of() -> None:
    text = shown(metadata={"a": "x" * 100}, messages=[])
    assert "metadata   (108 B of JSON)" in text


def test_tools_are_folded_to_names_and_sizes() -> None:
    tools = [
        {"type": "function", "function": {"name": "get_weather", "parameters": {"x": "y" * 9}}},
        {"name": "read", "input_schema": {}},
        {"type": "web_search"},
    ]
    lines = shown(tools=tools, messages=[]).splitlines()
    assert lines[2].startswith("tools   3, ")
    assert [line.split()[0] for line in lines[3:6]] == ["get_weather", "read", "web_search"]
    assert all(line.endswith(" B") for line in lines[3:6])


def test_images_are_told_by_type_and_size() -> None:
    url = "data:image/png;base64," + "A" * 40_000
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_image", "image_url": "https://example.org/cat.jpg"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "QUJD"}},
    ]
    text = section(shown(messages=[{"role": "user", "content": parts}]), "user")
    assert text.splitlines() == [
        "look",
        "[image_url: image/png, 30 KB]",
        "[input_image: https://example.org/cat.jpg]",
        "[image: image/gif, 3 B]",
    ]


def test_a_chat_with_tool_calls() -> None:
    call = {"id": "c1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    text = shown(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ]
    )
    assert section(text, "system") == "Be brief."
    assert section(text, "assistant") == '(no text)\n[calls add]\n  {\n    "a": 1\n  }'
    assert section(text, "tool result c1") == "2"


def test_a_messages_request() -> None:
    content = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "tool_use", "name": "ls", "input": {"dir": "."}},
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}]},
    ]
    text = shown(system=[{"type": "text", "text": "You are."}], messages=[_user(content)])
    assert section(text, "system") == "You are."
    said = section(text, "user").splitlines()
    assert said[0] == "[thinking] hm"
    assert said[1] == "[calls ls]"
    assert said[-2:] == ["[result of t1]", "a"]


def test_a_responses_request() -> None:
    text = shown(
        instructions="Be kind.",
        input=[
            {"role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
            {"type": "function_call", "name": "run", "arguments": "not json"},
            {"type": "function_call_output", "call_id": "c9", "output": "done"},
            {"type": "reasoning", "encrypted_content": "x" * 50},
        ],
    )
    assert section(text, "system") == "Be kind."
    assert section(text, "developer") == "rules"
    assert section(text, "assistant") == "[calls run]\n  not json"
    assert section(text, "tool result c9") == "done"
    assert section(text, "reasoning").endswith(" B of JSON)")


@pytest.mark.parametrize("said", [{"input": "hello"}, {"prompt": "hello"}])
def test_a_bare_text(said: dict[str, object]) -> None:
    assert section(shown(**said), "user") == "hello"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": "no list"},
        {"messages": [1, None, {"role": 5}, {"content": {}}, {"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": [3, {"type": None}, {"image_url": 4}]}]},
        {"input": [{"type": "x"}, "text"], "tools": [1, {"function": 2}, {}]},
        {},
    ],
)
def test_odd_bodies_show_something(body: dict[str, object]) -> None:
    assert shown(**body).startswith("model   gpt-4o")


def test_what_is_no_object_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        request_text(b"[1]")


def _user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}

"""The official clients talk to the mock node and notice nothing."""

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionToolParam
from openai.types.responses import FunctionToolParam

from arbstr.mock import DEFAULT_KEY, MockNode, ThreadedNode
from tests.mock_helpers import running

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}
WEATHER_RESPONSE: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}


@pytest.fixture
def served() -> Iterator[ThreadedNode]:
    with ThreadedNode(MockNode()) as served:
        yield served


@pytest.fixture
def client(served: ThreadedNode) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served.node.url, api_key=DEFAULT_KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(served: ThreadedNode) -> Iterator[anthropic.Anthropic]:
    url = served.node.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=url, auth_token=DEFAULT_KEY, max_retries=0) as client:
        yield client


def test_openai_plain(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]
    )
    assert done.model == "openai/gpt-4o-mini"
    assert done.choices[0].finish_reason == "stop"
    assert "gpt-4o-mini" in (done.choices[0].message.content or "")
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (11, 40)


def test_openai_streamed(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}], stream=True
    ) as stream:
        chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.startswith("Hello! How can I help you today? I am gpt-5-mini.")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens_details is not None
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 80
    first: dict[str, Any] = chunks[0].choices[0].delta.model_dump()
    assert first["reasoning_content"].startswith("Let me think")


async def test_openai_async() -> None:
    async with (
        running(MockNode()) as node,
        openai.AsyncOpenAI(base_url=node.url, api_key=DEFAULT_KEY, max_retries=0) as client,
    ):
        done = await client.chat.completions.create(model="gpt-4o", messages=[])
        stream = await client.chat.completions.create(model="gpt-4o", messages=[], stream=True)
        text = ""
        async for chunk in stream:
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        assert text == done.choices[0].message.content


def test_openai_tools_there_and_back(client: openai.OpenAI) -> None:
    asked = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "use a tool"}], tools=[WEATHER]
    )
    calls = asked.choices[0].message.tool_calls
    assert asked.choices[0].finish_reason == "tool_calls"
    assert calls is not None
    assert calls[0].type == "function"
    assert (calls[0].function.name, calls[0].function.arguments) == ("get_weather", "{}")
    answered = client.chat.completions.create(
        model="gpt-4o",
        messages=[
            {"role": "user", "content": "use a tool"},
            {"role": "assistant", "tool_calls": [calls[0].to_dict()]},  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": calls[0].id, "content": "sunny"},
        ],
        tools=[WEATHER],
    )
    assert "Thank you for the result." in (answered.choices[0].message.content or "")


def test_openai_streamed_tool(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hello"}],
        tools=[WEATHER],
        tool_choice="required",
    ) as stream:
        done = stream.get_final_completion()
    calls = done.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "get_weather"


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("mock-fail-400", openai.BadRequestError),
        ("mock-fail-401", openai.AuthenticationError),
        ("mock-fail-404", openai.NotFoundError),
        ("mock-fail-422", openai.UnprocessableEntityError),
        ("mock-fail-429", openai.RateLimitError),
        ("mock-fail-500", openai.InternalServerError),
        ("mock-fail-503", openai.InternalServerError),
        ("mock-drop", openai.APIConnectionError),
        ("mock-reset", openai.APIConnectionError),
        ("mock-cut", openai.APIConnectionError),
        ("nobody-sells-this", openai.BadRequestError),
    ],
)
def test_openai_errors(client: openai.OpenAI, model: str, error: type[openai.APIError]) -> None:
    with pytest.raises(error):
        client.chat.completions.create(model=model, messages=[])


def test_openai_raises_nothing_on_a_cut_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="mock-cut", messages=[], stream=True) as stream:
        chunks = list(stream)
    assert chunks[-1].choices[0].finish_reason is None  # the reason why arbstr looks for the end


def test_openai_responses(client: openai.OpenAI) -> None:
    done = client.responses.create(model="gpt-5-mini", input="hello")
    assert done.output_text.startswith("Hello!")
    assert [item.type for item in done.output] == ["reasoning", "message"]
    with client.responses.create(model="gpt-5-mini", input="hello", stream=True) as stream:
        events = list(stream)
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == done.output_text
    call = client.responses.create(model="gpt-4o", input="a tool", tools=[WEATHER_RESPONSE])
    assert call.output[0].type == "function_call"
    result = {"type": "function_call_output", "call_id": call.output[0].call_id, "output": "sunny"}
    after = client.responses.create(
        model="gpt-4o",
        input=["a tool", call.output[0].to_dict(), result],  # type: ignore[list-item]
        tools=[WEATHER_RESPONSE],
    )
    assert "Thank you for the result." in after.output_text


def test_openai_embeddings_and_models(client: openai.OpenAI) -> None:
    # The client asks for base64 and unpacks it.
    found = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    again = client.embeddings.create(
        model="text-embedding-3-small", input="a", encoding_format="float", dimensions=3
    )
    assert [len(item.embedding) for item in found.data] == [64, 64]
    assert found.data[0].embedding != found.data[1].embedding
    assert found.data[0].embedding[:3] == again.data[0].embedding
    assert "gpt-4o" in {model.id for model in client.models.list()}


def test_anthropic_plain_and_streamed(claude: anthropic.Anthropic) -> None:
    done = claude.messages.create(
        model="claude-haiku-4.5", max_tokens=500, messages=[{"role": "user", "content": "hello"}]
    )
    assert done.stop_reason == "end_turn"
    assert done.content[0].type == "text"
    with claude.messages.stream(
        model="claude-haiku-4.5", max_tokens=500, messages=[{"role": "user", "content": "hello"}]
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == done.content[0].text
    assert (final.usage.input_tokens, final.usage.output_tokens) == (11, 44)
    counted = claude.messages.count_tokens(
        model="claude-haiku-4.5", messages=[{"role": "user", "content": "hello"}]
    )
    assert counted.input_tokens == 11


def test_anthropic_tools_there_and_back(claude: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {}}
    question: Any = {"role": "user", "content": "use a tool"}
    tools: Any = [{"name": "get_weather", "input_schema": schema}]
    with claude.messages.stream(
        model="claude-haiku-4.5", max_tokens=500, messages=[question], tools=tools
    ) as stream:
        asked = stream.get_final_message()
    use = asked.content[0]
    assert asked.stop_reason == "tool_use"
    assert use.type == "tool_use"
    assert (use.name, use.input) == ("get_weather", {})
    call: Any = {"role": "assistant", "content": [use.to_dict()]}
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    answered = claude.messages.create(
        model="claude-haiku-4.5",
        max_tokens=500,
        messages=[question, call, {"role": "user", "content": [result]}],
        tools=tools,
    )
    assert answered.content[0].type == "text"


def test_anthropic_sees_thinking_if_it_asks(claude: anthropic.Anthropic) -> None:
    asking: dict[str, Any] = {
        "model": "gpt-5-mini",
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "hello"}],
    }
    shown = claude.messages.create(**asking, thinking={"type": "enabled", "budget_tokens": 1024})
    hidden = claude.messages.create(**asking)
    with claude.messages.stream(
        **asking, thinking={"type": "enabled", "budget_tokens": 1024}
    ) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in shown.content] == ["thinking", "text"]
    assert [block.type for block in streamed.content] == ["thinking", "text"]
    assert [block.type for block in hidden.content] == ["text"]
    assert shown.usage.output_tokens == hidden.usage.output_tokens


def test_anthropic_errors(claude: anthropic.Anthropic) -> None:
    def ask(model: str) -> None:
        claude.messages.create(model=model, max_tokens=9, messages=[])

    with pytest.raises(anthropic.RateLimitError):
        ask("mock-fail-429")
    with pytest.raises(anthropic.InternalServerError):
        ask("mock-fail-500")
    with (
        pytest.raises(anthropic.APIStatusError, match="Provider disconnected"),
        claude.messages.stream(model="mock-error-mid", max_tokens=99, messages=[]) as stream,
    ):
        stream.get_final_message()

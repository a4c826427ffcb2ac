"""The official clients notice nothing of arbstr but its headers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionToolParam
from openai.types.responses import FunctionToolParam

from arbstr.mock import MockNode, ThreadedNode
from tests.running import Running, running
from tests.sdk_helpers import ASYNC, KEY, PLAIN, STREAMED, Ask, Clients, async_clients, clients

CONFIG = """\
[database]
path = "ledger.db"
[[providers]]
name = "node"
url = "{url}"
sync = "1h"
[clients]
"claude-cli*" = "code"
"sk-team-*" = "quick"
[[policies.rules]]
name = "code"
allowed_models = ["claude-sonnet-4.5", "gpt-4o"]
[[policies.rules]]
name = "quick"
allowed_models = ["gpt-4o-mini"]
[[policies.rules]]
name = "poor"
allowed_models = ["gpt-4o"]
max_sats_per_request = 0.001
[[policies.rules]]
name = "capped"
allowed_models = ["gpt-4o-mini"]
max_sats_per_day = 0.4
"""
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}
WEATHER_FUNCTION: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
WEATHER_TOOL: anthropic.types.ToolParam = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {}},
}
APIS = ("chat", "responses", "messages")
pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    with ThreadedNode(MockNode()) as served:
        yield served.node


@pytest.fixture(scope="module")
def arbstr(node: MockNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("sdk"), CONFIG.format(url=node.url)) as started:
        yield started


@pytest.fixture(scope="module")
def to(arbstr: Running) -> Iterator[Clients]:
    with clients(arbstr.url) as made:
        yield made


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_a_plain_answer(arbstr: Running, to: Clients, api: str) -> None:
    heard = PLAIN[api](to, "gpt-4o-mini")
    assert heard.text.startswith("Hello! How can I help you today? I am gpt-4o-mini.")
    row = arbstr.request(heard.request_id)
    assert (row["outcome"], row["model"], row["cost_source"]) == ("ok", "gpt-4o-mini", "billed")
    assert (row["input_tokens"], row["cost_msats"]) == (11, row["computed_msats"])
    assert float(heard.headers["x-arbstr-cost-sats"]) * 1000 == row["cost_msats"]
    assert heard.headers["x-arbstr-provider"] == "node"
    assert "x-arbstr-policy" not in heard.headers
    assert "x-arbstr-retries" not in heard.headers
    assert row["client"].startswith(("OpenAI/Python", "Anthropic/Python"))


@pytest.mark.parametrize("api", APIS)
def test_a_stream(arbstr: Running, to: Clients, api: str) -> None:
    heard = STREAMED[api](to, "gpt-4o-mini")
    assert heard.text == PLAIN[api](to, "gpt-4o-mini").text
    row = arbstr.request(heard.request_id)
    assert (row["outcome"], row["stream"], row["cost_source"]) == ("ok", 1, "billed")
    # The node bills nothing for a streamed response, whatever its price list says.
    billed = 0 if api == "responses" else row["computed_msats"]
    assert (row["input_tokens"], row["cost_msats"]) == (11, billed)
    assert row["ttft_ms"] <= row["latency_ms"]


@pytest.mark.parametrize("api", APIS)
async def test_an_async_stream(arbstr: Running, api: str) -> None:
    async with async_clients(arbstr.url) as to:
        heard = await ASYNC[api](to, "gpt-4o-mini")
    assert heard.text.startswith("Hello!")
    assert arbstr.request(heard.request_id)["outcome"] == "ok"


def test_the_helpers_for_streams_end_with_a_whole_answer(to: Clients) -> None:
    with to.openai.chat.completions.stream(
        model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}]
    ) as chat:
        assert "gpt-5-mini" in (chat.get_final_completion().choices[0].message.content or "")
    with to.openai.responses.stream(model="gpt-5-mini", input="hello") as response:
        assert "gpt-5-mini" in response.get_final_response().output_text
    with to.claude.messages.stream(
        model="gpt-5-mini", max_tokens=2000, messages=[{"role": "user", "content": "hello"}]
    ) as message:
        final = message.get_final_message()
        assert (final.stop_reason, final.usage.input_tokens) == ("end_turn", 11)


def test_usage_comes_to_those_who_ask_for_it_alone(to: Clients) -> None:
    for options, seen in ((None, False), ({"include_usage": True}, True)):
        stream = to.openai.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options=openai.omit if options is None else {"include_usage": True},
        )
        assert any(chunk.usage is not None for chunk in stream) is seen


def test_tools_are_called(to: Clients) -> None:
    ask = "call the tool"
    chat = to.openai.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": ask}], tools=[WEATHER]
    )
    assert chat.choices[0].finish_reason == "tool_calls"
    stream = to.openai.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": ask}], tools=[WEATHER], stream=True
    )
    calls = [
        c for chunk in stream if chunk.choices for c in chunk.choices[0].delta.tool_calls or ()
    ]
    assert calls[0].function is not None
    assert calls[0].function.name == "get_weather"
    response = to.openai.responses.create(model="gpt-4o", input=ask, tools=[WEATHER_FUNCTION])
    assert any(item.type == "function_call" for item in response.output)
    message = to.claude.messages.create(
        model="gpt-4o",
        max_tokens=500,
        messages=[{"role": "user", "content": ask}],
        tools=[WEATHER_TOOL],
    )
    assert message.stop_reason == "tool_use"


def test_a_tool_may_have_an_argument_of_any_name(to: Clients) -> None:
    # codex has one called `type`
    names = ("type", "role", "content", "image_url", "error", "choices")
    properties = {name: {"type": "string"} for name in names}
    parameters: dict[str, object] = {"type": "object", "properties": properties}
    response = to.openai.responses.create(
        model="gpt-4o", input="hello", tools=[{**WEATHER_FUNCTION, "parameters": parameters}]
    )
    assert response.output_text


def test_embeddings_in_the_clients_own_format(arbstr: Running, to: Clients) -> None:
    raw = to.openai.embeddings.with_raw_response.create(
        model="text-embedding-3-small", input=["a", "b"]
    )
    assert len(raw.parse().data) == 2
    row = arbstr.request(raw.headers["x-arbstr-request-id"])
    assert (row["outcome"], row["endpoint"]) == ("ok", "/v1/embeddings")
    assert (row["output_tokens"], row["cost_source"]) == (0, "billed")


def test_legacy_completions_that_a_node_does_not_have(arbstr: Running, to: Clients) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        to.openai.completions.create(model="mistral-small", prompt="once")
    row = arbstr.request(caught.value.response.headers["x-arbstr-request-id"])
    assert (row["outcome"], row["status"], row["endpoint"]) == ("error", 404, "/v1/completions")
    # It was the path that was not found: the model is still sold.
    assert PLAIN["chat"](to, "mistral-small").text


def test_counting_tokens_costs_nobody_knows_what(arbstr: Running, to: Clients) -> None:
    raw = to.claude.messages.with_raw_response.count_tokens(
        model="claude-sonnet-4-5", messages=[{"role": "user", "content": "hello"}]
    )
    assert raw.parse().input_tokens > 0
    row = arbstr.request(raw.headers["x-arbstr-request-id"])
    assert (row["outcome"], row["model"]) == ("ok", "claude-sonnet-4.5")
    assert (row["cost_msats"], row["cost_source"]) == (None, "unknown")


def test_counting_tokens_uses_up_no_cap(to: Clients) -> None:
    for _ in range(5):
        to.claude.messages.count_tokens(
            model="arbstr/capped", messages=[{"role": "user", "content": "word " * 800}]
        )
    message = to.claude.messages.create(
        model="arbstr/capped", max_tokens=100, messages=[{"role": "user", "content": "hello"}]
    )
    assert message.content


def test_models_are_listed(to: Clients) -> None:
    names = {model.id for model in to.openai.models.list()}
    assert names >= {"arbstr/auto", "arbstr/code", "arbstr/quick", "gpt-4o", "claude-sonnet-4.5"}


# --- names and policies ---------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "name",
    [
        "claude-sonnet-4-5-20250929",
        "claude-sonnet-4-5",
        "anthropic/claude-sonnet-4.5",
        "Claude-Sonnet-4.5",
    ],
)
def test_a_model_is_known_by_its_other_names(
    node: MockNode, to: Clients, api: str, name: str
) -> None:
    heard = PLAIN[api](to, name)
    assert heard.headers["x-arbstr-model"] == "claude-sonnet-4.5"
    assert heard.headers["x-arbstr-requested-model"] == name
    assert json.loads(node.requests[-1].body)["model"] == "claude-sonnet-4.5"


@pytest.mark.parametrize("api", APIS)
def test_a_policy_is_named_as_a_model(arbstr: Running, to: Clients, api: str) -> None:
    heard = PLAIN[api](to, "arbstr/code")
    assert heard.headers["x-arbstr-model"] == "gpt-4o"
    assert heard.headers["x-arbstr-policy"] == "code"
    row = arbstr.request(heard.request_id)
    assert (row["policy"], row["policy_source"]) == ("code", "model")


@pytest.mark.parametrize("api", APIS)
def test_a_client_is_known_by_its_user_agent(arbstr: Running, to: Clients, api: str) -> None:
    agent = {"user-agent": "claude-cli/2.1.197 (external, sdk-cli)"}
    known = Clients(
        to.openai.with_options(default_headers=agent),
        to.claude.with_options(default_headers=agent),
    )
    heard = PLAIN[api](known, "claude-sonnet-4-5-20250929")
    row = arbstr.request(heard.request_id)
    assert (row["policy"], row["policy_source"], row["model"]) == ("code", "client", "gpt-4o")
    assert row["baseline_msats"] > row["cost_msats"]


@pytest.mark.parametrize("api", APIS)
def test_a_client_is_known_by_its_key(arbstr: Running, to: Clients, api: str) -> None:
    known = Clients(
        to.openai.with_options(api_key="sk-team-12345678"),
        to.claude.with_options(api_key="sk-team-12345678"),
    )
    row = arbstr.request(PLAIN[api](known, "gpt-4o").request_id)
    assert (row["policy"], row["policy_source"], row["model"]) == ("quick", "client", "gpt-4o-mini")


# --- what goes up ---------------------------------------------------------------------------------


def test_a_key_in_x_api_key_goes_up_as_a_bearer_token(node: MockNode, to: Clients) -> None:
    PLAIN["messages"](to, "gpt-4o-mini")
    seen = node.requests[-1]
    assert seen.headers["authorization"] == f"Bearer {KEY}"


def test_the_query_goes_up_and_our_headers_do_not(node: MockNode, to: Clients) -> None:
    to.claude.beta.messages.create(
        model="arbstr/quick",
        max_tokens=50,
        messages=[{"role": "user", "content": "hello"}],
        betas=["interleaved-thinking-2025-05-14"],
        extra_query={"beta": "true"},
        extra_headers={"x-arbstr-policy": "quick", "cookie": "a=b", "x-forwarded-for": "10.0.0.1"},
    )
    seen = node.requests[-1]
    assert seen.path == "/v1/messages?beta=true"
    names = {name.lower() for name in seen.headers}
    assert "anthropic-beta" in names
    assert not names & {"cookie", "x-forwarded-for", "x-arbstr-policy"}
    assert seen.headers["accept-encoding"] == "identity"


def test_what_claude_code_sends_goes_up_as_it_is(node: MockNode, to: Clients) -> None:
    marked: Any = {"type": "text", "text": "do it", "cache_control": {"type": "ephemeral"}}
    body: dict[str, Any] = {
        "max_tokens": 500,
        "system": [{"type": "text", "text": "you are", "cache_control": {"type": "ephemeral"}}],
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "metadata": {"user_id": "{}"},
    }
    messages: Any = [
        {"role": "user", "content": [marked]},
        {"role": "system", "content": "a reminder"},
    ]
    raw = to.claude.messages.with_raw_response.create(
        model="arbstr/quick", messages=messages, extra_body=body, max_tokens=500
    )
    assert raw.parse().content
    assert json.loads(node.requests[-1].body) == {
        "model": "gpt-4o-mini",
        "messages": messages,
        **body,
    }


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [PLAIN, STREAMED])
def test_each_error_is_its_class_in_the_clients(to: Clients, how: Mapping[str, Ask]) -> None:
    for api in ("chat", "responses"):
        with pytest.raises(openai.NotFoundError, match="gpt-4o-mini"):
            how[api](to, "gpt-4o-mimi")
        with pytest.raises(openai.BadRequestError, match="unknown policy"):
            how[api](to, "arbstr/nope")
        with pytest.raises(openai.APIStatusError) as caught:
            how[api](to, "arbstr/poor")
        assert (caught.value.status_code, caught.value.code) == (402, "cap_reached")
        with pytest.raises(openai.RateLimitError) as limited:
            how[api](to, "mock-fail-429")
        assert limited.value.response.headers["retry-after"] == "20"
        with pytest.raises(openai.AuthenticationError):
            how[api](to, "mock-fail-401")
        with pytest.raises(openai.UnprocessableEntityError):
            how[api](to, "mock-fail-422")
        with pytest.raises(openai.InternalServerError):
            how[api](to, "mock-fail-503")


@pytest.mark.parametrize("how", [PLAIN, STREAMED])
def test_each_error_is_its_class_in_anthropics_client(to: Clients, how: Mapping[str, Ask]) -> None:
    def kind(error: anthropic.APIStatusError) -> object:
        body = error.body
        assert isinstance(body, dict)
        assert body["type"] == "error"
        return body["error"]["type"]

    with pytest.raises(anthropic.NotFoundError) as unknown:
        how["messages"](to, "gpt-4o-mimi")
    assert kind(unknown.value) == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as bad:
        how["messages"](to, "arbstr/nope")
    assert kind(bad.value) == "invalid_request_error"
    with pytest.raises(anthropic.APIStatusError) as poor:
        how["messages"](to, "arbstr/poor")
    assert (poor.value.status_code, kind(poor.value)) == (402, "billing_error")
    with pytest.raises(anthropic.RateLimitError) as limited:
        how["messages"](to, "mock-fail-429")
    assert kind(limited.value) == "rate_limit_error"
    with pytest.raises(anthropic.AuthenticationError) as key:
        how["messages"](to, "mock-fail-401")
    assert kind(key.value) == "authentication_error"
    with pytest.raises(anthropic.InternalServerError) as dead:
        how["messages"](to, "mock-fail-502")
    assert kind(dead.value) == "api_error"


def test_a_prompt_that_fits_nowhere_is_told_so(to: Clients) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        to.openai.chat.completions.create(
            model="mistral-small", messages=[{"role": "user", "content": "word " * 60_000}]
        )
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "member"),
    [("/chat/completions", "messages"), ("/messages", "messages"), ("/responses", "input")],
)
def test_too_many_messages_are_refused(to: Clients, path: str, member: str) -> None:
    body = {"model": "gpt-4o-mini", member: [{"role": "user", "content": "x"}] * 10_001}
    with pytest.raises(openai.BadRequestError, match="10,001 messages are more than 10,000"):
        to.openai.post(path, body=body, cast_to=object)


def test_the_root_answers_at_once(arbstr: Running) -> None:
    connection = http.client.HTTPConnection(arbstr.url.removeprefix("http://"), timeout=10)
    connection.request("HEAD", "/", headers={"user-agent": "Bun/1.4.0"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.request("POST", "/v1/messages", b"{}", {"content-type": "application/json"})
    refused = connection.getresponse()
    assert refused.status == 400
    assert json.loads(refused.read())["type"] == "error"
    connection.close()

"""What the mock models say and how it is counted: lengths, limits, thinking, cached prefixes."""

from arbstr.mock import MockModel, MockNode
from arbstr.mock.ask import PrefixCache, read
from tests.mock_helpers import chat, fetch, mid, one, request, running

LONG = "word " * 1200  # 1,500 tokens


async def test_a_long_prefix_is_cached_for_its_key_and_model() -> None:
    start = [{"role": "system", "content": LONG}, {"role": "user", "content": "one"}]
    more = [*start, {"role": "assistant", "content": "1"}, {"role": "user", "content": "two"}]

    async def cached(node: MockNode, messages: object, key: str = "sk-00000001") -> int:
        body = {"model": "a", "messages": messages}
        reply = await fetch(node, request("/v1/chat/completions", body, key))
        usage = reply.json()["usage"]
        found = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        assert usage["cost"]["cache_read_input_tokens"] == found
        full = usage["prompt_tokens"] - found + 40
        assert usage["cost"]["total_msats"] == full + -(-found // 10)
        return int(found)

    async with running(MockNode(models=(MockModel("a", "1", "1", "0.1"),))) as node:
        assert await cached(node, start) == 0
        assert await cached(node, start, key="sk-00000002") == 0
        # The whole earlier prompt: 5 for the request, 4 for each message, a quarter of the bytes.
        assert await cached(node, more) == 5 + 4 + 1500 + 4 + 1
        assert await cached(node, [{"role": "user", "content": "short"}]) == 0
        assert await cached(node, [*start[:1], {"role": "user", "content": "x"}]) == 5 + 4 + 1500


def test_a_prefix_is_forgotten_and_the_cache_is_bounded() -> None:
    ask = read({"messages": [{"role": "user", "content": LONG}]})
    other = read({"messages": [{"role": "user", "content": LONG + LONG}]})
    cache = PrefixCache(ttl_s=300, most=1)
    assert cache.cached_tokens("k", "m", ask, 0) == 0
    assert cache.cached_tokens("k", "m", ask, 299) == 1509
    assert cache.cached_tokens("k", "m", ask, 599) == 0
    assert cache.cached_tokens("k", "m", ask, 600) == 1509
    assert cache.cached_tokens("k", "other", ask, 600) == 0
    assert cache.cached_tokens("k", "m", ask, 600) == 0  # pushed out
    assert cache.cached_tokens("k", "m", other, 600) == 0


def test_a_cache_mark_does_not_change_the_prefix() -> None:
    def asking(**mark: object) -> list[bytes]:
        part = {"type": "text", "text": LONG, **mark}
        body: dict[str, object] = {"messages": [{"role": "user", "content": [part]}]}
        return [digest for digest, _ in read(body).prefixes()]

    assert asking(cache_control={"type": "ephemeral"}) == asking()


async def test_messages_name_cached_tokens_apart() -> None:
    body = {
        "model": "a",
        "max_tokens": 9,
        "system": LONG,
        "messages": [{"role": "user", "content": "hi"}],
    }
    async with running(MockNode(models=(MockModel("a", "1", "1", "0.1"),))) as node:
        await fetch(node, request("/v1/messages", body))
        usage = (await fetch(node, request("/v1/messages", body))).json()["usage"]
        stream = await fetch(node, request("/v1/messages", body | {"stream": True}))
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (0, 5 + 1500 + 4 + 1)
    delta = next(data for name, data in stream.events() if name == "message_delta")
    assert delta["usage"]["cache_read_input_tokens"] == 1510


async def test_the_limit_cuts_the_answer() -> None:
    reply = (await one(chat("mock-mid", max_completion_tokens=3))).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["choices"][0]["message"]["content"] == "Hello! How c"
    assert reply["usage"]["completion_tokens"] == 3
    body = {"model": "mock-mid", "input": "hello", "max_output_tokens": 3}
    response = (await one(request("/v1/responses", body))).json()
    assert (response["status"], response["usage"]["output_tokens"]) == ("incomplete", 3)
    stream = await one(request("/v1/responses", body | {"stream": True}))
    assert stream.events()[-1][1]["type"] == "response.incomplete"
    body = {"model": "mock-mid", "messages": [], "max_tokens": 3}
    message = (await one(request("/v1/messages", body))).json()
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 3)


async def test_an_answer_is_as_long_as_told_times_the_verbosity() -> None:
    usual = (await one(chat("mock-mid", "hi"), mid(verbosity=2.5))).json()
    told = (await one(chat("mock-mid", "hi MOCK_TOKENS=1000"), mid(verbosity=0.5))).json()
    assert usual["usage"]["completion_tokens"] == 100
    assert told["usage"]["completion_tokens"] == 500
    assert len(told["choices"][0]["message"]["content"]) > 4 * 490


async def test_an_answer_names_the_model_and_echoes_the_question() -> None:
    first = (await one(chat("mock-mid", "Was heißt „Brötchen“?"))).json()
    second = (await one(chat("mock-mid", "Was heißt „Brötchen“?"))).json()
    text = first["choices"][0]["message"]["content"]
    assert "mock-mid" in text
    assert "Was heißt „Brötchen“?" in text
    assert text == second["choices"][0]["message"]["content"]


async def test_thinking_is_billed_as_output_and_fills_a_small_limit() -> None:
    thinker = MockModel("mock-mid", "1", "4", reasoning=2)
    usage = (await one(chat("mock-mid"), thinker)).json()["usage"]
    assert usage["completion_tokens"] == 120
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 80}
    cut = (await one(chat("mock-mid", max_tokens=50), thinker)).json()
    message = cut["choices"][0]["message"]
    assert (message["content"], cut["choices"][0]["finish_reason"]) == ("", "length")
    assert cut["usage"]["completion_tokens"] == 50


async def test_a_prompt_that_does_not_fit_is_refused() -> None:
    small = MockModel("mock-mid", "1", "4", context=100)
    reply = await one(chat("mock-mid", "x" * 400), small)
    assert (reply.status, reply.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_an_image_has_a_size_of_its_own() -> None:
    url = {"url": "data:image/png;base64," + "A" * 100_000}
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": url}]
    body = {"model": "mock-mid", "messages": [{"role": "user", "content": parts}]}
    usage = (await one(request("/v1/chat/completions", body))).json()["usage"]
    assert usage["prompt_tokens"] == 5 + 4 + (4 + 340) // 4

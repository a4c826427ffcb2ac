"""The mock node answers as the captured one did: headers, keys and events in their order."""

import json
import re
from collections.abc import Sequence

import pytest

from arbstr.mock import MockNode
from tests.mock_helpers import (
    CAPTURED_MODELS,
    Reply,
    capture,
    captured_request,
    fetch,
    running,
    shape,
    stream_shape,
)

KEY = "sk-TEST" + "0" * 60
POOR = "sk-TESTpoor" + "0" * 56
UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

# The bodies are the same to the byte, but for ids.
SAME_BODY = (
    "delete_chat",
    "err_402_insufficient",
    "err_402_insufficient_stream",
    "err_bad_key",
    "err_bad_key_and_unknown_model",
    "err_bad_key_balance_info",
    "err_bad_key_stream",
    "err_basic_auth",
    "err_empty_bearer",
    "err_empty_body",
    "err_garbage_cashu_bearer",
    "err_invalid_json",
    "err_json_array",
    "err_max_tokens_string",
    "err_messages_missing",
    "err_messages_string",
    "err_missing_model",
    "err_model_number",
    "err_no_auth",
    "err_no_auth_balance_info",
    "err_unknown_model",
    "err_unknown_model_stream",
    "err_x_api_key_only",
    "get_chat",
    "get_unknown_path",
    "get_v1_unknown",
    "head_chat",
    "head_models",
    "legacy_completions",
    "messages_missing_max_tokens",
    "messages_x_api_key",
    "model_single",
    "options_bare",
    "options_preflight",
    "post_v1_unknown",
    "put_chat",
    "responses_unknown_model",
    "xcashu_empty",
    "xcashu_garbage",
    "xcashu_insufficient",
    "xcashu_unknown_model",
)

# The answer's text, and so its length and its price, is the mock's own.
SAME_SHAPE = (
    "chat_ok",
    "chat_ok_no_v1_prefix",
    "chat_on_anthropic_provider",
    "chat_tool",
    "cost_free_model",
    "cost_pricey",
    "messages_litellm",
    "messages_litellm_count_tokens",
    "model_id_alias",
    "model_id_date_suffix",
    "model_id_uppercase",
    "model_id_upstream_prefix",
    "model_id_with_vendor_prefix",
    "model_id_without_vendor_prefix",
    "negative_max_tokens",
    "responses_ok",
    "xcashu_ok",
)

SAME_STREAM = (
    "chat_stream_include_usage",
    "chat_stream_no_include_usage",
    "chat_stream_tool",
    "cost_free_model_stream",
    "messages_litellm_stream",
    "responses_stream",
    "xcashu_stream",
)


def node(balance_msats: int = 10_000_000) -> MockNode:
    return MockNode(
        models=CAPTURED_MODELS, balance_msats=balance_msats, keys=frozenset({KEY, POOR})
    )


async def answered(name: str, balance_msats: int = 10_000_000) -> Reply:
    async with running(node(balance_msats)) as mock:
        return await fetch(mock, captured_request(name))


def without_ids(body: bytes) -> bytes:
    return UUID.sub(b"ID", body)


def head(reply: Reply, *, but: Sequence[str] = ()) -> list[str]:
    """The names of the headers, in their order; paid by token the order is the upstream's."""
    names = [name for name in reply.names() if name not in but]
    return sorted(names) if "x-cashu" in names else names


@pytest.mark.parametrize("name", SAME_BODY)
async def test_an_error_is_the_captured_one(name: str) -> None:
    seen = capture(name)
    got = await answered(name, balance_msats=1_000 if "402" in name else 10_000_000)
    assert (got.status, head(got)) == (seen.status, head(seen))
    assert without_ids(got.body) == without_ids(seen.body)
    assert got.end == "whole"


@pytest.mark.parametrize("name", SAME_SHAPE)
async def test_a_plain_answer_has_the_captured_headers_and_keys(name: str) -> None:
    seen, got = capture(name), await answered(name)
    assert (got.status, head(got)) == (seen.status, head(seen))
    assert shape(got.json()) == shape(seen.json())
    assert got.json().get("model") == seen.json().get("model")


@pytest.mark.parametrize("name", SAME_STREAM)
async def test_a_stream_has_the_captured_headers_and_events(name: str) -> None:
    seen, got = capture(name), await answered(name)
    assert (got.status, head(got)) == (200, head(seen))
    assert stream_shape(got.body) == stream_shape(seen.body)
    assert got.end == "whole"


async def test_embeddings_have_the_captured_keys_and_a_price() -> None:
    seen, got = capture("embeddings"), await answered("embeddings")
    costs = ["total_usd", "x-routstr-cost-usd"]  # the captured upstream counted no tokens
    assert head(got, but=costs) == head(seen, but=costs)
    body = got.json()
    assert list(body) == list(seen.json())
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] == 11
    assert body["cost"]["total_msats"] == 1


@pytest.mark.parametrize("name", ["balance_info", "balance_info_while_reserved"])
async def test_a_balance_has_the_captured_keys(name: str) -> None:
    async with running(MockNode()) as mock:
        got = await fetch(mock, captured_request(name))
    seen = capture(name)
    assert head(got) == head(seen)
    assert shape(got.json()) == shape(seen.json())


@pytest.mark.parametrize("name", ["models", "models_no_v1", "models_trailing_slash"])
async def test_a_model_is_listed_to_the_byte_as_the_node_lists_it(name: str) -> None:
    seen, got = capture(name), await answered(name)
    assert head(got) == head(seen)
    theirs = {model["id"]: model for model in seen.json()["data"]}
    ours = {model["id"]: model for model in got.json()["data"]}
    # What the captured node knew from elsewhere: when a model was made, and who wrote about it.
    unknown = {"created": 0, "description": ""}
    # These two were configured with prices that are no round USD.
    for model in ours.keys() & theirs.keys() - {"mock-cheap", "claude-native"}:
        said, wanted = (json.dumps(one[model] | unknown) for one in (ours, theirs))
        assert said == wanted


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("upstream_401", "mock-fail-401"),
        ("upstream_429", "mock-fail-429"),
        ("upstream_500", "mock-fail-500"),
        ("upstream_500_stream", "mock-fail-500"),
        ("upstream_503", "mock-fail-503"),
        ("upstream_dead", "mock-fail-502"),
        ("responses_429", "mock-fail-429"),
        ("responses_500", "mock-fail-500"),
        ("messages_litellm_429", "mock-fail-429"),
        ("messages_litellm_500", "mock-fail-500"),
        ("messages_litellm_500_stream", "mock-fail-500"),
    ],
)
async def test_a_failing_model_fails_as_an_upstream_did(name: str, model: str) -> None:
    seen = capture(name)
    raw = captured_request(name)
    content = json.loads(raw.partition(b"\r\n\r\n")[2] or raw.partition(b"\n\n")[2])
    asked = json.dumps(content | {"model": model}).encode()
    start = raw[: raw.index(b"Content-Length")]
    async with running(MockNode()) as mock:
        got = await fetch(mock, start + b"Content-Length: %d\r\n\r\n%s" % (len(asked), asked))
    assert (got.status, head(got)) == (seen.status, head(seen))
    theirs = seen.body.replace(content["model"].encode(), model.encode())
    assert without_ids(got.body) == without_ids(theirs)

"""The official clients, sync and async, behind one question: ask, and say what you heard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anthropic
import openai

HELLO = "hello"
KEY = "sk-client-0000000000"
MAX_TOKENS = 500
ERRORS = (openai.APIError, anthropic.APIError)
"""What the clients raise."""


@dataclass(frozen=True)
class Heard:
    """A whole answer: its text, and the headers it came with."""

    text: str
    headers: Mapping[str, str]

    @property
    def request_id(self) -> str:
        """Of its row."""
        return self.headers["x-arbstr-request-id"]


@dataclass(frozen=True)
class Clients:
    """Both SDKs, for one arbstr. The one of Anthropic has its key in ``x-api-key``."""

    openai: openai.OpenAI
    claude: anthropic.Anthropic


@dataclass(frozen=True)
class AsyncClients:
    """The same, async. Here the one of Anthropic has its key as a bearer token."""

    openai: openai.AsyncOpenAI
    claude: anthropic.AsyncAnthropic


@contextmanager
def clients(url: str) -> Iterator[Clients]:
    """`url`: of arbstr, without ``/v1``. No client asks twice."""
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as for_openai,
        anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as for_claude,
    ):
        yield Clients(for_openai, for_claude)


@asynccontextmanager
async def async_clients(url: str) -> AsyncIterator[AsyncClients]:
    """`url`: of arbstr, without ``/v1``. No client asks twice."""
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as for_openai,
        anthropic.AsyncAnthropic(base_url=url, auth_token=KEY, max_retries=0) as for_claude,
    ):
        yield AsyncClients(for_openai, for_claude)


type Ask = Callable[[Clients, str], Heard]
"""Asks a model; raises what the official client raises."""
type AsyncAsk = Callable[[AsyncClients, str], Awaitable[Heard]]


def chat_plain(to: Clients, model: str) -> Heard:
    raw = to.openai.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": HELLO}]
    )
    return Heard(raw.parse().choices[0].message.content or "", raw.headers)


def chat_stream(to: Clients, model: str) -> Heard:
    raw = to.openai.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": HELLO}], stream=True
    )
    text = ""
    for chunk in raw.parse():
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    return Heard(text, raw.headers)


async def chat_async(to: AsyncClients, model: str) -> Heard:
    raw = await to.openai.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": HELLO}], stream=True
    )
    text = ""
    async for chunk in raw.parse():
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    return Heard(text, raw.headers)


def responses_plain(to: Clients, model: str) -> Heard:
    raw = to.openai.responses.with_raw_response.create(model=model, input=HELLO)
    return Heard(raw.parse().output_text, raw.headers)


def responses_stream(to: Clients, model: str) -> Heard:
    raw = to.openai.responses.with_raw_response.create(model=model, input=HELLO, stream=True)
    text = ""
    for event in raw.parse():
        text += event.delta if event.type == "response.output_text.delta" else ""
        if event.type == "response.failed":
            error = event.response.error
            raise openai.APIError(error.message if error else "", raw.http_request, body=None)
    return Heard(text, raw.headers)


async def responses_async(to: AsyncClients, model: str) -> Heard:
    raw = await to.openai.responses.with_raw_response.create(model=model, input=HELLO, stream=True)
    text = ""
    async for event in raw.parse():
        text += event.delta if event.type == "response.output_text.delta" else ""
        if event.type == "response.failed":
            error = event.response.error
            raise openai.APIError(error.message if error else "", raw.http_request, body=None)
    return Heard(text, raw.headers)


def messages_plain(to: Clients, model: str) -> Heard:
    raw = to.claude.messages.with_raw_response.create(
        model=model, max_tokens=MAX_TOKENS, messages=[{"role": "user", "content": HELLO}]
    )
    (block,) = raw.parse().content
    return Heard(block.text if block.type == "text" else "", raw.headers)


def messages_stream(to: Clients, model: str) -> Heard:
    raw = to.claude.messages.with_raw_response.create(
        model=model,
        max_tokens=MAX_TOKENS,
        messages=[{"role": "user", "content": HELLO}],
        stream=True,
    )
    text = ""
    for event in raw.parse():
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
    return Heard(text, raw.headers)


async def messages_async(to: AsyncClients, model: str) -> Heard:
    raw = await to.claude.messages.with_raw_response.create(
        model=model,
        max_tokens=MAX_TOKENS,
        messages=[{"role": "user", "content": HELLO}],
        stream=True,
    )
    text = ""
    async for event in await raw.parse():
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
    return Heard(text, raw.headers)


PLAIN: Mapping[str, Ask] = {
    "chat": chat_plain,
    "responses": responses_plain,
    "messages": messages_plain,
}
STREAMED: Mapping[str, Ask] = {
    "chat": chat_stream,
    "responses": responses_stream,
    "messages": messages_stream,
}
ASYNC: Mapping[str, AsyncAsk] = {
    "chat": chat_async,
    "responses": responses_async,
    "messages": messages_async,
}

"""The client: the official `openai` SDK on a connection of its own, and what it saw."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import httpx2
import openai
from openai.types.chat import ChatCompletion

from tests.faults.model import Seen

PATIENCE_S = 15.0
KEPT_BYTES = 1 << 16

_STATUSLESS = (openai.APITimeoutError, openai.APIConnectionError)


class _Tee(httpx2.AsyncByteStream):
    """A body that is written down while it is read. Keeps its beginning and its end."""

    def __init__(self, inner: httpx2.AsyncByteStream, wire: bytearray) -> None:
        """`wire`: where the bytes are written down."""
        self._inner = inner
        self._wire = wire

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._inner:
            self._wire += data
            if len(self._wire) > 2 * KEPT_BYTES:
                del self._wire[KEPT_BYTES:-KEPT_BYTES]
            yield data

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Recorder(httpx2.AsyncBaseTransport):
    """A transport that writes down what comes over the wire, for each task of its own."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        """`inner`: does the work."""
        self._inner = inner
        self._open: dict[asyncio.Task[object] | None, Seen] = {}

    def record(self, seen: Seen) -> None:
        """From now on, what this task is sent goes into `seen`."""
        self._open[asyncio.current_task()] = seen

    def stop(self) -> None:
        """This task is done."""
        self._open.pop(asyncio.current_task(), None)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        seen = self._open[asyncio.current_task()]
        response = await self._inner.handle_async_request(request)
        seen.headers = dict(response.headers)
        head = "".join(f"{name}: {value}\n" for name, value in response.headers.items())
        seen.wire += f"{response.status_code}\n{head}\n".encode()
        if not isinstance(response.stream, httpx2.AsyncByteStream):
            raise TypeError("an asynchronous transport answers with an asynchronous stream")
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Tee(response.stream, seen.wire),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class Client:
    """One user's SDK: one connection (HTTP/1.1) or one with many streams (HTTP/2)."""

    def __init__(
        self,
        base_url: str,
        *,
        context: ssl.SSLContext | bool = False,
        http2: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`context`: for https; False where the address is plain http."""
        limits = httpx2.Limits(max_connections=1, keepalive_expiry=60.0)
        transport = httpx2.AsyncHTTPTransport(
            verify=context, trust_env=False, http1=not http2, http2=http2, limits=limits
        )
        self._recorder = _Recorder(transport)
        self.sdk = openai.AsyncOpenAI(
            base_url=base_url,
            api_key="sk-client",
            max_retries=0,
            timeout=patience_s,
            http_client=httpx2.AsyncClient(transport=self._recorder, trust_env=False),
        )
        self._patience_s = patience_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.sdk.close()

    async def ask(
        self,
        model: str,
        content: str,
        *,
        stream: bool,
        headers: Mapping[str, str],
        on_text: Callable[[], None],
    ) -> Seen:
        """One chat request. `on_text`: called as soon as some text has come."""
        seen = Seen()
        work = self._stream if stream else self._plain
        return await self._watch(seen, work(seen, model, content, headers, on_text))

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Seen:
        """A body as it stands."""
        seen = Seen()
        return await self._watch(seen, self._post(seen, body, headers))

    async def _watch(self, seen: Seen, work: Awaitable[None]) -> Seen:
        """Do it, and write down how it ended."""
        self._recorder.record(seen)
        try:
            async with asyncio.timeout(self._patience_s):
                await work
        except TimeoutError:
            seen.kind, seen.error = "hung", f"nothing for {self._patience_s:g} s"
        except openai.APIStatusError as error:
            seen.kind, seen.status = "error", error.status_code
            _note(seen, error)
        except _STATUSLESS as error:
            seen.kind, seen.error = "broken", type(error).__name__
            seen.message = f"{error} {error.__cause__!r}"
        except openai.APIError as error:
            seen.kind = "cut"
            _note(seen, error)
        except Exception as error:  # noqa: BLE001 - whatever else may hit a user of the SDK
            seen.kind, seen.error, seen.message = "broken", type(error).__name__, str(error)
        finally:
            self._recorder.stop()
        return seen

    async def _plain(
        self,
        seen: Seen,
        model: str,
        content: str,
        headers: Mapping[str, str],
        on_text: Callable[[], None],
    ) -> None:
        answer = await self.sdk.chat.completions.create(
            model=model, messages=[{"role": "user", "content": content}], extra_headers=headers
        )
        seen.text = answer.choices[0].message.content or ""
        on_text()

    async def _stream(
        self,
        seen: Seen,
        model: str,
        content: str,
        headers: Mapping[str, str],
        on_text: Callable[[], None],
    ) -> None:
        stream = await self.sdk.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": content}],
            stream=True,
            extra_headers=headers,
        )
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    seen.text += choice.delta.content or ""
                    if choice.delta.content or choice.delta.tool_calls:
                        on_text()

    async def _post(self, seen: Seen, body: bytes, headers: Mapping[str, str]) -> None:
        more = {"content-type": "application/json"} | dict(headers)
        answer = await self.sdk.post(
            "/chat/completions",
            cast_to=ChatCompletion,
            content=body,
            options={"headers": more},
        )
        seen.text = answer.choices[0].message.content or ""


def _note(seen: Seen, error: openai.APIError) -> None:
    seen.error, seen.message = type(error).__name__, error.message
    seen.code, seen.type = error.code, error.type
    if isinstance(error.body, dict):
        told = error.body.get("attempts")
        seen.attempts_told = len(told) if isinstance(told, list) else None

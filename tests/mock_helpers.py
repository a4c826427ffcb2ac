"""What the tests of the mock node share: captures, raw requests, the shape of a body."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from arbstr.mock import DEFAULT_KEY, MockModel, MockNode

CAPTURES = Path(__file__).parent / "captures"

CAPTURED_MODELS = (
    MockModel("mock-mid", "1", "4", context=32_768, max_output=4_096),
    MockModel("mock-cheap", "0.1", "0.4", context=32_768, max_output=4_096),
    MockModel("mock-pricey", "15", "75", context=200_000, max_output=32_000),
    MockModel("mock-free", "0", "0", context=32_768, max_output=4_096),
    MockModel("gpt-4", "30", "60", context=8_192, max_output=4_096),
    MockModel("gpt-4o", "2.5", "10", "1.25", vision=True),
    MockModel("gpt-4o-mini", "0.15", "0.6", "0.075", vendor="openai"),
    MockModel(
        "gemini-2.0-flash",
        *("0.1", "0.4", "0.025"),
        vision=True,
        context=1_048_576,
        max_output=8_192,
    ),
    MockModel(
        "claude-sonnet-4.5",
        *("3", "15"),
        vendor="anthropic",
        context=200_000,
        max_output=64_000,
        aliases=("claude-sonnet-4-5",),
    ),
    MockModel("claude-native", "3.03", "15.15", context=200_000, max_output=64_000),
    MockModel("text-embedding-3-small", "0.02", "0.02", context=8_192, max_output=8_192),
)
"""Models of the captured node, at the captured prices."""


@dataclass(frozen=True)
class Reply:
    """A response as it came.

    Attributes:
        status: of the status line; 0: no byte came.
        headers: names as they came, repeated ones repeated.
        body: without chunk framing.
        end: `whole` by content-length or last chunk, else `cut` or `reset`.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    end: str

    def names(self) -> list[str]:
        return [name for name, _ in self.headers]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def events(self) -> list[tuple[str | None, Any]]:
        return events(self.body)


def mid(*, verbosity: float = 1.0, token_delay_ms: float = 0.0) -> MockModel:
    return MockModel(
        "mock-mid",
        *("1", "4"),
        context=32_768,
        max_output=4_096,
        verbosity=verbosity,
        token_delay_ms=token_delay_ms,
    )


@asynccontextmanager
async def running(node: MockNode) -> AsyncIterator[MockNode]:
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


def capture(name: str) -> Reply:
    """The captured response."""
    raw = (CAPTURES / name / "response.http").read_bytes()
    return parse(raw.replace(b"\r\n\r\n", b"\n\n", 1) if b"\r\n\r\n" in raw else raw)


def parse(raw: bytes) -> Reply:
    """A response whose chunk framing is gone already."""
    head, _, body = raw.partition(b"\n\n")
    status, *lines = head.decode().replace("\r", "").split("\n")
    pairs = [tuple(line.split(": ", 1)) for line in lines]
    return Reply(int(status.split()[1]), [(k.lower(), v) for k, v in pairs], body, "whole")


def captured_request(name: str) -> bytes:
    return (CAPTURES / name / "request.http").read_bytes()


def request(path: str, body: object, key: str | None = DEFAULT_KEY, *more: str) -> bytes:
    """A POST that closes the connection."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: mock", "Connection: close", *more]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def get(path: str, key: str | None = DEFAULT_KEY) -> bytes:
    auth = "" if key is None else f"Authorization: Bearer {key}\r\n"
    return f"GET {path} HTTP/1.1\r\nHost: mock\r\n{auth}Connection: close\r\n\r\n".encode()


def chat(model: str, text: str = "hello", **more: object) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return request("/v1/chat/completions", body)


async def fetch(node: MockNode | str, raw: bytes) -> Reply:
    """Send a raw request to a node or its URL, read what comes until the connection ends."""
    url = node if isinstance(node, str) else node.url
    host, port = urlsplit(url).netloc.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    got, reset = b"", False
    try:
        while part := await reader.read(65536):
            got += part
    except ConnectionResetError:
        reset = True
    writer.close()
    head, _, rest = got.partition(b"\r\n\r\n")
    if not head:
        return Reply(0, [], b"", "reset" if reset else "cut")
    status, *lines = head.decode().split("\r\n")
    headers = [(k, v) for k, _, v in (line.partition(": ") for line in lines)]
    length = dict(headers).get("content-length")
    if length is None:
        body, whole = _unchunk(rest)
    else:
        # A HEAD is answered with the length of a body that does not come.
        body, whole = rest, len(rest) == int(length) or raw.startswith(b"HEAD ")
    end = "reset" if reset else "whole" if whole else "cut"
    return Reply(int(status.split()[1]), headers, body, end)


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        n = int(size, 16)
        if n == 0:
            return body, True
        body, data = body + data[:n], data[n + 2 :]
    return body, False


def events(body: bytes) -> list[tuple[str | None, Any]]:
    """Events as name and JSON; `[DONE]` as it is."""
    found = []
    for block in body.decode().strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        data = lines["data"]
        found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found


def shape(value: object) -> object:
    """Keys in their order and types of values: what is left when all the content is gone."""
    if isinstance(value, dict):
        return [(key, shape(part)) for key, part in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def stream_shape(body: bytes) -> list[object]:
    """The shapes of the events, each run of equal ones once: answers differ in length."""
    found: list[object] = []
    for name, data in events(body):
        this = (name, data if data == "[DONE]" else shape(data))
        if not found or found[-1] != this:
            found.append(this)
    return found


async def one(raw: bytes, *models: MockModel, balance_msats: int = 10_000_000) -> Reply:
    async with running(MockNode(models=models or (mid(),), balance_msats=balance_msats)) as node:
        return await fetch(node, raw)

"""An HTTP/2 client on a bare connection: the SDK's own never resets a stream that it drops."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.errors
import h2.events


class RawH2Client:
    """One connection to a proxy on loopback. `received`: every stream's body so far, by its id."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        """`context`: trusts the proxy's certificate."""
        self._port = port
        self._context = context
        self._context.set_alpn_protocols(["h2"])
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.received: dict[int, bytearray] = {}
        self.ended: set[int] = set()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._context, server_hostname="127.0.0.1"
        )
        self._h2.initiate_connection()
        await self._flush()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, model: str, content: str, headers: Mapping[str, str]) -> int:
        """Send one streamed chat request; its stream's id."""
        messages = [{"role": "user", "content": content}]
        body = json.dumps({"model": model, "messages": messages, "stream": True}).encode()
        stream_id = self._h2.get_next_available_stream_id()
        self.received[stream_id] = bytearray()
        fixed = {
            ":method": "POST",
            ":scheme": "https",
            ":authority": f"127.0.0.1:{self._port}",
            ":path": "/v1/chat/completions",
            "content-type": "application/json",
        }
        self._h2.send_headers(stream_id, [*fixed.items(), *headers.items()])
        self._h2.send_data(stream_id, body, end_stream=True)
        await self._flush()
        return stream_id

    async def read_until(self, stream_id: int, mark: bytes) -> None:
        """Read all streams until `mark` has come on one. Raises ConnectionError at the end."""
        while mark not in self.received[stream_id]:
            data = await self._reader.read(65536)
            if not data or stream_id in self.ended:
                raise ConnectionError(f"the end came before {mark!r}")
            for event in self._h2.receive_data(data):
                self._on(event)
            await self._flush()

    async def reset(self, stream_id: int) -> None:
        """RST_STREAM, as a browser sends it when its reader has gone."""
        self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
        await self._flush()

    def _on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived) and event.stream_id is not None:
            self.received[event.stream_id] += event.data or b""
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            self.ended.add(event.stream_id or 0)

    async def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())
        await self._writer.drain()

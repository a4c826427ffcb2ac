"""The mock node in a thread of its own, for callers without an event loop."""

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from arbstr.mock.node import MockNode


class ThreadedNode:
    """Runs a node while it is entered: `with ThreadedNode(MockNode()) as served: served.node.url`.

    Args:
        node: one that was not started.
        port: where it listens; 0 takes any that is free.

    Raises:
        OSError: on entering, when the port cannot be bound.
    """

    def __init__(self, node: MockNode, port: int = 0) -> None:
        self.node = node
        self._port = port
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mock-node", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.result().call_soon_threadsafe(self._end.set)
        self._thread.join()

    def idle(self) -> None:
        """Wait until everything that will be billed has been, see `MockNode.idle`."""
        asyncio.run_coroutine_threadsafe(self.node.idle(), self._loop.result()).result()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self.node.start(self._port)
        except OSError as error:
            self._loop.set_exception(error)
            return
        self._loop.set_result(asyncio.get_running_loop())
        await self._end.wait()
        await self.node.stop()

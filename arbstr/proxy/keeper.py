"""What is kept up beside the requests: memory of earlier runs, prices, what today has cost."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import closing
from pathlib import Path

from arbstr.core.caps import day_of
from arbstr.core.catalog import Model
from arbstr.core.policy import Policies
from arbstr.ledger.queries import Reader
from arbstr.ledger.writer import Writer
from arbstr.market import earlier
from arbstr.market.catalog import price_rows
from arbstr.proxy.engine import Engine
from arbstr.proxy.sync import Sync

logger = logging.getLogger(__name__)

_SETTLE_S = 60.0


class Keeper:
    """One task for as long as arbstr runs. The ledger is read on threads."""

    def __init__(self, engine: Engine, writer: Writer) -> None:
        self._engine = engine
        self._writer = writer
        self.sync = Sync(engine.state.config, self._listed)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """No more of it."""
        self._task.cancel()
        self.sync.stop()

    async def _run(self) -> None:
        await self._recall()
        await self._settle_caps()
        self.sync.start()
        while True:
            await asyncio.sleep(_SETTLE_S)
            await self._settle_caps()

    async def _recall(self) -> None:
        """Learn again what earlier runs had learned."""
        engine = self._engine
        try:
            found = await asyncio.to_thread(_read_earlier, engine.state.config.database.path)
        except Exception:
            logger.exception("what earlier runs have left could not be read from the ledger")
            return
        for provider, models in found.models.items():
            if provider in engine.state.providers:
                self.sync.remember(provider, models)
        earlier.relearn(engine.world.forecast, found.answers)

    async def _settle_caps(self) -> None:
        """What the ledger says that today has cost, other processes included."""
        config = self._engine.state.config
        now_ms = _wall_ms()
        try:
            spent = await asyncio.to_thread(
                _read_spent, config.database.path, config.policies, now_ms
            )
        except Exception:
            logger.exception("what today has cost could not be read from the ledger")
            return
        for policy, msats in spent.items():
            self._engine.world.caps.set_spent(policy, msats, day_of(now_ms))

    def _listed(self, provider: str, models: tuple[Model, ...]) -> None:
        """A good list of models: use it, and keep it for the next start."""
        self._engine.world.listed(provider, models)
        self._writer.prices(price_rows(models, _wall_ms()))


def _read_earlier(path: Path) -> earlier.Earlier:
    with closing(Reader(path)) as reader:
        return earlier.read_earlier(reader, _wall_ms())


def _read_spent(path: Path, policies: Policies, now_ms: int) -> dict[str | None, int]:
    with closing(Reader(path)) as reader:
        return dict(earlier.read_spent(reader, policies, now_ms))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000

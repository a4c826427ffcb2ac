"""Prices from each provider's ``GET /v1/models``: at start, then every `sync`."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException

import msgspec

from arbstr.config import Config, Provider
from arbstr.core.catalog import Model
from arbstr.core.listing import ListingError, read_listing
from arbstr.market.fetch import fetch

logger = logging.getLogger(__name__)

_JITTER = 0.1
_RETRY_S = 30.0
"""A provider that was never synced is asked again after this, not after a whole interval."""


class Status(msgspec.Struct):
    """How one provider's sync stands. Times: UTC ms."""

    last_ok_ms: int | None = None
    last_try_ms: int | None = None
    error: str | None = None
    models: int = 0


class Sync:
    """Keeps the catalog current. `listed` gets every good list, on the event loop."""

    def __init__(self, config: Config, listed: Callable[[str, tuple[Model, ...]], None]) -> None:
        self._config = config
        self._listed = listed
        self._status: dict[str, Status] = {}
        self._last: dict[str, tuple[Model, ...]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loaded_ms = _wall_ms()
        self._config_error: str | None = None
        self._tried = asyncio.Event()

    @property
    def tried(self) -> bool:
        """Whether every provider has been asked, or has prices of an earlier run."""
        return self._tried.is_set()

    async def first_prices(self) -> None:
        """Wait until `tried`."""
        await self._tried.wait()

    def start(self) -> None:
        """Begin, or begin anew after a reload."""
        for provider in self._config.providers:
            if provider.sync_s is not None and provider.name not in self._tasks:
                self._tasks[provider.name] = asyncio.create_task(self._keep(provider))
        self._note_tried()

    def _note_tried(self) -> None:
        unknown = (
            name
            for name in self._tasks
            if name not in self._last
            and ((status := self._status.get(name)) is None or status.error is None)
        )
        if not any(unknown):
            self._tried.set()

    def use(self, config: Config) -> None:
        """A reloaded config."""
        self.stop()
        self._config = config
        self._loaded_ms = _wall_ms()
        self._config_error = None
        self.start()

    def refused_config(self, error: str) -> None:
        """A changed config file was refused: the old one stays in force."""
        self._config_error = error

    def stop(self) -> None:
        """No more syncs."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def remember(self, provider: str, models: tuple[Model, ...]) -> None:
        """The last good list of an earlier run."""
        self._last[provider] = models
        listed = max((m.listed_ms or 0 for m in models), default=0)
        self._status[provider] = Status(last_ok_ms=listed or None, models=len(models))
        self._listed(provider, models)

    def told(self) -> Mapping[str, Mapping[str, object]]:
        """For ``/health``: by provider."""
        now = _wall_ms()
        return {
            name: {
                "last_ok_ms": status.last_ok_ms,
                "age_s": None if status.last_ok_ms is None else (now - status.last_ok_ms) // 1000,
                "models": status.models,
                "error": status.error,
            }
            for name, status in self._status.items()
        }

    def config_told(self) -> Mapping[str, object]:
        """For ``/health``: since when the config is in force, and why a newer one was refused."""
        return {"loaded_ms": self._loaded_ms, "error": self._config_error}

    async def once(self, provider: Provider) -> bool:
        """Sync one provider now. False where the last good prices stay; the status says why."""
        status = self._status.setdefault(provider.name, Status())
        status.last_try_ms = _wall_ms()
        try:
            body = await asyncio.to_thread(fetch, provider)
            last = self._last.get(provider.name, ())
            models = read_listing(body, provider=provider.name, now_ms=_wall_ms(), last=last)
        except (OSError, HTTPException, ListingError, ValueError) as error:
            if status.error != str(error):
                logger.warning("prices of %s not synced: %s", provider.name, error)
            status.error = str(error)
            self._note_tried()
            return False
        self._last[provider.name] = models
        status.last_ok_ms, status.error, status.models = _wall_ms(), None, len(models)
        self._listed(provider.name, models)
        self._note_tried()
        return True

    async def all(self) -> None:
        """Sync every provider that is to be synced, now."""
        await asyncio.gather(
            *(self.once(p) for p in self._config.providers if p.sync_s is not None)
        )

    async def _keep(self, provider: Provider) -> None:
        interval = provider.sync_s or 0.0
        while True:
            ok = await self.once(provider)
            known = ok or provider.name in self._last
            pause = interval if known else min(interval, _RETRY_S)
            await asyncio.sleep(pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000

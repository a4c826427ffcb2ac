"""A changed ``config.toml`` takes effect without a restart; a broken one is refused, and says why.

Looked for once a second, off the event loop; at once on SIGHUP and on ``arbstr.reload``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from arbstr.config import Config, ConfigError

logger = logging.getLogger(__name__)

POLL_S = 1.0

type Sign = tuple[int, int, int] | None
"""What tells one version of a file from the next: time, size, inode; None for no file."""


class Reload:
    """Watches one config file.

    `path` says which it is now. `load` reads it (blocks; raises ConfigError). `use` puts a good one
    in force; `refuse` is told what is wrong with a bad one. Both are called on the event loop.
    """

    def __init__(
        self,
        path: Callable[[], Path],
        load: Callable[[], Config],
        use: Callable[[Config], None],
        refuse: Callable[[str], None],
    ) -> None:
        """Call `start` on the event loop."""
        self._path = path
        self._load = load
        self._use = use
        self._refuse = refuse
        self._seen: Sign = _sign(path())
        self._task: asyncio.Task[None] | None = None
        self._asked: set[asyncio.Task[tuple[str, ...]]] = set()
        self._at_terminal = os.isatty(0)
        self._lock = asyncio.Lock()

    def start(self, stop: Callable[[], None]) -> None:
        """Begin to watch. `stop`: ends the program when its terminal has gone."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._watch())
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, self._hung_up, stop)

    def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            if hasattr(signal, "SIGHUP"):
                asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

    def soon(self) -> None:
        """Read it now; the log says how that went."""
        task = asyncio.get_running_loop().create_task(self.now())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def now(self) -> tuple[str, ...]:
        """Read the file and put it in force. Returns its errors; with any, the old one stays."""
        async with self._lock:
            self._seen = await asyncio.to_thread(_sign, self._path())
            try:
                config = await asyncio.to_thread(self._load)
            except ConfigError as error:
                for problem in error.problems:
                    logger.error("config not reloaded: %s", problem)  # noqa: TRY400 - the user's
                self._refuse("\n".join(error.problems))
                return tuple(error.problems)
            self._use(config)
            for warning in config.warnings:
                logger.warning(warning)
            logger.info("config reloaded: %s is in force", config.path)
            return ()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if await asyncio.to_thread(_sign, self._path()) != self._seen:
                    await self.now()
            except Exception:
                logger.exception("the config could not be reloaded")

    def _hung_up(self, stop: Callable[[], None]) -> None:
        """SIGHUP asks for a reload, unless it says that our terminal was closed."""
        if self._at_terminal and not os.isatty(0):
            stop()
        else:
            self.soon()


def while_running(old: Config, new: Config) -> Config:
    """`new`, but for what only a start can change; a warning says so."""
    server = msgspec.structs.replace(
        new.server, listen_host=old.server.listen_host, listen_port=old.server.listen_port
    )
    kept = msgspec.structs.replace(new, server=server, database=old.database)
    names = ("server.listen", "database")
    changed = (server != new.server, old.database != new.database)
    late = [name for name, differs in zip(names, changed, strict=True) if differs]
    warnings = [f"{new.path}: {name}: takes effect at the next start" for name in late]
    return msgspec.structs.replace(kept, warnings=(*new.warnings, *warnings))


def _sign(path: Path) -> Sign:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

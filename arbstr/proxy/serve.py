"""``arbstr serve``: the add-on in a master that loads only what a headless reverse proxy needs."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path

from mitmproxy import ctx, http, options
from mitmproxy.addons import core, errorcheck, next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master

from arbstr.config import ConfigError
from arbstr.ledger.writer import LedgerError
from arbstr.proxy.addon import Arbstr, set_options

_NOISY = ("mitmproxy.proxy.server", "mitmproxy.proxy.mode_servers", "asyncio", "hpack")


def serve(config_path: Path | None, *, mock: bool, listen: str | None, verbose: bool) -> int:
    """Run until SIGINT or SIGTERM. Returns the exit code."""
    _quiet(verbose=verbose)
    _unburden()
    try:
        return asyncio.run(_serve(config_path, mock=mock, listen=listen))
    except SystemExit as stop:  # mitmproxy's own way out of a failed start
        return stop.code if isinstance(stop.code, int) else 1


async def _serve(config_path: Path | None, *, mock: bool, listen: str | None) -> int:
    opts = options.Options()
    arbstr = Arbstr(viewed=False)
    master = Master(opts, with_termlog=True)
    master.addons.add(
        core.Core(),
        proxyserver.Proxyserver(),
        arbstr,
        next_layer.NextLayer(),
        tlsconfig.TlsConfig(),
        errorcheck.ErrorCheck(),
        _Hello(arbstr),
    )
    settings: dict[str, object] = {"arbstr_mock": mock}
    if config_path is not None:
        settings["arbstr_config"] = str(config_path)
    if listen is not None:
        host, _, port = listen.rpartition(":")
        settings |= {"listen_host": host.strip("[]"), "listen_port": int(port)}
    opts.update(**settings)
    if arbstr.config is None:
        return 1
    # Before anything listens, so that there is never a port that is not a reverse proxy's.
    try:
        arbstr.start()
    except (ConfigError, LedgerError, OSError) as error:
        sys.stderr.writelines(f"arbstr: {line}\n" for line in str(error).splitlines())
        return 1
    set_options(arbstr.config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.shutdown)
    gc.freeze()  # what is loaded stays: the collector need not look through it again and again
    await master.run()
    return 0


class _Hello:
    """Says where arbstr listens, once it does."""

    def __init__(self, arbstr: Arbstr) -> None:
        self._arbstr = arbstr

    def running(self) -> None:
        """Everything has started."""
        config = self._arbstr.config
        assert config is not None
        names = ", ".join(provider.name for provider in config.providers)
        for host, port, *_ in ctx.master.addons.get("proxyserver").listen_addrs():
            shown = f"[{host}]" if ":" in host else host
            sys.stderr.write(f"arbstr: listening at http://{shown}:{port}/v1\n")
        sys.stderr.write(
            f"arbstr: {config.path}; providers: {names}; ledger: {config.database.path}\n"
        )


def _unburden() -> None:
    """Let mitmproxy not check the types of every field of every message: nobody else's code runs.

    It does so unless Python runs with -O, for a tenth of a request's time.
    """
    http.MessageData.__post_init__ = lambda _: None  # type: ignore[method-assign]


def _quiet(*, verbose: bool) -> None:
    """Mitmproxy tells of every connection at level info: not kept, so not made."""
    logging.getLogger().setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.WARNING)

"""Who is measured: the upstream directly, mitmdump without and with arbstr, arbstr, its peers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import PEERS
from tests.bench.process import (
    ROOT,
    Plan,
    free_port,
    rss_bytes,
    server,
    upstream,
    wait_for_answer,
)

DIRECT, MITMDUMP, ADDON, SERVE = "direct", "mitmdump", "mitmdump -s", "arbstr serve"
OURS = (DIRECT, MITMDUMP, ADDON, SERVE)

MODELS = ("gpt-4o-mini", "gpt-4.1-nano", "gemini-2.0-flash", "claude-haiku-4.5", "deepseek-chat")
KEY = "sk-benchmark-key"

_MITMDUMP = "import sys; from mitmproxy.tools.main import mitmdump; sys.exit(mitmdump())"
ARBSTR = "import sys; from arbstr.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Contender:
    """One that runs. `pid`: None for the upstream itself."""

    name: str
    port: int
    headers: Mapping[str, str]
    pid: int | None
    folder: Path

    def rss_bytes(self) -> int:
        """Its resident memory, 0 for the upstream itself."""
        return 0 if self.pid is None else rss_bytes(self.pid)


def config_text(port: int, target: int, folder: Path, host: str = "127.0.0.1") -> str:
    """The config: five models of one provider, one policy for all requests, the ledger on."""
    models = "".join(
        f'[[models]]\nid = "{name}"\ninput_rate = {rate}\noutput_rate = {4 * rate}\n'
        f"context = 10000000\nmax_output = 16000\ntools = true\n"
        for rate, name in enumerate(MODELS, 1)
    )
    return (
        f'[server]\nlisten = "127.0.0.1:{port}"\n'
        f"[database]\npath = {json.dumps(str(folder / 'ledger.db'))}\n"
        f'[[providers]]\nname = "node"\nurl = "http://{host}:{target}/v1"\nsync = "off"\n'
        f'api_key = "{KEY}"\n{models}'
        f'[policies]\ndefault = "bench"\n'
        f'[[policies.rules]]\nname = "bench"\nallowed_models = {json.dumps(MODELS[:3])}\n'
    )


def config_file(port: int, target: int, folder: Path, host: str = "127.0.0.1") -> Path:
    """The same, written to `folder`. `host`: what the config calls the upstream."""
    path = folder / "config.toml"
    path.write_text(config_text(port, target, folder, host))
    path.chmod(0o600)
    return path


def _mitmdump(port: int, target: int, _: Path) -> Plan:
    listen = ("--listen-host", "127.0.0.1", "--listen-port", str(port))
    mode = f"reverse:http://127.0.0.1:{target}"
    return Plan((sys.executable, "-c", _MITMDUMP, "-q", "--mode", mode, *listen))


def _addon(port: int, target: int, folder: Path) -> Plan:
    config = config_file(port, target, folder)
    script = ("-s", str(ROOT / "arbstr_addon.py"), "--set", f"arbstr_config={config}")
    return Plan((sys.executable, "-c", _MITMDUMP, "-q", *script))


def _serve(port: int, target: int, folder: Path) -> Plan:
    config = config_file(port, target, folder)
    return Plan((sys.executable, "-c", ARBSTR, "serve", "--config", str(config)))


_PLANS: Mapping[str, Callable[[int, int, Path], Plan]] = {
    MITMDUMP: _mitmdump,
    ADDON: _addon,
    SERVE: _serve,
}


@contextmanager
def running(
    names: Sequence[str], folder: Path, peers: Path | None = None
) -> Iterator[list[Contender]]:
    """Start `names` in front of one upstream, and wait until each has answered a request."""
    with ExitStack() as stack:
        target = stack.enter_context(upstream())
        found = [
            stack.enter_context(started(name, target, folder / name.replace(" ", "_"), peers))
            for name in names
        ]
        yield found


@contextmanager
def started(name: str, target: int, folder: Path, peers: Path | None = None) -> Iterator[Contender]:
    """One contender in front of the upstream at port `target`, once it has answered a request."""
    if name == DIRECT:
        yield Contender(name, target, {}, None, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    if name in PEERS:
        assert peers is not None
        plan = PEERS[name](peers, port, target, folder)
    else:
        plan = _PLANS[name](port, target, folder)
    with server(plan, folder) as process:
        wait_for_answer(process, port, plan, folder)
        yield Contender(name, port, plan.headers, process.pid, folder)

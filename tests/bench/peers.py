"""Other routers, for ``--peers``: installed from their registries into a temporary place."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.process import Plan

LITELLM, PORTKEY = "litellm", "portkey"
_LITELLM_PACKAGE = "litellm[proxy]"
_PORTKEY_PACKAGE = "@portkey-ai/gateway"


def install(place: Path) -> dict[str, str]:
    """Install what is not there yet; the peers that are there and their versions.

    LiteLLM gets an environment of its own; Portkey's gateway needs Node and is left out without it.
    """
    found = {}
    venv = place / LITELLM
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", _LITELLM_PACKAGE], check=True)
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    found[LITELLM] = done.stdout.strip()
    npm = shutil.which("npm")
    if npm is not None:
        package = _portkey(place)
        if not package.exists():
            install_here = ("install", "--no-audit", "--no-fund", "--prefix", place / PORTKEY)
            subprocess.run([npm, *install_here, _PORTKEY_PACKAGE], check=True, capture_output=True)
        found[PORTKEY] = str(json.loads((package / "package.json").read_text())["version"])
    return found


def _portkey(place: Path) -> Path:
    return place / PORTKEY / "node_modules" / _PORTKEY_PACKAGE


def _plan_litellm(place: Path, port: int, target: int, folder: Path) -> Plan:
    config = folder / "config.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: gpt-4o-mini\n"
        "    litellm_params:\n"
        "      model: openai/gpt-4o-mini\n"
        f"      api_base: http://127.0.0.1:{target}/v1\n"
        "      api_key: sk-upstream\n"
    )
    listen = ("--host", "127.0.0.1", "--port", str(port))
    program = str(place / LITELLM / "bin" / "litellm")
    env = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # as all contenders are open
    }
    return Plan((program, "--config", str(config), *listen, "--telemetry", "False"), env=env)


def _plan_portkey(place: Path, port: int, target: int, _: Path) -> Plan:
    node = shutil.which("node") or "node"
    program = _portkey(place) / "build" / "start-server.js"
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{target}/v1",
    }
    return Plan((node, str(program), f"--port={port}", "--headless"), headers)


PEERS: Mapping[str, Callable[[Path, int, int, Path], Plan]] = {
    LITELLM: _plan_litellm,
    PORTKEY: _plan_portkey,
}
"""How each is started: from where it is installed, its port, the upstream's, its own folder."""

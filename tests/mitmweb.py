"""mitmweb with the add-on as a process, for tests that look at what it shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.running import ROOT, free_port

PASSWORD = "open-sesame"
XSRF = {"Cookie": "_mitmproxy_xsrf=abcd", "X-XSRFToken": "abcd"}
_WAIT_S = 30.0
_POLL_S = 0.05
_RUN = "from mitmproxy.tools.main import mitmweb; mitmweb()"

type Flow = dict[str, Any]


class Mitmweb:
    """One mitmweb. `url`: arbstr's origin; `web_url`: that of the page."""

    def __init__(
        self, process: subprocess.Popen[bytes], url: str, web_url: str, log_path: Path
    ) -> None:
        self.process = process
        self.url = url
        self.web_url = web_url
        self.folder = log_path.parent
        self._log_path = log_path

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def post(self, path: str, body: object, **headers: str) -> tuple[int, bytes]:
        """Send JSON through arbstr: status and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json", **named},
        )
        return _answer(request)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Get through arbstr: status and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _answer(urllib.request.Request(self.url + path, headers=named))

    def chat(self, model: str, text: str = "hello", **headers: str) -> bytes:
        """One streamed chat through arbstr: its body."""
        messages = [{"role": "user", "content": text}]
        body = {"model": model, "stream": True, "messages": messages}
        return self.post("/v1/chat/completions", body, **headers)[1]

    def web(self, path: str, body: object = None) -> bytes:
        """Ask mitmweb itself, as its page does."""
        headers = {"Authorization": f"Bearer {PASSWORD}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.web_url + path, data=data, headers=headers | XSRF)
        with urllib.request.urlopen(request, timeout=_WAIT_S) as answer:
            found: bytes = answer.read()
        return found

    def flows(self) -> list[Flow]:
        """The list, as the page gets it."""
        found: list[Flow] = json.loads(self.web("/flows"))
        return found

    def until(self, good: Callable[[list[Flow]], bool]) -> list[Flow]:
        """The list, once it is `good`."""
        end = time.monotonic() + _WAIT_S
        while not good(found := self.flows()):
            assert time.monotonic() < end, [(f["comment"], f["marked"]) for f in found]
            time.sleep(_POLL_S)
        return found

    def flow(self, comment: str) -> Flow:
        """The newest flow whose comment holds `comment`, once there is one."""
        found = self.until(lambda flows: any(comment in flow["comment"] for flow in flows))
        return [flow for flow in found if comment in flow["comment"]][-1]

    def view(self, flow: Flow, message: str, view: str = "auto") -> tuple[str, str]:
        """Name and text of what the page shows of a message (``request``, ``response``)."""
        path = f"/flows/{flow['id']}/{message}/content/{quote(view)}.json"
        shown = json.loads(self.web(path))
        return shown["view_name"], shown["text"]

    def command(self, name: str, *arguments: str) -> Any:  # noqa: ANN401 - decoded JSON
        """Run a command as the page's command bar does. Raises AssertionError with its error."""
        result = json.loads(self.web(f"/commands/{name}", {"arguments": arguments}))
        assert "error" not in result, result
        return result["value"]


@contextmanager
def mitmweb(
    folder: Path, config: str, *options: str, mock: bool = True, server: str = ""
) -> Iterator[Mitmweb]:
    """Run mitmweb on free ports, for as long as the block lasts.

    `folder`: empty and its own. `config`: the text of its ``config.toml``, without ``[server]``
    or ``[database]``. `options`: for ``--set``. `server`: lines for ``[server]``.
    """
    port, web_port = free_port(), free_port()
    path = folder / "config.toml"
    head = f'[server]\nlisten = "127.0.0.1:{port}"\n{server}\n[database]\npath = "ledger.db"\n'
    path.write_text(head + config, encoding="utf-8")
    path.chmod(0o600)
    chosen = (
        f"confdir={folder / 'mitmproxy'}",
        f"arbstr_config={path}",
        f"arbstr_mock={'true' if mock else 'false'}",
        "web_open_browser=false",
        f"web_port={web_port}",
        f"web_password={PASSWORD}",
        *options,
    )
    command = [sys.executable, "-c", _RUN, "-s", str(ROOT / "arbstr_addon.py")]
    command += [word for option in chosen for word in ("--set", option)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARBSTR_")}
    log_path = folder / "mitmweb.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**kept, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    running = Mitmweb(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{web_port}", log_path)
    try:
        _wait(running)
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(running: Mitmweb) -> None:
    """Until arbstr answers and has prices, and the page is there."""
    end = time.monotonic() + _WAIT_S
    while running.process.poll() is None and time.monotonic() < end:
        try:
            status, health = running.get("/health")
            synced = [] if status == 401 else json.loads(health)["sync"].values()
            if all(s["last_ok_ms"] or s["error"] for s in synced):
                running.web("/flows")
                return
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(_POLL_S)
    raise RuntimeError(f"mitmweb did not start:\n{running.log[-4000:]}")


def _answer(request: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=_WAIT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()

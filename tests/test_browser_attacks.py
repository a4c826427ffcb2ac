"""Real pages in a real browser try everything against a running arbstr; nothing comes of it.

Chromium loads a page of another origin, which tries everything a page can do without being asked:
`fetch` in all its modes, forms, images, scripts, frames, EventSource, WebSocket, beacons. What it
found is in the DOM at the end.
"""

from __future__ import annotations

import html
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arbstr.mock import MockNode
from arbstr.mock.thread import ThreadedNode
from tests.attack import OUR_KEY, config
from tests.running import Running, free_port, running

pytestmark = pytest.mark.browser

BROWSER = os.environ.get("ARBSTR_BROWSER") or shutil.which("chromium") or "/usr/bin/chromium"
TIMEOUT_S = 120

PAGE = (Path(__file__).parent / "data" / "attack.html").read_text(encoding="utf-8")


def browser_refusal() -> str:
    """Why there is no browser; empty where there is one."""
    if not Path(BROWSER).is_file() or not os.access(BROWSER, os.X_OK):
        return f"there is no Chromium ({BROWSER}); ARBSTR_BROWSER names one"
    return ""


@contextmanager
def page(target: str, port: int = 0) -> Iterator[int]:
    """Serve the attacking page on 127.0.0.1, under every path; its port."""
    content = PAGE.replace("@TARGET@", json.dumps(target)).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def visit(url: str, profile: Path) -> str:
    """The DOM of `url` once its scripts are done. Every name is this machine."""
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-extensions", "--disable-component-update"),
        *("--disable-background-networking", "--host-resolver-rules=MAP * 127.0.0.1"),
        *(f"--user-data-dir={profile}", "--virtual-time-budget=30000", "--dump-dom", url),
    ]
    environment = {**os.environ, "HOME": str(profile)}
    done = subprocess.run(
        command, capture_output=True, timeout=TIMEOUT_S, check=False, env=environment
    )
    dom = done.stdout.decode(errors="replace")
    assert dom, done.stderr.decode(errors="replace")[-2000:]
    return dom


def told(dom: str) -> dict[str, str]:
    """What the page found out, by attack."""
    match = re.search(r'<pre id="told">(.*?)</pre>', dom, re.DOTALL)
    assert match is not None
    assert match[1], dom[-3000:]
    found: dict[str, str] = json.loads(html.unescape(match[1]))
    return found


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    if refusal := browser_refusal():
        pytest.skip(refusal)
    with ThreadedNode(MockNode()) as served:
        yield served.node


@contextmanager
def arbstr_of(node: MockNode, folder: Path, server: str = "") -> Iterator[Running]:
    with running(folder, config(node.url, server=server)) as arbstr:
        node.requests.clear()
        yield arbstr


def assert_nothing_came_of_it(arbstr: Running, node: MockNode, found: dict[str, str]) -> None:
    assert len(found) == 33
    readable = {
        name: what for name, what in found.items() if re.match(r"(cors|basic|default) ", what)
    }
    assert readable == {}
    assert [f"{seen.method} {seen.path}" for seen in node.requests] == []
    assert node.billed_msats == 0
    assert arbstr.requests() == []
    assert found["WebSocket"] == found["WebSocket of chat"] == "error"
    assert found["EventSource"] == found["EventSource of models"] == "error"
    assert found["image"] == found["script"] == "error"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "evil.example"])
def test_a_page_of_another_origin_spends_nothing(node: MockNode, tmp_path: Path, host: str) -> None:
    """Another site, the same site on another port, and a name that leads here."""
    with arbstr_of(node, tmp_path) as arbstr, page(arbstr.url) as port:
        found = told(visit(f"http://{host}:{port}/", tmp_path / "profile"))
        assert_nothing_came_of_it(arbstr, node, found)
        denied = arbstr.get("/health")["denied"]
        assert denied["origin_not_allowed"] >= 20  # the attacks did arrive
        assert found["fetch no-cors"].startswith("opaque ")


def test_a_rebound_name_spends_nothing(node: MockNode, tmp_path: Path) -> None:
    """The page's own name, at arbstr's port: what a rebound name looks like from inside."""
    with arbstr_of(node, tmp_path) as arbstr:
        arbstr_port = arbstr.url.rpartition(":")[2]
        with page(f"http://evil.example:{arbstr_port}") as port:
            found = told(visit(f"http://evil.example:{port}/", tmp_path / "profile"))
        assert_nothing_came_of_it(arbstr, node, found)
        assert arbstr.get("/health")["denied"]["wrong_host"] >= 20
        dom = visit(f"http://evil.example:{arbstr_port}/v1/models", tmp_path / "other")
        assert "is not ours" in dom


def test_an_allowed_page_may_spend_and_read(node: MockNode, tmp_path: Path) -> None:
    """The same page, allowed: so it was the guard that held the others off."""
    port = free_port()
    with arbstr_of(node, tmp_path, f'allowed_origins = ["http://localhost:{port}"]') as arbstr:
        with page(arbstr.url, port):
            found = told(visit(f"http://localhost:{port}/", tmp_path / "profile"))
        assert found["fetch cors json"].startswith("cors 200 ")
        assert "choices" in found["fetch cors json"]
        assert found["fetch get"].startswith("cors 200 ")
        assert found["fetch cors text"].startswith("cors 415 ")
        assert found["WebSocket"] == "error"
        spent = [row for row in arbstr.requests() if row["outcome"] == "ok"]
        assert spent
        assert all(row["endpoint"] == "/v1/chat/completions" for row in spent)
        keys = {seen.headers.get("authorization") for seen in node.requests}
        assert f"Bearer {OUR_KEY}" in keys
        assert not any(
            OUR_KEY in str(seen.headers) for seen in node.requests if "balance" in seen.path
        )

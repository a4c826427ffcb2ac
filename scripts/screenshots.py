"""Makes the screenshots of docs/mitmweb.md: headless Chromium, mitmweb, the mock node.

    python scripts/screenshots.py [--browser PROGRAM] [--out docs/images]

Needs Playwright (``pip install playwright``; nothing else is downloaded) and a Chromium.
"""

# ruff: noqa: E402 - the tests' helpers lie beside us and are not installed

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import browser
from tests.mitmweb import PASSWORD, Mitmweb, mitmweb

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

CONFIG = """
[[providers]]
name = "routstr"
url = "https://api.routstr.com/v1"
[policies]
[[policies.rules]]
name = "code"
allowed_models = ["mock-fail-503", "deepseek-chat*", "gpt-4o", "claude-sonnet-4.5", "gpt-5-mini"]
max_sats_per_1k_output = 12
keywords = ["code", "function"]
[[policies.rules]]
name = "tiny"
allowed_models = ["gpt-4o"]
max_sats_per_request = 0.01
"""
LOW: ViewportSize = {"width": 1280, "height": 420}
HIGH: ViewportSize = {"width": 1280, "height": 850}
HIGHEST: ViewportSize = {"width": 1280, "height": 1260}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Reads a file of the project, from its first line on." * 3,
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
        },
    }
    for name in ("read_file", "write_file", "run_tests")
]
SYSTEM = {"role": "system", "content": "You are a careful engineer. Answer briefly."}
TEXT = {"type": "text", "text": "What does the code on this screenshot do?"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 480_000}}
ASKED = {"role": "user", "content": "Write a function that reverses a list in place."}
WITH_IMAGE = "gpt-4o → gpt-5-mini · "
WITH_FALLBACK = "gpt-4o → deepseek-chat · "


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", help="a Chromium; default: $ARBSTR_BROWSER, or what is found")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        mitmweb(Path(folder), CONFIG) as web,
        browser(arguments.browser) as chromium,
    ):
        _traffic(web)
        page = chromium.new_page(viewport=LOW)
        page.goto(f"{web.web_url}/?token={PASSWORD}")
        page.locator("tr.has-request").last.wait_for()
        for name, show in PICTURES:
            show(page)
            path = arguments.out / f"mitmweb-{name}.png"
            (page.locator(".flow-detail") if name != "list" else page).screenshot(path=path)
            print(f"{path}  {path.stat().st_size // 1000} KB")


def _traffic(web: Mitmweb) -> None:
    """A day in the life: a fallback, a good answer, an overcharge, a cut stream, a refusal."""
    web.web("/clear", {})
    body = {"model": "gpt-4o", "stream": True, "tools": TOOLS, "tool_choice": "none"}
    web.chat("gpt-4o-mini", "Translate 'good morning' to Finnish.")
    seen = {"role": "user", "content": [TEXT, IMAGE]}
    web.post("/v1/chat/completions", {**body, "messages": [SYSTEM, seen]})
    web.post("/v1/chat/completions", {**body, "messages": [SYSTEM, ASKED]})
    web.chat("mock-overcharge", "What is the capital of Peru?")
    web.chat("mock-cut", "Tell me a long story.")
    web.chat("arbstr/tiny", "Is this too dear?")
    web.flow("refused: cap_reached")


def _list(page: Page) -> None:
    """The list alone."""
    page.set_viewport_size(LOW)


def _request(page: Page) -> None:
    """The conversation."""
    _open(page, WITH_IMAGE, "Request", "auto", "LLM request")
    page.set_viewport_size(HIGH)


def _answer(page: Page) -> None:
    """The answer, put together."""
    _open(page, WITH_FALLBACK, "Response", "auto", "LLM answer")
    page.set_viewport_size(HIGH)


def _receipt(page: Page) -> None:
    """The receipt."""
    _open(page, WITH_FALLBACK, "Request", "arbstr", "arbstr")
    page.set_viewport_size(HIGHEST)


def _open(page: Page, comment: str, tab: str, view: str, shown: str) -> None:
    page.locator(".col-comment").get_by_text(comment).click()
    page.locator(".nav-tabs-sm").get_by_text(tab, exact=True).click()
    page.locator(".contentview .controls").get_by_text("View:").click()
    page.locator(".contentview .dropdown-menu").get_by_text(view, exact=True).click()
    page.locator(".contentview h5").filter(has_text=shown).wait_for()
    page.mouse.move(0, 0)


PICTURES: tuple[tuple[str, Callable[[Page], None]], ...] = (
    ("list", _list),
    ("request", _request),
    ("answer", _answer),
    ("receipt", _receipt),
)


if __name__ == "__main__":
    main()

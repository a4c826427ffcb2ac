"""A headless Chromium for tests and for ``scripts/screenshots.py``; driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def missing() -> str | None:
    """Why there is no browser to test with; None where there is one."""
    if not os.environ.get("ARBSTR_BROWSER"):
        return "ARBSTR_BROWSER names no Chromium (scripts/test --browser sets it)"
    if find_spec("playwright") is None:
        return "Playwright is not installed (pip install playwright)"
    return None


@contextmanager
def browser(path: str | None = None) -> Iterator[Browser]:
    """Run a Chromium. `path`: its program; without one ``$ARBSTR_BROWSER``, else what is found.

    Nothing is downloaded: Playwright only drives it. Raises RuntimeError where there is none.
    """
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not everybody has it

    found = (
        path
        or os.environ.get("ARBSTR_BROWSER")
        or next(filter(None, map(shutil.which, _NAMES)), None)
    )
    if found is None:
        raise RuntimeError("no Chromium was found; set ARBSTR_BROWSER")
    with sync_playwright() as playwright:
        # As root in a container Chromium has no sandbox to use.
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()

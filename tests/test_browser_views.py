"""mitmweb's page in a real browser: the flow is found, both views tell it, no key shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arbstr.mock import MockNode
from arbstr.mock.thread import ThreadedNode
from tests.browser import browser, missing
from tests.mitmweb import PASSWORD, Mitmweb, mitmweb

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

KEY = "sk-client0key0that0nobody0may0see"
CONFIG = """
[[providers]]
name = "node"
url = "{url}"
[policies]
[[policies.rules]]
name = "shaky"
allowed_models = ["mock-fail-500", "gpt-4o-mini"]
"""
ROW = "tr.has-request"
REQUEST = "arbstr/shaky → gpt-4o-mini · "
ATTEMPT = "try 1 of arbstr/shaky"
TIMEOUT_MS = 10_000


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmweb]:
    folder = tmp_path_factory.mktemp("browser")
    node = MockNode()
    with (
        ThreadedNode(node),
        mitmweb(
            folder,
            CONFIG.format(url=node.url),
            f"save_stream_file={folder / 'saved.mitm'}",
            mock=False,
        ) as running,
    ):
        running.chat("arbstr/shaky", f"hello, my key is {KEY}", Authorization=f"Bearer {KEY}")
        running.flow("arbstr/shaky → gpt-4o-mini")
        yield running


@pytest.fixture(scope="module")
def page(web: Mitmweb) -> Iterator["Page"]:
    with browser() as running:
        page = running.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{web.web_url}/?token={PASSWORD}")
        page.set_default_timeout(TIMEOUT_MS)
        row(page, REQUEST).wait_for()
        yield page


def open_flow(page: "Page", comment: str, tab: str) -> None:
    """Select a flow by its comment, and a tab of its details."""
    row(page, comment).click()
    page.locator(".nav-tabs-sm").get_by_text(tab, exact=True).click()


def choose_view(page: "Page", name: str, shown: str) -> str:
    """Select a view of the open flow; the text that `shown`, the view with that title, gives."""
    page.locator(".contentview .controls").get_by_text("View:").click()
    page.locator(".contentview .dropdown-menu").get_by_text(name, exact=True).click()
    page.locator(".contentview h5").filter(has_text=shown).wait_for()
    text: str = page.locator(".contentview pre").inner_text()
    return text


def row(page: "Page", comment: str) -> "Locator":
    """The row of the list whose comment begins so."""
    return page.locator(ROW).filter(has=page.locator(".col-comment").get_by_text(comment))


def fits(page: "Page") -> bool:
    """Whether the shown text is as wide as its box, so that nothing of it is cut off."""
    script = "e => e.scrollWidth <= e.clientWidth"
    return bool(page.locator(".contentview pre").evaluate(script))


def test_the_list_says_model_sats_and_tries(page: "Page") -> None:
    text = row(page, REQUEST).inner_text()
    assert "msat · 2 tries" in text
    assert "🔀" in text
    assert "mock-fail-500" in row(page, ATTEMPT).inner_text()


def test_comments_are_not_cut_off(page: "Page") -> None:
    cell = row(page, REQUEST).locator(".col-comment")
    assert cell.evaluate("e => e.scrollWidth <= e.clientWidth")


def test_the_receipt_is_read_in_the_page(page: "Page") -> None:
    open_flow(page, REQUEST, "Request")
    text = choose_view(page, "arbstr", "arbstr")
    assert "mock-fail-500 @ node" in text
    assert "HTTP 500" in text
    assert "gpt-4o-mini @ node" in text
    cost = next(line for line in text.splitlines() if line.startswith("cost"))
    assert float(cost.split()[1]) > 0
    assert "billed by the node" in cost
    assert fits(page)


def test_the_answer_is_read_in_the_page(page: "Page") -> None:
    open_flow(page, REQUEST, "Response")
    text = choose_view(page, "auto", "LLM answer")
    assert "I am gpt-4o-mini" in text
    assert "tokens  input" in text
    assert "sats, billed" in text


def test_the_conversation_is_chosen_by_itself(page: "Page") -> None:
    open_flow(page, REQUEST, "Request")
    text = choose_view(page, "auto", "LLM request")
    assert "── user ──" in text
    assert "hello, my key is sk-c…***" in text
    assert fits(page)


def test_filters_find_the_attempt(page: "Page") -> None:
    page.get_by_text("Flow List", exact=True).click()
    search = page.get_by_placeholder("Search")
    search.fill("~marker :x:")
    row(page, REQUEST).wait_for(state="detached")
    assert row(page, ATTEMPT).count() == 1
    search.fill("")
    search.blur()  # its help would cover the list
    row(page, REQUEST).wait_for()


def test_no_key_is_on_the_page_nor_in_saved_flows(page: "Page", web: Mitmweb) -> None:
    for comment in (REQUEST, ATTEMPT):
        for tab in ("Request", "Response"):
            open_flow(page, comment, tab)
            for view in ("raw", "arbstr"):
                choose_view(page, view, view)
                assert KEY not in page.content()
    for saved in _saved(web):
        assert KEY.encode() not in saved


def _saved(web: Mitmweb) -> Iterator[bytes]:
    yield web.web("/flows/dump")
    yield Path(web.folder / "saved.mitm").read_bytes()

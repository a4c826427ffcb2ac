"""Which flows leave the list, and which never do."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from mitmproxy import http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons, tflow

from arbstr.proxy import story
from arbstr.proxy.retention import Retention


class WebRequest(NamedTuple):
    path: str


class Handler(NamedTuple):
    request: WebRequest
    status: int = 200

    def get_status(self) -> int:
        return self.status


class Listing:
    """A view, and flows that go through it."""

    def __init__(self, *, web: bool, keep: int = 2) -> None:
        self.view = View()
        self.retention = Retention(self.view, lambda: keep, web=web)

    def flow(self, *, live: bool = False, marked: str = "", resp: bool = True) -> http.HTTPFlow:
        """A flow that was in the list while it was open, and has ended unless it is `live`."""
        flow = tflow.tflow(resp=resp, live=live)
        flow.marked = marked
        self.view.add([flow])
        self.retention.ended(flow)
        return flow

    def look_at(self, flow: http.HTTPFlow, status: int = 200) -> None:
        path = f"/flows/{flow.id}/response/content/auto.json"
        self.retention.web_request(Handler(WebRequest(path), status))

    async def left(self, flows: list[http.HTTPFlow]) -> list[http.HTTPFlow]:
        """Those of `flows` that stay, once the list has its length."""
        async with asyncio.timeout(10):
            while self.view.store_count() > 2:  # noqa: ASYNC110 - a view has no such event
                await asyncio.sleep(0.01)
        return [flow for flow in flows if self.view.get_by_id(flow.id) is not None]


@pytest.fixture
async def context() -> AsyncIterator[None]:
    with taddons.context():
        yield


@pytest.mark.usefixtures("context")
async def test_the_oldest_leave_first() -> None:
    listing = Listing(web=True)
    flows = [listing.flow() for _ in range(5)]
    assert await listing.left(flows) == flows[-2:]


@pytest.mark.usefixtures("context")
async def test_marked_by_hand_stays_but_our_own_marker_does_not_count() -> None:
    listing = Listing(web=True)
    by_hand, ours = listing.flow(marked=":star:"), listing.flow(marked=story.REFUSED)
    flows = [by_hand, ours, *(listing.flow() for _ in range(3))]
    assert await listing.left(flows) == [by_hand, flows[-1]]


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("how", ["live", "intercepted", "waiting for its replay"])
async def test_open_flows_stay_until_they_have_ended(how: str) -> None:
    listing = Listing(web=True)
    open_ = listing.flow(live=how == "live", resp=how != "waiting for its replay")
    if how == "intercepted":
        open_.intercept()
    flows = [open_, *(listing.flow() for _ in range(3))]
    assert await listing.left(flows) == [open_, flows[-1]]


@pytest.mark.usefixtures("context")
async def test_what_was_open_leaves_once_it_has_ended() -> None:
    listing = Listing(web=True)
    flows = [listing.flow(live=True) for _ in range(4)]
    for flow in flows:
        flow.live = False
    assert await listing.left(flows) == flows[-2:]


@pytest.mark.usefixtures("context")
async def test_what_the_browser_shows_is_selected() -> None:
    listing = Listing(web=True)
    seen = listing.flow()
    listing.look_at(seen)
    flows = [seen, *(listing.flow() for _ in range(3))]
    assert listing.view.focus.flow is seen
    assert await listing.left(flows) == [seen, flows[-1]]


@pytest.mark.usefixtures("context")
async def test_in_the_console_the_focus_is_selected() -> None:
    listing = Listing(web=False)
    flows = [listing.flow() for _ in range(4)]
    assert listing.view.focus.flow is flows[0]
    assert await listing.left(flows) == [flows[0], flows[-1]]


@pytest.mark.usefixtures("context")
async def test_a_page_that_was_not_answered_selects_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listing = Listing(web=True)
    first, second = listing.flow(), listing.flow()
    listing.look_at(second, 404)
    assert listing.view.focus.flow is first
    assert f"404 /flows/{second.id}" in caplog.text


@pytest.mark.usefixtures("context")
async def test_flows_that_others_have_removed_are_forgotten() -> None:
    listing = Listing(web=True)
    flows = [listing.flow() for _ in range(4)]
    listing.view.clear()
    flows += [listing.flow() for _ in range(3)]
    assert await listing.left(flows) == flows[-2:]

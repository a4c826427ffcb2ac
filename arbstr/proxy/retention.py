"""How many flows stay in the list of mitmweb and the console, and which never leave it.

mitmproxy keeps every flow for ever. Here those that arbstr has dealt with leave the list beyond
``arbstr_keep_flows``, oldest first, but none that is open, selected, or marked by a person.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Protocol

from mitmproxy import flow as mflow
from mitmproxy.addons.view import View

from arbstr.proxy import story

_PRUNE_S = 0.25
"""Flows are counted this long after one has ended: by then its answer has gone down."""
_LOOKED_AT = 20
_CONTENT = re.compile(r"/flows/([0-9a-f-]+)/(?:request|response)/content")
_access = logging.getLogger("tornado.access")


class WebRequest(Protocol):
    """What tornado's ``log_function`` setting is called with, as far as it is looked at."""

    @property
    def path(self) -> str:
        """The path without its query."""
        ...


class WebHandler(Protocol):
    """The same."""

    @property
    def request(self) -> WebRequest:
        """What was asked for."""
        ...

    def get_status(self) -> int:
        """What was answered."""
        ...


class Retention:
    """Keeps the list short.

    `keep`: how many flows may stay. `web`: whether the list is mitmweb's, where the browser alone
    knows what is selected: there a flow counts as selected while it is among the last few whose
    content was asked for.
    """

    def __init__(self, view: View, keep: Callable[[], int], *, web: bool) -> None:
        self._view = view
        self._keep = keep
        self._web = web
        self._order: dict[str, None] = {}
        self._looked_at: deque[str] = deque(maxlen=_LOOKED_AT)
        self._timer: asyncio.TimerHandle | None = None

    def ended(self, flow: mflow.Flow) -> None:
        """A flow of ours has its answer, or is about to."""
        self._order[flow.id] = None
        self._count()

    def web_request(self, handler: WebHandler) -> None:
        """For tornado's ``log_function``: mitmweb has answered its browser.

        Who looks at a flow has selected it, so ``@focus`` means that flow in mitmweb's command bar.
        """
        status = handler.get_status()
        if status >= 400:  # as tornado's own log function, but without the query: it has the token
            _access.warning("%s %s", status, handler.request.path)
        elif (found := _CONTENT.match(handler.request.path)) is not None:
            flow = self._view.get_by_id(found[1])
            if flow is None:
                return
            if flow.id in self._looked_at:
                self._looked_at.remove(flow.id)
            self._looked_at.append(flow.id)
            if flow in self._view:
                self._view.focus.flow = flow

    def _count(self) -> None:
        if self._timer is None and len(self._order) > self._keep():
            self._timer = asyncio.get_running_loop().call_later(_PRUNE_S, self._prune)

    def _prune(self) -> None:
        self._timer = None
        excess = len(self._order) - self._keep()
        waits = False
        for flow_id in list(self._order):
            if excess <= 0:
                return
            flow = self._view.get_by_id(flow_id)
            if flow is not None and self._stays(flow):
                waits = waits or flow.live
                continue
            del self._order[flow_id]
            excess -= 1
            if flow is not None:
                self._view.remove([flow])
        if waits:
            self._count()

    def _stays(self, flow: mflow.Flow) -> bool:
        """Whether it is open, selected, or marked by hand."""
        if flow.live or flow.intercepted or not _is_over(flow):
            return True
        if self._web and flow.id in self._looked_at:
            return True
        if not self._web and flow is self._view.focus.flow:
            return True
        told = story.read(flow)
        given = story.REFUSED if told is None else told.marker
        return flow.marked not in ("", given)


def _is_over(flow: mflow.Flow) -> bool:
    """A flow that waits for its replay has neither an answer nor an error."""
    return bool(flow.error) or bool(getattr(flow, "response", None))

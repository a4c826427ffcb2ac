"""The views that mitmproxy offers beside its own: ``arbstr``, ``LLM answer``, ``LLM request``.

mitmproxy asks each view how well it fits a body (`render_priority`); its own JSON view says 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mitmproxy import http
from mitmproxy.contentviews import Contentview, Metadata, SyntaxHighlight
from mitmproxy.flow import Flow

from arbstr.core.dialects import CHAT, Dialect, by_path
from arbstr.core.dialects.messages import MESSAGES
from arbstr.core.dialects.plain import COMPLETIONS
from arbstr.core.dialects.responses import RESPONSES
from arbstr.proxy.story import read
from arbstr.proxy.views_receipt import WIDTH, receipt
from arbstr.proxy.views_text import answer_text, request_text

type Mask = Callable[[str, Flow], str]

_SPOKEN = (CHAT, MESSAGES, RESPONSES, COMPLETIONS)
"""Dialects whose bodies are conversations."""
_CHOSEN = 2.0
_OFFERED = 0.0
_NEVER = -1.0
_PART = re.compile(rf".{{1,{WIDTH}}}(?:\s+|$)|.{{{WIDTH}}}")
"""As much of a line as fits, up to a blank if there is one."""


class ReceiptView(Contentview):
    """What arbstr did for a request, why, and what it cost."""

    @property
    def name(self) -> str:
        """In mitmproxy's list of views."""
        return "arbstr"

    @property
    def syntax_highlight(self) -> SyntaxHighlight:
        """Plain text."""
        return "none"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """The receipt of the flow that the body belongs to. Raises ValueError without one."""
        del data
        story = None if metadata.flow is None else read(metadata.flow)
        if story is None:
            raise ValueError("arbstr has not routed this request")
        return _laid_out(receipt(story))

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Never chosen by itself."""
        del data
        return _NEVER if metadata.flow is None or read(metadata.flow) is None else _OFFERED


class AnswerView(Contentview):
    """Text, reasoning and tool calls of an answer, put together from its events."""

    def __init__(self, mask: Mask) -> None:
        """`mask`: hides secrets that only show once events are put together."""
        self._mask = mask

    @property
    def name(self) -> str:
        """In mitmproxy's list of views."""
        return "LLM answer"

    @property
    def syntax_highlight(self) -> SyntaxHighlight:
        """Plain text."""
        return "none"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """The answer as it was meant to be read. Raises ValueError where it is none."""
        dialect = _dialect(metadata)
        if dialect is None or metadata.flow is None:
            raise ValueError("this is no answer of a language model")
        streamed = metadata.content_type == "text/event-stream"
        story = read(metadata.flow)
        row = None if story is None else story.row
        text = answer_text(dialect, data, streamed=streamed, row=row)
        return _laid_out(self._mask(text, metadata.flow))

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Chosen for good answers. An error reads best as the JSON that it is."""
        message = metadata.http_message
        if not data or not isinstance(message, http.Response) or message.status_code >= 300:
            return _NEVER
        if metadata.content_type not in ("application/json", "text/event-stream"):
            return _NEVER
        return _NEVER if _dialect(metadata) is None else _CHOSEN


class RequestView(Contentview):
    """The conversation that a request is: roles, texts, tools by name, images by size."""

    def __init__(self, mask: Mask) -> None:
        """`mask`: as in `AnswerView`; JSON may spell a secret with escapes."""
        self._mask = mask

    @property
    def name(self) -> str:
        """In mitmproxy's list of views."""
        return "LLM request"

    @property
    def syntax_highlight(self) -> SyntaxHighlight:
        """Plain text."""
        return "none"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """The conversation. Raises ValueError for a body that is none."""
        text = request_text(data)
        return _laid_out(text if metadata.flow is None else self._mask(text, metadata.flow))

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Chosen for the bodies of POSTs where a language model answers."""
        message = metadata.http_message
        if not data or not isinstance(message, http.Request) or message.method != "POST":
            return _NEVER
        return _NEVER if _dialect(metadata) is None else _CHOSEN


def _laid_out(text: str) -> str:
    """`text` as mitmweb can show it: it wraps no line, and gives an empty one no height."""
    lines: list[str] = []
    for line in text.rstrip().split("\n"):
        lines += (part.rstrip() or " " for part in _PART.findall(line)) if line else (" ",)
    return "\n".join(lines)


def _dialect(metadata: Metadata) -> Dialect | None:
    """The dialect spoken at the flow's path; a provider's own prefix before it does not matter."""
    flow = metadata.flow
    if not isinstance(flow, http.HTTPFlow):
        return None
    path = flow.request.path.partition("?")[0]
    prefix, slash, rest = path.rpartition("/v1/")
    found = by_path(f"/v1/{rest}" if slash and prefix else path)
    return found if found in _SPOKEN else None

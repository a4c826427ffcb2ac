"""mitmweb's own page, made to show what arbstr has to say at a glance.

Its comment column is off by default and 150 pixels wide: room for half a model's name. Here the
column is on (unless the user has chosen columns) and gets its share of the list.
"""

from __future__ import annotations

from mitmproxy import ctx
from tornado.httputil import HTTPHeaders
from tornado.web import Application, OutputTransform

_COLUMNS = ("path", "status", "comment", "size", "time")
_STYLE = b"<style>.flow-table .col-comment{width:50%;text-align:left!important}</style>"
_PLACE = b"</head>"


class _Styled(OutputTransform):
    """Adds our rule to the page; it comes last there, so it wins."""

    def transform_first_chunk(
        self,
        status_code: int,
        headers: HTTPHeaders,
        chunk: bytes,
        finishing: bool,  # noqa: FBT001 - tornado's signature
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Change a whole HTML page; leave everything else alone."""
        if finishing and headers.get("content-type", "").startswith("text/html"):
            chunk = chunk.replace(_PLACE, _STYLE + _PLACE, 1)
            if "content-length" in headers:
                headers["content-length"] = str(len(chunk))
        return status_code, headers, chunk


def show_comments(app: Application) -> None:
    """Make the comments of flows a column that can be read."""
    if not ctx.options.has_changed("web_columns"):
        ctx.options.update(web_columns=list(_COLUMNS))
    app.transforms.insert(0, _Styled)  # before the one that compresses

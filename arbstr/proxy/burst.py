"""What comes or goes in one go: several events of one stream as one.

A small request, or a small answer, is in one piece on the wire, and yet its head, its body and its
end go through all layers one by one. A `Burst` goes once. Only ours know it: what is for any other
layer is taken apart before (`pool.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mitmproxy.proxy.layers.http._events import HttpEvent


@dataclass
class Burst(HttpEvent):
    """`events`: in their order, all of the stream `stream_id`."""

    events: Sequence[HttpEvent]

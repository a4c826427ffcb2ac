"""What the dialects share: JSON as the node spells it, and events."""

import json
from collections.abc import Mapping


def dumps(value: object) -> bytes:
    """JSON with a space after comma and colon, as Python writes it and the node sends it."""
    return json.dumps(value).encode()


def event(data: Mapping[str, object], name: str | None = None) -> bytes:
    """A server-sent event, with its `event:` line where the node has one."""
    head = b"" if name is None else b"event: %s\n" % name.encode()
    return b"%sdata: %s\n\n" % (head, dumps(data))

"""Asking a dialect what it reads in a body, an answer, a stream."""

from __future__ import annotations

import json

from arbstr.core.ask import Ask
from arbstr.core.body import read_members
from arbstr.core.dialects import Dialect
from arbstr.core.dialects.base import Facts, Mark, Reader
from arbstr.core.sse import Splitter


def ask(dialect: Dialect, body: object) -> Ask:
    """What a request body asks for."""
    return dialect.read_ask(read_members(json.dumps(body).encode()))


def edited(
    dialect: Dialect, body: object, model: str, limit: int | None = None
) -> dict[str, object]:
    """The body as it goes up to `model`."""
    members = read_members(json.dumps(body).encode())
    changes = dialect.edits(members, dialect.read_ask(members), model, limit)
    found: dict[str, object] = json.loads(members.edited(changes))
    return found


def facts(dialect: Dialect, answer: object) -> Facts:
    """What a whole plain answer says; a text goes in as it is."""
    return dialect.read_body(
        answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    )


def reader(dialect: Dialect, body: object) -> Reader:
    """A reader for the stream that answers this request."""
    return dialect.reader(ask(dialect, body))


def marks(found: Reader, raw: bytes) -> list[Mark]:
    """What each event of a stream is."""
    return [found.read(event) for event in Splitter(1 << 20).feed(raw)]

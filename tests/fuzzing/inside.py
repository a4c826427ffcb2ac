"""Fuzzing without sockets: readers of what comes from outside, given anything.

Each check takes what hypothesis made and raises AssertionError, or anything else, where it fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from arbstr.config import Config, ConfigError, load
from arbstr.core.ask import Ask
from arbstr.core.body import BadBodyError, Members, read_members
from arbstr.core.dialects import DIALECTS
from arbstr.core.listing import ListingError, read_listing
from arbstr.core.sse import Splitter, TooLargeError
from arbstr.core.tryout import Limits, Tryout
from tests.fuzzing import shapes

LIMITS = Limits(event_bytes=2_000, answer_bytes=6_000)


def check_body(data: st.DataObject) -> None:
    """A body is read, or refused with words; an edit changes its member alone."""
    raw = data.draw(shapes.BODIES)
    members = _members(raw)
    if members is None:
        return
    edited = members.edited({"model": b'"other"', "added": b"[1]"})
    again = json.loads(edited)
    assert again.pop("added") == [1]
    assert again.pop("model") == "other"
    before = json.loads(raw.decode("utf-8-sig"))
    assert repr(again) == repr({k: v for k, v in before.items() if k not in ("added", "model")})
    for dialect in DIALECTS:
        try:
            ask = dialect.read_ask(members)
        except BadBodyError as error:
            str(error).encode()
            continue
        for value in dialect.edits(members, ask, "other", 10).values():
            json.loads(value)


def check_events(data: st.DataObject) -> None:
    """However a stream is cut into pieces, the same events come out, with all of its bytes."""
    raw = data.draw(shapes.STREAMS)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    whole, cut = Splitter(1 << 20), Splitter(1 << 20)
    events = whole.feed(raw)
    cut_events = [event for piece in pieces for event in cut.feed(piece)]
    assert cut_events == events
    assert whole.pending_bytes == cut.pending_bytes
    assert b"".join(event.raw for event in events) == raw[: len(raw) - whole.pending_bytes]
    assert whole.finish() == cut.finish()
    small = Splitter(64)
    try:
        for piece in pieces:
            assert all(len(event.raw) <= 64 for event in small.feed(piece))
    except TooLargeError:
        assert len(raw) > 64


def check_tryout(data: st.DataObject) -> None:
    """Any response becomes an answer, a failure or a broken answer, and never two of them."""
    dialect = data.draw(st.sampled_from(DIALECTS))
    streamed = data.draw(st.booleans())
    tryout = Tryout(dialect, Ask(dialect.name, "m", stream=streamed), LIMITS)
    fields = data.draw(shapes.HEADERS)
    if data.draw(st.booleans()):
        kind = b"text/event-stream" if streamed else b"application/json"
        fields = ((b"content-type", kind), *fields)
    status = data.draw(
        st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 402, 429, 500, 999])
    )
    tryout.head(status, fields)
    raw = data.draw(shapes.STREAMS if streamed else shapes.PLAIN)
    out = b""
    for start in range(0, len(raw), step := data.draw(st.integers(1, len(raw) or 1))):
        tryout.data(raw[start : start + step])
        if tryout.token and not tryout.failure:
            out += tryout.take()
        if tryout.decided and not tryout.waits_for_cost:
            break
    else:
        tryout.end(now_ms=0)
        assert tryout.decided
    assert (tryout.failure is not None) + (tryout.broken is not None) + tryout.ended <= 1
    assert tryout.token or tryout.failure is not None or not tryout.decided
    assert tryout.failure is None or not out
    if tryout.bill is not None and tryout.bill.total_msats is not None:
        assert tryout.bill.total_msats >= 0
    str(tryout.failure).encode()
    if tryout.shape == "stream" and tryout.failure is None:
        assert raw.startswith(out) or tryout.ended or tryout.broken is not None


def check_listing(data: st.DataObject) -> None:
    """A model list is believed, or refused with words; nothing in it costs less than nothing."""
    raw = data.draw(shapes.LISTINGS)
    try:
        models = read_listing(raw, provider="p", now_ms=1)
    except ListingError as error:
        str(error).encode()
        return
    assert models
    for model in models:
        assert model.id.isprintable()
        assert model.price is not None
        assert 0 <= model.price.input < 10**9
        assert 0 <= model.price.output < 10**9
        msgspec.json.encode(model.id)


def check_config(data: st.DataObject, folder: Path) -> None:
    """A config is loaded, or every problem is a printable line that names the file."""
    path = folder / "config.toml"
    path.write_bytes(data.draw(shapes.CONFIGS))
    problems: tuple[str, ...] = ()
    try:
        loaded = load(path, {"X": "y"})
    except ConfigError as error:
        problems = error.problems or ("",)
    else:
        assert isinstance(loaded, Config)
    assert all(line.isprintable() and line.startswith(str(path)) for line in problems)


def _members(raw: bytes) -> Members | None:
    """The members of a body, None where it is refused."""
    try:
        return read_members(raw)
    except BadBodyError as error:
        refusal = error
    assert 400 <= refusal.status < 500
    assert str(refusal).encode()
    return None


CHECKS: Mapping[str, Callable[[st.DataObject], None]] = {
    "request bodies": check_body,
    "events": check_events,
    "responses": check_tryout,
    "model lists": check_listing,
}

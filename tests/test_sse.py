"""Events are cut where they end, however the bytes come, and are otherwise left as they came."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbstr.core.sse import Event, Splitter, TooLargeError, comment, encode

LIMIT = 1 << 20


def split(*pieces: bytes, limit: int = LIMIT) -> list[Event]:
    splitter = Splitter(limit)
    events = [event for piece in pieces for event in splitter.feed(piece)]
    last = splitter.finish()
    return events if last is None else [*events, last]


@pytest.mark.parametrize(
    ("raw", "data", "name"),
    [
        (b"data: {}\n\n", b"{}", b""),
        (b"data:{}\n\n", b"{}", b""),
        (b"data:  two blanks\n\n", b" two blanks", b""),
        (b"data: a\ndata: b\n\n", b"a\nb", b""),
        (b"data\n\n", b"", b""),
        (b"event: cost\ndata: {}\n\n", b"{}", b"cost"),
        (b"data: {}\nevent: late\n\n", b"{}", b"late"),
        (b"event: ping\n\n", None, b"ping"),
        (b": a comment\n\n", None, b""),
        (b"id: 7\nretry: 10\ndata: x\n\n", b"x", b""),
        (b"data: a\r\n\r\n", b"a", b""),
        (b"data: a\n\r\n", b"a", b""),
        (b"data: a: b\n\n", b"a: b", b""),
    ],
)
def test_fields_are_read_as_the_standard_says(raw: bytes, data: bytes | None, name: bytes) -> None:
    (event,) = split(raw)
    assert (event.raw, event.data, event.name) == (raw, data, name)


def test_a_byte_order_mark_is_kept_but_not_read() -> None:
    first, second = split(b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbfb\n\n")
    assert (first.raw, first.data) == (b"\xef\xbb\xbfdata: a\n\n", b"a")
    assert second.data == b"\xef\xbb\xbfb"


def test_a_carriage_return_at_the_end_waits_for_its_line_feed() -> None:
    splitter = Splitter(LIMIT)
    assert splitter.feed(b"data: a\r\n\r") == []
    (event,) = splitter.feed(b"\ndata: b")
    assert event.raw == b"data: a\r\n\r\n"
    assert splitter.pending_bytes == len(b"data: b")


def test_carriage_returns_alone_end_lines_too() -> None:
    first, second = split(b"data: a\r\rdata: b\r\r")
    assert (first.raw, first.data) == (b"data: a\r\r", b"a")
    assert second.data == b"b"


def test_an_event_without_its_blank_line_is_handed_out_at_the_end() -> None:
    splitter = Splitter(LIMIT)
    assert splitter.feed(b"data: [DONE]\n") == []
    last = splitter.finish()
    assert last is not None
    assert (last.raw, last.data) == (b"data: [DONE]\n\n", b"[DONE]")
    assert splitter.finish() is None


def test_blank_lines_at_the_end_are_no_event() -> None:
    splitter = Splitter(LIMIT)
    splitter.feed(b"data: a\n\n\n")
    assert splitter.finish() is None


@pytest.mark.parametrize(
    "pieces",
    [
        (b"data: " + b"x" * 20 + b"\n\n",),
        (b"data: " + b"x" * 20,),
        (b"data: a\n\n", b"data: " + b"x" * 20 + b"\n\n"),
        (b"data: 123456", b"789012345"),
    ],
)
def test_an_event_over_the_limit_is_refused_before_it_is_whole(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(TooLargeError, match="16 bytes"):
        split(*pieces, limit=16)


def test_many_small_events_are_no_large_one() -> None:
    assert len(split(b"data: 1\n\n" * 1000, limit=16)) == 1000


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8)
_LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
_FIELD = st.sampled_from(["data: ", "data:", "event: ", ": ", "id: "])


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    events = []
    for _ in range(draw(st.integers(0, 5))):
        end = draw(_LINE_ENDS)
        lines = draw(st.lists(st.tuples(_FIELD, _TEXT), min_size=1, max_size=3))
        events.append("".join(f + t + end for f, t in lines) + end)
    raw = [event.encode() for event in events]
    size = sum(map(len, raw))
    return raw, sorted(draw(st.lists(st.integers(0, size), max_size=6)))


@given(streams())
def test_any_cut_of_the_bytes_gives_the_same_events(found: tuple[list[bytes], list[int]]) -> None:
    events, cuts = found
    whole = b"".join(events)
    edges = [0, *cuts, len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(edges)]
    got = split(*pieces)
    # A CR at the very end could be half of a CR LF, so its event is ended by the stream's end.
    assert b"".join(event.raw for event in got).rstrip(b"\r\n") == whole.rstrip(b"\r\n")
    assert [(e.data, e.name) for e in got] == [(e.data, e.name) for e in split(*events)]


@given(st.dictionaries(st.text(), st.text()))
def test_what_we_encode_reads_back(value: dict[str, str]) -> None:
    data = json.dumps(value).encode()
    (event,) = split(encode(data, b"error"))
    assert (event.data, event.name) == (data, b"error")


@given(st.text())
def test_a_comment_stays_a_comment(text: str) -> None:
    assert [event.data for event in split(comment(text))] == [None]

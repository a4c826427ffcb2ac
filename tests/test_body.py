"""A body is read once and changed in place; what two readers could read twice is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbstr.core.body import BadBodyError, read_members


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"   ", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"a": 1', "invalid_json"),
        (b'{"a": 1} x', "invalid_json"),
        (b'{"a": 01}', "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b"{'a': 1}", "invalid_json"),
        (b'{"a": "\xff"}', "invalid_json"),
        (b'\xef\xbb\xbf{"a": 1}', "invalid_json"),
        (b'{"a": 1e999}', "invalid_json"),
        (b"[]", "invalid_body"),
        (b'"model"', "invalid_body"),
        (b"null", "invalid_body"),
        (b"7", "invalid_body"),
        (b'{"model": "a", "model": "b"}', "repeated_key"),
        (b'{"model": "a", "model": "a"}', "repeated_key"),
        (b'{"model": "a", "x": 1, "m\\u006fdel": "b"}', "repeated_key"),
        (b'{"a": 1, "b": {"a": 1}, "a": 1}', "repeated_key"),
        (b'{"": 1, "": 2}', "repeated_key"),
        (b'{"a": 12, "a": 1}', "repeated_key"),
        (b'{"a": 1, "a": 1, "b": 1}', "repeated_key"),
    ],
)
def test_a_body_that_is_no_plain_object_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(BadBodyError) as caught:
        read_members(body)
    assert (caught.value.code, caught.value.status) == (code, 400)


def test_it_is_said_which_key_stands_twice() -> None:
    with pytest.raises(BadBodyError, match="the key 'a' stands twice"):
        read_members(b'{"a": 1, "a": 1, "b": 1}')
    with pytest.raises(BadBodyError, match="a key stands twice"):
        read_members(b'{"a": "%b", "a": 1}' % (b"x" * (1 << 20)))


def test_a_key_may_stand_again_further_in() -> None:
    members = read_members(b'{"a": {"a": 1, "a": 2}, "b": [{"a": 1}]}')
    assert members.raw("a") == b'{"a": 1, "a": 2}'


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_is_bounded(opening: bytes) -> None:
    close = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> bytes:
        return b'{"m": ' + opening * (depth - 1) + b"1" + close * (depth - 1) + b"}"

    assert read_members(nested(5), max_depth=5).raw("m")
    with pytest.raises(BadBodyError) as caught:
        read_members(nested(6), max_depth=5)
    assert caught.value.code == "body_too_deep"
    with pytest.raises(BadBodyError):
        read_members(nested(100_000))


def test_brackets_inside_of_texts_are_no_depth() -> None:
    text = json.dumps("[{" * 500 + '\\"' + "]")
    assert read_members(b'{"a": %b}' % text.encode(), max_depth=3).raw("a") == text.encode()


def test_values_stay_as_they_came() -> None:
    body = b'{ "model" : "a" , "x":1.0e2,"y" : [ 1 ,2 ],\n"z":"\\u00e9" }'
    members = read_members(body)
    assert members.raw("x") == b"1.0e2"
    assert members.raw("y") == b"[ 1 ,2 ]"
    assert members.value("z") == "é"
    assert members.raw("none") is None
    assert members.value("none") is None
    assert "y" in members
    assert members.edited({}) == body
    changed = members.edited({"model": b'"longer"', "new": b"true"})
    assert changed == (
        b'{"new":true, "model" : "longer" , "x":1.0e2,"y" : [ 1 ,2 ],\n"z":"\\u00e9" }'
    )


def test_a_member_goes_into_an_empty_object() -> None:
    assert read_members(b" { } ").edited({"model": b'"m"'}) == b' {"model":"m" } '


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), _JSON, max_size=6),
    st.text(),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
def test_an_edit_changes_its_member_and_no_other_byte(
    body: dict[str, object], name: str, indent: int | None, ascii_only: bool
) -> None:
    raw = json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    if b"?" in raw and not ascii_only:
        return  # a lone surrogate is no UTF-8
    members = read_members(raw)
    assert {key: members.value(key) for key in body} == body
    edited = members.edited({name: b'{"new": 1}'})
    assert json.loads(edited) == {**body, name: {"new": 1}}
    if name in body:
        old = members.raw(name)
        assert old is not None
        assert len(edited) == len(raw) - len(old) + len(b'{"new": 1}')


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    try:
        members = read_members(body)
    except BadBodyError:
        return
    assert isinstance(json.loads(body), dict)
    assert members.edited({}) == body


@given(st.text(alphabet='{}[]",:\\ a1', max_size=40))
def test_no_punctuation_breaks_the_reader(body: str) -> None:
    try:
        members = read_members(body.encode())
    except BadBodyError:
        return
    pairs = json.loads(body, object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == len(pairs)
    assert members.edited({}) == body.encode()

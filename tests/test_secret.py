"""A key shows nowhere but through `reveal`."""

from __future__ import annotations

import copy
import json
import pickle
import traceback

import msgspec
import pytest

from arbstr.core.secret import Secret

KEY = "sk-abcdefghijklmnop"


def test_reveal_gives_the_key() -> None:
    assert Secret(KEY).reveal() == KEY


@pytest.mark.parametrize(
    "printed",
    [str(Secret(KEY)), repr(Secret(KEY)), f"{Secret(KEY)}", f"{Secret(KEY)!r}", f"{[Secret(KEY)]}"],
)
def test_prints_its_first_four_characters_only(printed: str) -> None:
    assert printed.strip("[]") == "sk-a…***"


def test_format_keeps_the_width_and_hides_the_key() -> None:
    assert f"{Secret(KEY):>10}" == "  sk-a…***"


@pytest.mark.parametrize("key", ["", "a", "sk-1234", "elevenchars"])
def test_a_short_key_shows_nothing(key: str) -> None:
    assert repr(Secret(key)) == "…***"


def test_equal_keys_are_equal_and_hash_alike() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret(KEY + "x")


def test_is_never_equal_to_plain_text() -> None:
    assert Secret(KEY) != KEY


def test_compares_with_any_text_a_header_can_hold() -> None:
    assert Secret(KEY) != Secret("ü\udcff")


def test_only_an_empty_one_is_false() -> None:
    assert not Secret("")
    assert Secret("a")


def test_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Secret(KEY))
    with pytest.raises(TypeError, match="no state"):
        Secret(KEY).__getstate__()


def test_json_refuses_it() -> None:
    with pytest.raises(TypeError):
        json.dumps({"key": Secret(KEY)})
    with pytest.raises(TypeError):
        msgspec.json.encode({"key": Secret(KEY)})


def test_copies_are_the_same_object() -> None:
    secret = Secret(KEY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"key": secret})["key"] is secret


def test_a_traceback_with_locals_does_not_show_it() -> None:
    def fail(key: Secret) -> None:
        raise ValueError(key)

    try:
        fail(Secret(KEY))
    except ValueError as error:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        text = "".join(lines)
    assert "sk-a…***" in text
    assert KEY not in text

"""The veil: keys are masked in what goes down, however it is cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arbstr.core.secret import Secret
from arbstr.core.veil import NO_KEYS, Keys, Veil, redacted
from tests.attack import OUR_KEY, TOKEN

MASK = "sk-o…***"
KEYS = Keys([Secret(OUR_KEY), Secret(TOKEN), Secret("short"), Secret("")])
SECRETS = (OUR_KEY.encode(), TOKEN.encode())


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*SECRETS, OUR_KEY[:9].encode(), b"sk-", b"token-of", b"short"]),
            st.binary(max_size=9),
        ),
        max_size=9,
    ),
    st.data(),
)
def test_a_veiled_body_is_the_same_however_it_is_cut(
    parts: list[bytes], data: st.DataObject
) -> None:
    body = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    veil = Veil(KEYS)
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    shown = b"".join([*map(veil.feed, pieces), veil.flush()])
    assert shown == Veil(KEYS).mask(body)
    assert not any(secret in shown for secret in SECRETS)


def test_a_veil_holds_back_only_what_may_be_the_start_of_a_key() -> None:
    veil = Veil(KEYS)
    assert veil.feed(b'data: {"a":"sk-"}\n\n') == b'data: {"a":"sk-"}\n\n'
    assert veil.feed(b"a sk-ou") == b"a "
    assert veil.feed(b"nce") == b"sk-ounce"
    assert veil.flush() == b""


def test_short_keys_are_masked_in_our_texts_and_left_in_bodies() -> None:
    """A body may say ``ollama`` by chance."""
    assert Veil(KEYS).mask(b"short") == b"short"
    assert KEYS.redact("it was short") == "it was …***"


def test_without_keys_nothing_is_masked_or_held() -> None:
    assert Veil(NO_KEYS).feed(b"sk-") == b"sk-"
    assert NO_KEYS.redact("sk-") == "sk-"


def test_redacting_reaches_every_text_of_an_object() -> None:
    value = {"a": [OUR_KEY, {OUR_KEY: 1}], "b": None, "c": 1.5}
    assert redacted(value, KEYS.redact) == {"a": [MASK, {MASK: 1}], "b": None, "c": 1.5}

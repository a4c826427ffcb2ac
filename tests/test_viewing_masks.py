"""Masks: what is hidden, what is not, and that the real request can be had back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from arbstr.proxy.masks import Hidden, Masks, is_masked

KEY = "sk-0123456789abcdef0123"
OURS = "our-own-key-of-any-shape"
CASHU = "cashuA" + "Zm9v" * 8
MASKS = Masks([OURS])


def request(path: str = "/v1/x", body: bytes = b"", **headers: str) -> http.Request:
    named = [(n.replace("_", "-").encode(), value.encode()) for n, value in headers.items()]
    return http.Request.make("POST", f"http://node.example{path}", body, named)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", f"Bearer {KEY}", "Bearer sk-0…***"),
        ("authorization", "Basic dXNlcjpwYXNzd29yZA==", "Basic dXNl…***"),
        ("x-api-key", KEY, "sk-0…***"),
        ("X-Cashu", CASHU, "cash…***"),
        ("cookie", "a=1; b=2", "…***"),
        ("set-cookie", "sid=0123456789; Path=/", "sid=…***"),
        ("x-arbstr-token", "short", "…***"),
        ("openai-api-key", KEY, "sk-0…***"),
        ("x-custom", f"see {KEY}", "see sk-0…***"),
        ("x-custom", f"see {OURS}!", "see our-…***!"),
        ("x-ratelimit-remaining-tokens", "12345678901234", "12345678901234"),
        ("user-agent", "OpenAI/Python 3.54.0", "OpenAI/Python 3.54.0"),
    ],
)
def test_headers(name: str, value: str, shown: str) -> None:
    ((_, found),) = MASKS.fields(((name.encode(), value.encode()),))
    assert found.decode() == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Incorrect API key provided: {KEY}.", "Incorrect API key provided: sk-0…***."),
        (f"token {CASHU} is spent", "token cash…*** is spent"),
        (f"{OURS} and {OURS}", "our-…*** and our-…***"),
        ("task-force-and-risk-assessment-of-things", "task-force-and-risk-assessment-of-things"),
        ("sk-short is no key", "sk-short is no key"),
        ("cashuABC", "cashuABC"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert MASKS.text(text) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (
            f"/v1/wallet/create?initial_balance_token={CASHU}&x=1",
            "/v1/wallet/create?initial_balance_token=cash***&x=1",
        ),
        ("/v1/x?api_key=abcdefghijklmnop", "/v1/x?api_key=abcd***"),
        ("/v1/stats?group_by=model", "/v1/stats?group_by=model"),
    ],
)
def test_paths_stay_ascii(path: str, shown: str) -> None:
    assert MASKS.path(path) == shown
    assert shown.isascii()


def test_members_of_wallet_bodies() -> None:
    body = b'{"api_key": "anything-at-all", "balance": 5, "max_tokens": 100}'
    shown = MASKS.body(body, members=True).decode()
    assert shown == '{"api_key": "anyt…***", "balance": 5, "max_tokens": 100}'
    assert MASKS.body(body) == body


def test_what_the_client_sent_is_hidden_where_it_is_echoed() -> None:
    fields = ((b"authorization", b"Bearer some-key-of-no-shape"), (b"cookie", b"s=my-session-id"))
    masks = MASKS.with_client(fields)
    assert masks.text("no such key: some-key-of-no-shape") == "no such key: some…***"
    assert "my-session-id" not in masks.text("cookie my-session-id is stale")


def test_short_values_are_not_looked_for() -> None:
    masks = MASKS.with_client(((b"authorization", b"Bearer any"),))
    assert masks.text("any model") == "any model"


def test_masking_twice_masks_once() -> None:
    fields = ((b"authorization", f"Bearer {KEY}".encode()), (b"cookie", b"a=0123456789abc"))
    once = MASKS.fields(fields)
    assert MASKS.fields(once) == once
    assert all(is_masked(value) for _, value in once)


def test_reveal_masks_nothing() -> None:
    masks = Masks([OURS], reveal=True).with_client(((b"authorization", KEY.encode()),))
    assert masks.text(f"{OURS} {KEY} {CASHU}") == f"{OURS} {KEY} {CASHU}"
    assert masks.fields(((b"cookie", b"x"),)) == ((b"cookie", b"x"),)
    assert masks.path("/?token=0123456789") == "/?token=0123456789"


def hide(shown: http.Request) -> Hidden:
    hidden = Hidden(MASKS.with_client(shown.headers.fields))
    hidden.hide_head(shown)
    hidden.hide_content(shown, members=True)
    return hidden


def test_the_real_request_can_be_had_back() -> None:
    sent = request(f"/v1/x?token={CASHU}", f"key {KEY}".encode(), authorization=f"Bearer {KEY}")
    shown = sent.copy()
    hidden = hide(shown)
    state = repr(shown.get_state())
    assert KEY not in state
    assert CASHU not in state
    real = hidden.real(shown)
    assert real.headers.fields == sent.headers.fields
    assert (real.path, real.raw_content) == (sent.path, sent.raw_content)


def test_what_was_changed_since_stays_changed() -> None:
    shown = request("/v1/x", f"key {KEY}".encode(), authorization=f"Bearer {KEY}")
    hidden = hide(shown)
    shown.headers["x-new"] = "1"
    shown.raw_content = b"new"
    real = hidden.real(shown)
    assert real.headers["authorization"] == f"Bearer {KEY}"
    assert real.headers["x-new"] == "1"
    assert real.raw_content == b"new"
    shown.headers["authorization"] = "Bearer another"
    assert hidden.real(shown).headers["authorization"] == "Bearer another"


def test_without_a_secret_nothing_is_copied() -> None:
    shown = request(body=b"plain")
    assert hide(shown).real(shown) is shown


@given(st.binary(max_size=200), st.booleans())
def test_bytes_without_secrets_pass_unchanged(data: bytes, members: bool) -> None:
    clean = data.replace(b"sk-", b"").replace(b"cashu", b"").replace(b'"', b"")
    assert MASKS.body(clean, members=members) == clean
    assert MASKS.text(clean.decode("utf-8", "surrogateescape")) == clean.decode(
        "utf-8", "surrogateescape"
    )

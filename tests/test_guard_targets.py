"""Request targets: refused ones, and the paths on which our key stays at home."""

from __future__ import annotations

import pytest

from arbstr.core.dialects import DIALECTS, by_path
from arbstr.proxy.target import may_have_our_key, refusal


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v1/models", "/v1/chat/completions?beta=true", "/v1/models/openai%2Fgpt-4o"),
        *("/v1/messages/", "/v1/files/a%20b", "/a.b/..c/c../.d", "/v1/x?u=http://a/../b&c={}|"),
        *("/v1/models/m:free", "/v1/models/(a)@b~c", "/v1/x?a=%", "/v1/%C3%A9", "/v1//images"),
    ],
)
def test_a_path_passes(path: str) -> None:
    assert refusal(path) is None


@pytest.mark.parametrize(
    "path",
    [
        *("", "*", "v1/models", "http://evil.example/", "//evil.example/v1", "evil.example:443"),
        *(
            "/..",
            "/../",
            "/a/..",
            "/a/../b",
            "/a/./b",
            "/.",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a/%2e/b",
        ),
        *(
            "/a/%252e%252e/b",
            "/a/%25252e./b",
            "/a/..%2fb",
            "/a%2f..%2fb",
            "/a/..;/b",
            "/a/..;x=1/b",
        ),
        *("/a\\b", "/a\\..\\b", "/a/..%5cb", "/a/%5c../b", "/a/%20../b", "/a/..%20/b"),
        *("/a b", "/a\tb", "/a\x00b", "/a\x7fb", "/a%00b", "/a%0d%0aX: y", "/a%7f", "/a%250ab"),
        *("/a#b", "/a?b#c", "/a%", "/a%2", "/a%zz", "/é", "/a?\udcff", "/a?b c", "/a?\r\nX: y"),
        "/%" + "25" * 9 + "2e",
    ],
)
def test_a_bad_target_is_refused(path: str) -> None:
    assert refusal(path) is not None


@pytest.mark.parametrize("path", sorted(path for dialect in DIALECTS for path in dialect.paths))
def test_a_priced_path_written_otherwise_is_refused(path: str) -> None:
    """An upstream may read it as the priced path; we would not meter it."""
    assert refusal(path) is None
    assert refusal(f"{path}/") is None
    first = path[1]
    others = (
        *(path.upper(), path.title(), path.replace("/", "//", 2)[1:], f"{path};a=b"),
        *(f"/%{ord(first):02x}{path[2:]}", f"/%25{ord(first):02X}{path[2:]}"),
        *(f"{path}/%20", path.replace("/", "/;x/"), "/" + path[1:].replace("/", "%2f")),
    )
    for other in others:
        assert refusal(other) is not None or by_path(other) is not None, other


# Every path that routstr-core registers beside those for models, in all its versions so far.
BALANCE = (
    *("", "/", "/info", "/create", "/topup", "/refund", "/history", "/donate", "/child-key"),
    *("/child-key/reset", "/lightning/invoice", "/lightning/invoice/abc/status"),
    *("/lightning/recover", "/anything"),
)
MONEY_PATHS = (
    *(f"{root}{path}" for root in ("/v1/balance", "/v1/wallet") for path in BALANCE),
    *(
        f"{root}/lightning{path}"
        for root in ("", "/v1", "/v2")
        for path in ("", "/invoice", "/invoice/abc/status", "/recover")
    ),
    *(
        "/admin",
        "/admin/api/balances",
        "/admin/api/withdraw",
        "/admin/api/settings",
        "/admin/login",
    ),
    *("/v1/admin", "/v1/admin/api/withdraw"),
)
PAGES = (
    *("/", "/index.txt", "/dashboard", "/login", "/balances", "/settings", "/transactions"),
    *("/logs", "/unauthorized", "/providers/x", "/_next/static/x.js", "/docs", "/openapi.json"),
)


def variants(path: str) -> list[str]:
    """The same path as other readers might write it."""
    end = path.rstrip("/").rfind("/") + 1
    code = f"{ord(path[end : end + 1]):02X}"
    found = [
        *(path, f"{path}/", path.upper(), path.title(), path.replace("/", "//")[1:], f"{path};x"),
        *(f"{path[:end]}%{code}{path[end + 1 :]}", f"{path[:end]}%25{code}{path[end + 1 :]}"),
        *(path[0] + path[1:].replace("/", "%2F"), path[0] + path[1:].replace("/", "/%20")),
        *(f"/v1{path}", f"/v1/v1{path}", f"/api{path}", f"/chat{path}", path.removeprefix("/v1")),
        *(f"{path}%20", path.replace("/v1", "/v1/chat/completions/.."), f"/chat/..{path}"),
    ]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("path", MONEY_PATHS)
def test_our_key_is_never_put_where_a_balance_is(path: str) -> None:
    carried = [p for p in variants(path) if refusal(p) is None and may_have_our_key(p)]
    assert carried == []


@pytest.mark.parametrize("path", PAGES)
def test_our_key_is_not_put_on_the_pages_of_a_node(path: str) -> None:
    """`GET /` of an old node told the balance of the key that asked."""
    for other in (path, f"{path}/", path.upper(), path.replace("/", "//")[1:]):
        assert refusal(other) is not None or not may_have_our_key(other), other


@pytest.mark.parametrize(
    "path",
    [
        *(path for dialect in DIALECTS for path in dialect.paths),
        *("/v1/models", "/models", "/v1/models/gpt-4o", "/v1/images/generations", "/v1/rerank"),
        *("/v1/audio/transcriptions", "/audio/speech", "/v1/moderations", "/v1/files"),
        *("/v1/responses/resp_1", "/v1/chat/completions/c-1"),
    ],
)
def test_our_key_goes_where_models_are_asked(path: str) -> None:
    assert may_have_our_key(path)


def test_a_path_that_cannot_be_read_does_not_get_our_key() -> None:
    assert not may_have_our_key("/v1/%" + "25" * 9 + "62alance")

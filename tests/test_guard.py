"""Who may be here at all: the guard, asked about one request at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from mitmproxy import http

from arbstr.config import Server
from arbstr.core.secret import Secret
from arbstr.proxy import guard

APP = "https://app.example"
OPEN = Server()
NAMED = Server(
    allowed_hosts=("arbstr.example", "box"), allowed_origins=(APP, "http://localhost:5173")
)
TOKEN = Server(auth_token=Secret("the-token-of-this-one"), allowed_origins=(APP,))
JSON = ("content-type", "application/json")

type Pairs = Sequence[tuple[str, str]]


def request(
    *pairs: tuple[str, str],
    method: str = "GET",
    path: str = "/v1/models",
    host: str | None = "localhost",
) -> http.Request:
    made = http.Request.make(method, "http://placeholder/", b"", {})
    made.path = path
    fields = [(b"host", host.encode("latin-1"))] if host is not None else []
    fields += [(n.encode(), v.encode("utf-8", "surrogateescape")) for n, v in pairs]
    made.headers = http.Headers(fields)
    made.authority = ""
    return made


def denied(found: guard.Denial | None) -> tuple[int, str] | None:
    return None if found is None else (found.status, found.code)


def check(server: Server, made: http.Request, *, priced: bool = False) -> tuple[int, str] | None:
    return denied(guard.check(made, server, priced=priced))


# --- Host: a rebound name is the attacker's, an address is nobody's -------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST", "localhost.", "LocalHost.:8080"),
        *("127.0.0.1", "127.0.0.1:8080", "127.8.9.1", "[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]"),
        *("192.168.1.7:8080", "8.8.8.8", "[fe80::1%25eth0]:80", "[::ffff:127.0.0.1]", "127.0.0.1:"),
        *("arbstr.example", "arbstr.example:8080", "ARBSTR.Example.", "box:1", "BOX"),
    ],
)
def test_a_host_of_ours_passes(host: str) -> None:
    assert check(NAMED, request(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "EVIL.EXAMPLE", "mitm.it", "mitm.it:80"),
        *("localhost.evil.example", "evil.localhost", "127.0.0.1.evil.example", "127.0.0.1.nip.io"),
        *("arbstr.example.evil.example", "evilarbstr.example", "sub.arbstr.example", "box.evil"),
        *("2130706433", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.0.1..", "localhost.."),
    ],
)
def test_any_other_name_is_421(host: str) -> None:
    assert check(NAMED, request(host=host)) == (421, "wrong_host")


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "localhost:port", "localhost:123456", "localhost localhost", "localhost,evil"),
        *("user@localhost", "localhost/evil", "[::1", "::1", "http://localhost", "[::1]evil"),
        *("local\x00host", "löcalhost", "localhost\t", "localhost:80:80", "[evil]"),
    ],
)
def test_a_malformed_host_is_400(host: str) -> None:
    assert check(NAMED, request(host=host)) == (400, "bad_host")


def test_no_host_or_two_are_400() -> None:
    assert check(OPEN, request(host=None)) == (400, "bad_host")
    assert check(OPEN, request(("host", "localhost"))) == (400, "bad_host")
    assert check(OPEN, request(("Host", "evil.example"))) == (400, "bad_host")


def test_the_address_listened_on_is_a_host_of_ours() -> None:
    server = Server(listen_host="Box.LAN", auth_token=Secret("t" * 16))
    sent = request(("x-arbstr-token", "t" * 16), host="box.lan:8080")
    assert check(server, sent) is None
    assert check(OPEN, request(host="box.lan:8080")) == (421, "wrong_host")


def test_with_http2_the_authority_and_a_host_header_must_agree() -> None:
    made = request(host=None)
    made.http_version = "HTTP/2.0"
    made.authority = "localhost:8443"
    assert check(OPEN, made) is None
    made.headers["host"] = "evil.example"
    assert check(OPEN, made) == (400, "bad_host")
    made.authority = "evil.example"
    assert check(OPEN, made) == (421, "wrong_host")


# --- Origin: no web page but an allowed one -------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "https://evil.example",
            "null",
            "http://localhost:8080",
            "http://127.0.0.1:8080",
            "*",
            "",
        ),
        *("https://app.example.evil.example", "https://app.example:8443", "http://app.example"),
        *("https://app.example/", "https://app.example.", "file://", f"{APP}, {APP}", f" {APP}"),
    ],
)
def test_an_origin_that_is_not_allowed_is_403(origin: str) -> None:
    assert check(NAMED, request(("origin", origin))) == (403, "origin_not_allowed")


def test_an_allowed_origin_passes_in_any_case() -> None:
    assert check(NAMED, request(("origin", APP), ("sec-fetch-site", "cross-site"))) is None
    assert check(NAMED, request(("Origin", "HTTPS://App.Example"))) is None


def test_two_origins_are_403_even_if_both_are_allowed() -> None:
    assert check(NAMED, request(("origin", APP), ("origin", APP))) == (403, "origin_not_allowed")


@pytest.mark.parametrize(
    "site", ["cross-site", "same-site", "Cross-Site", "none, cross-site", "x", ""]
)
def test_a_page_of_another_site_is_403_without_an_origin_too(site: str) -> None:
    assert check(NAMED, request(("sec-fetch-site", site))) == (403, "origin_not_allowed")


def test_a_second_sec_fetch_site_does_not_hide_the_first() -> None:
    sent = request(("sec-fetch-site", "cross-site"), ("sec-fetch-site", "none"))
    assert check(NAMED, sent) == (403, "origin_not_allowed")


@pytest.mark.parametrize("site", ["none", "same-origin", "None"])
def test_what_the_user_types_passes(site: str) -> None:
    assert check(OPEN, request(("sec-fetch-site", site), ("sec-fetch-mode", "navigate"))) is None


def test_clients_on_node_pass() -> None:
    """They say cors and name no origin (clients.md, openai-npm)."""
    sent = request(JSON, ("sec-fetch-mode", "cors"), ("accept-language", "*"), method="POST")
    assert check(OPEN, sent, priced=True) is None


# --- the body: what a page could send without being asked -----------------------------------------


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_passes_on_a_priced_path(kind: str) -> None:
    assert check(OPEN, request(("content-type", kind), method="POST"), priced=True) is None


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        *(
            [("content-type", kind)]
            for kind in (
                *(
                    "text/plain",
                    "application/x-www-form-urlencoded",
                    "multipart/form-data; boundary=x",
                ),
                *("", "application/jsonx", "text/json", "text/plain;application/json", "json"),
            )
        ),
        [("content-type", "text/plain"), JSON],
        [JSON, ("content-type", "text/plain")],
    ],
)
def test_anything_else_is_415_on_a_priced_path(pairs: Pairs) -> None:
    assert check(OPEN, request(*pairs, method="POST"), priced=True) == (
        415,
        "unsupported_media_type",
    )
    assert check(OPEN, request(*pairs, method="POST")) is None


def test_a_compressed_body_is_415_on_a_priced_path() -> None:
    sent = request(JSON, ("content-encoding", "gzip"), method="POST")
    assert check(OPEN, sent, priced=True) == (415, "unsupported_encoding")
    plain = request(JSON, ("content-encoding", "identity"), method="POST")
    assert check(OPEN, plain, priced=True) is None


# --- the token ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pairs",
    [
        [("authorization", "Bearer the-token-of-this-one")],
        [("authorization", "bearer  the-token-of-this-one ")],
        [("x-api-key", "the-token-of-this-one")],
        [("x-arbstr-token", "the-token-of-this-one"), ("authorization", "Bearer sk-their-own")],
        [("x-arbstr-token", "the-token-of-this-one")],
    ],
)
def test_the_token_lets_in(pairs: Pairs) -> None:
    assert check(TOKEN, request(*pairs)) is None


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", "Bearer ")],
        [("authorization", "the-token-of-this-one")],
        [("authorization", "Basic the-token-of-this-one")],
        [("authorization", "Bearer the-token-of-this-on")],
        [("authorization", "Bearer the-token-of-this-one1")],
        [("authorization", "Bearer THE-TOKEN-OF-THIS-ONE")],
        [("x-api-key", "")],
        [("x-arbstr-token", "wrong")],
        [("x-arbstr-token", "\udcff\udcfe")],
        [("cookie", "the-token-of-this-one")],
    ],
)
def test_without_the_token_nobody_gets_in(pairs: Pairs) -> None:
    assert check(TOKEN, request(*pairs)) == (401, "invalid_api_key")


def test_an_options_request_needs_the_token_unless_it_is_a_preflight_of_an_allowed_origin() -> None:
    asks = ("access-control-request-method", "POST")
    assert check(TOKEN, request(method="OPTIONS")) == (401, "invalid_api_key")
    assert check(TOKEN, request(asks, method="OPTIONS")) == (401, "invalid_api_key")
    assert check(TOKEN, request(asks, ("origin", "null"), method="OPTIONS")) == (
        403,
        "origin_not_allowed",
    )
    assert check(TOKEN, request(asks, ("origin", APP), method="OPTIONS")) is None
    assert check(TOKEN, request(asks, ("origin", APP), method="POST")) == (401, "invalid_api_key")


def test_the_token_is_taken_out_of_every_header_that_holds_it() -> None:
    fields = (
        (b"Authorization", b"Bearer the-token-of-this-one"),
        (b"x-api-key", b"the-token-of-this-one"),
        (b"x-note", b"my token is the-token-of-this-one!"),
        (b"accept", b"*/*"),
    )
    assert guard.without_token(fields, TOKEN.auth_token) == ((b"accept", b"*/*"),)
    assert guard.without_token(fields, None) == fields


# --- CORS -----------------------------------------------------------------------------------------


def test_a_preflight_of_an_allowed_origin_is_answered() -> None:
    sent = request(
        ("origin", APP),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
        ("access-control-request-private-network", "true"),
        method="OPTIONS",
    )
    assert guard.preflight(sent, NAMED) == {
        "access-control-allow-origin": APP,
        "access-control-expose-headers": "*",
        "vary": "origin",
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": "authorization,content-type",
        "access-control-max-age": "600",
        "access-control-allow-private-network": "true",
    }


def test_a_preflight_echoes_names_only() -> None:
    sent = request(
        ("origin", APP),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "a: b"),
        method="OPTIONS",
    )
    answer = guard.preflight(sent, NAMED)
    assert answer is not None
    assert answer["access-control-allow-headers"] == ""


def test_nobody_else_gets_cors_headers() -> None:
    asks = ("access-control-request-method", "POST")
    for pairs in ([], [("origin", "https://evil.example")], [("origin", "null")]):
        assert guard.allow_origin(request(*pairs), NAMED) == {}
        assert guard.preflight(request(asks, *pairs, method="OPTIONS"), NAMED) is None
    assert guard.preflight(request(asks, ("origin", APP), method="GET"), NAMED) is None


# --- nothing but a reverse proxy ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PRI", "get", "Post", "PROPFIND", "MOVE"])
def test_other_methods_are_405(method: str) -> None:
    assert check(OPEN, request(method=method)) == (405, "method_not_allowed")


@pytest.mark.parametrize("method", sorted(guard.METHODS))
def test_the_usual_methods_pass(method: str) -> None:
    assert check(OPEN, request(method=method)) is None


def test_an_absolute_form_is_400() -> None:
    made = request()
    made.authority = "evil.example"
    assert check(OPEN, made) == (400, "not_a_proxy")


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket"])
def test_a_websocket_is_400(upgrade: str) -> None:
    assert check(OPEN, request(("upgrade", upgrade))) == (400, "no_websockets")


def test_curl_with_http2_is_no_websocket() -> None:
    assert (
        check(OPEN, request(("upgrade", "h2c"), ("connection", "Upgrade, HTTP2-Settings"))) is None
    )


@pytest.mark.parametrize("path", ["/a/../b", "//evil.example/", "*", "", "/a\x00b"])
def test_a_bad_target_is_400(path: str) -> None:
    assert check(OPEN, request(path=path)) == (400, "bad_target")


# --- who connects, and where we listen ------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_connect(peer: str) -> None:
    assert guard.check_peer(peer, OPEN) is None


@pytest.mark.parametrize(
    "peer", ["192.168.1.7", "10.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.1", "", "x"]
)
def test_no_other_machine_may_unless_the_config_says_so(peer: str) -> None:
    assert denied(guard.check_peer(peer, OPEN)) == (403, "not_from_here")
    assert guard.check_peer(peer, TOKEN) is None
    assert guard.check_peer(peer, Server(allow_lan_without_token=True)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_may_be_listened_on(host: str) -> None:
    assert guard.check_listener(host, OPEN) is None


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.7", "box.lan"])
def test_nothing_else_without_a_token(host: str) -> None:
    problem = guard.check_listener(host, OPEN)
    assert problem is not None
    assert "server.auth_token" in problem
    assert guard.check_listener(host, TOKEN) is None
    assert guard.check_listener(host, Server(allow_lan_without_token=True)) is None

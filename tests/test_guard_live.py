"""The guard over real sockets: what goes up, what comes down, with and without a token."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

from arbstr.mock import MockNode
from arbstr.mock.thread import ThreadedNode
from tests.attack import (
    CHAT,
    CLIENT_KEY,
    OUR_KEY,
    TOKEN,
    Reply,
    Sent,
    Upstream,
    ask,
    completion,
    config,
    connected,
    get,
    http,
    post,
    read_one,
)
from tests.running import Running, running
from tests.test_guard_targets import MONEY_PATHS, PAGES, variants

APP = "https://app.example"
SERVER = f'allowed_origins = ["{APP}"]\nallowed_hosts = ["arbstr.example"]'


LOCKED = 'auth_token = "${ARBSTR_TOKEN}"'


@dataclass
class House:
    arbstr: Running
    upstream: Upstream

    def ask(self, raw: bytes) -> Reply:
        return ask(self.arbstr.url, raw)

    def sent(self, raw: bytes) -> list[Sent]:
        """What goes up for `raw`."""
        before = len(self.upstream.seen)
        self.ask(raw)
        return self.upstream.seen[before:]


def answer(sent: Sent) -> bytes:
    """An upstream that is as bad for a browser as it can be."""
    if sent.path == "/v1/folded":
        return http("200 OK", b"{}", "x-a: one\r\n two", "x-b: c\rd: e", "x-f: g\x00h")
    if sent.path == "/v1/redirect":
        return http("307 Temporary Redirect", b"", "location: http://127.0.0.1:1/stolen")
    loose = ("access-control-allow-origin: *", "access-control-allow-credentials: true")
    if sent.path.endswith("/chat/completions"):
        return completion(sent).replace(b"\r\n", b"\r\n%s\r\n" % loose[0].encode(), 1)
    return http("200 OK", b"{}", *loose, "set-cookie: a=b", 'alt-svc: h3=":443"')


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with (
        Upstream(answer) as upstream,
        running(tmp_path_factory.mktemp("open"), config(upstream.url, server=SERVER)) as arbstr,
    ):
        yield House(arbstr, upstream)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("token")
    with Upstream(answer) as upstream:
        text = config(upstream.url, server=f"{LOCKED}\n{SERVER}")
        with running(folder, text, ARBSTR_TOKEN=TOKEN) as arbstr:
            yield House(arbstr, upstream)


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("keyless")
    with Upstream(answer) as upstream:
        text = config(upstream.url, server=LOCKED, key="")
        with running(folder, text, ARBSTR_TOKEN=TOKEN) as arbstr:
            yield House(arbstr, upstream)


# --- rebinding, pages -----------------------------------------------------------------------------


def test_a_rebound_name_is_421_and_nothing_goes_up(house: House) -> None:
    raw = post(host="evil.example:8080")
    assert house.sent(raw) == []
    reply = house.ask(raw)
    assert (reply.status, reply.code) == (421, "wrong_host")
    assert reply.header("access-control-allow-origin") is None


def test_an_allowed_name_passes(house: House) -> None:
    assert house.ask(post(host="arbstr.example:8080")).status == 200
    assert house.ask(post(host="ARBSTR.EXAMPLE.")).status == 200


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/balance/refund", "/v1/x", "/v1/cost"]
)
@pytest.mark.parametrize(
    "line",
    ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Origin: "],
)
def test_a_page_is_403_on_every_path(house: House, path: str, line: str) -> None:
    assert house.sent(post(path, CHAT, line)) == []
    assert house.ask(post(path, CHAT, line)).status == 403
    assert house.ask(get(path, line)).status == 403


def test_refusals_are_counted_and_have_no_row(house: House) -> None:
    before = house.arbstr.get("/health")["denied"].get("origin_not_allowed", 0)
    rows = len(house.arbstr.requests())
    house.ask(post("/v1/chat/completions", CHAT, "Origin: null"))
    assert house.arbstr.get("/health")["denied"]["origin_not_allowed"] == before + 1
    assert len(house.arbstr.requests()) == rows


def test_the_error_has_the_shape_of_the_path(house: House) -> None:
    chat = house.ask(post("/v1/chat/completions", CHAT, "Origin: null")).json()
    assert chat["error"]["code"] == "origin_not_allowed"
    messages = house.ask(post("/v1/messages", CHAT, "Origin: null")).json()
    assert messages["type"] == "error"


# --- CORS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        post("/v1/chat/completions", CHAT, f"Origin: {APP}"),
        post("/v1/chat/completions", b"{", f"Origin: {APP}"),
        post("/v1/chat/completions", CHAT, f"Origin: {APP}", kind="text/plain"),
        post("/v1/x", b"", f"Origin: {APP}"),
        get("/v1/models", f"Origin: {APP}"),
        get("/health", f"Origin: {APP}"),
        get("/v1/stats?range=never", f"Origin: {APP}"),
    ],
)
def test_every_answer_to_an_allowed_origin_can_be_read_by_it_alone(
    house: House, raw: bytes
) -> None:
    reply = house.ask(raw)
    assert reply.header("access-control-allow-origin") == APP
    assert [v for n, v in reply.fields if n == "access-control-allow-origin"] == [APP]
    assert reply.header("access-control-allow-credentials") is None
    assert reply.header("vary") == "origin"


def test_what_an_upstream_allows_is_not_passed_on(house: House) -> None:
    for raw in (post(), get("/v1/x")):
        names = {name for name, _ in house.ask(raw).fields}
        assert not any(name.startswith("access-control-") for name in names)
        assert names.isdisjoint({"set-cookie", "alt-svc"})


@pytest.mark.parametrize("together", [True, False])
def test_an_answer_that_nobody_asked_for_is_given_to_nobody(tmp_path: Path, together: bool) -> None:
    """An upstream that says more than it was asked must not answer the next request with it."""
    poison = http("200 OK", b'{"poison": 1}')
    more: list[socket.socket] = []

    def answered(sent: Sent) -> bytes:
        return completion(sent) + (poison if together else b"")

    with (
        Upstream(answered, sent_to=more) as upstream,
        running(tmp_path, config(upstream.url)) as arbstr,
        connected(arbstr.url) as connection,
    ):
        for _ in range(3):
            connection.sendall(post())
            reply = read_one(connection)
            assert reply.status == 200
            assert b"poison" not in reply.body
            if not together:
                more[-1].sendall(poison)
                while more[-1] in upstream.open:
                    time.sleep(0.01)  # arbstr closes it: nothing good can follow


def test_no_header_of_an_upstream_ends_its_line_early(house: House) -> None:
    reply = house.ask(get("/v1/folded"))
    assert reply.status == 200
    assert reply.header("x-a") == "one two"
    assert reply.header("x-b") == "c d: e"
    assert reply.header("x-f") == "g h"


def test_a_preflight_is_answered_for_an_allowed_origin_only(house: House) -> None:
    lines = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
    raw = get("/v1/chat/completions", f"Origin: {APP}", *lines, method="OPTIONS")
    assert house.sent(raw) == []
    reply = house.ask(raw)
    assert reply.status == 204
    assert reply.header("access-control-allow-origin") == APP
    assert reply.header("access-control-allow-headers") == "authorization"
    evil = get("/v1/x", "Origin: https://evil.example", *lines, method="OPTIONS")
    assert house.sent(evil) == []
    assert house.ask(evil).status == 403
    assert house.ask(evil).header("access-control-allow-origin") is None


# --- the token ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [f"Authorization: Bearer {TOKEN}", f"x-api-key: {TOKEN}", f"X-Arbstr-Token: {TOKEN}"],
)
def test_with_the_token_our_key_goes_up_and_the_token_does_not(locked: House, line: str) -> None:
    (sent,) = locked.sent(post("/v1/chat/completions", CHAT, line))
    assert sent.all("authorization") == [f"Bearer {OUR_KEY}"]
    assert TOKEN.encode() not in sent.raw


@pytest.mark.parametrize("line", ["X: y", "Authorization: Bearer wrong", f"Authorization: {TOKEN}"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/x", "/v1/cost", "/v1/balance/info"])
def test_without_the_token_nothing_goes_up(locked: House, line: str, path: str) -> None:
    assert locked.sent(post(path, CHAT, line)) == []
    assert locked.ask(post(path, CHAT, line)).status == 401
    assert locked.ask(get("/health", line)).status == 401
    assert locked.sent(get(path, line, method="OPTIONS")) == []


def test_the_token_is_asked_for_after_the_host_and_the_origin(locked: House) -> None:
    """A page must not learn whether a token is right."""
    line = f"Authorization: Bearer {TOKEN}"
    assert locked.ask(post("/v1/x", CHAT, line, host="evil.example")).status == 421
    assert locked.ask(post("/v1/x", CHAT, line, "Origin: null")).status == 403


def test_without_a_key_of_ours_the_clients_goes_up_beside_the_token(keyless: House) -> None:
    lines = (f"X-Arbstr-Token: {TOKEN}", f"Authorization: Bearer {CLIENT_KEY}")
    (sent,) = keyless.sent(post("/v1/chat/completions", CHAT, *lines))
    assert sent.all("authorization") == [f"Bearer {CLIENT_KEY}"]
    assert TOKEN.encode() not in sent.raw


@pytest.mark.parametrize(
    "lines",
    [
        [f"Authorization: Bearer {TOKEN}"],
        [f"x-api-key: {TOKEN}"],
        [f"X-Arbstr-Token: {TOKEN}", f"x-api-key: {TOKEN}", f"Authorization: Bearer {TOKEN}"],
        [f"x-api-key: {TOKEN}", f"X-Note: my {TOKEN}"],
    ],
)
def test_the_token_never_goes_up_in_place_of_a_key(keyless: House, lines: list[str]) -> None:
    (sent,) = keyless.sent(post("/v1/chat/completions", CHAT, *lines))
    assert TOKEN.encode() not in sent.raw
    assert sent.all("authorization") == []


# --- money ----------------------------------------------------------------------------------------


def test_our_key_is_never_on_the_paths_of_a_balance(house: House) -> None:
    """Every path that a node serves, in every spelling, by GET and by POST."""
    paths = dict.fromkeys(other for path in (*MONEY_PATHS, *PAGES) for other in variants(path))
    before = len(house.upstream.seen)
    line = f"Authorization: Bearer {CLIENT_KEY}"
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(connected(house.arbstr.url))
        for path in paths:
            for raw in (get(path), post(path, b"{}", line)):
                connection.sendall(raw)
                reply = read_one(connection)
                assert reply.status < 500
                if reply.header("connection") == "close":
                    connection = stack.enter_context(connected(house.arbstr.url))
    seen = house.upstream.seen[before:]
    assert len(seen) > len(paths)
    assert any(CLIENT_KEY.encode() in sent.raw for sent in seen)
    carried = {unquote(unquote(s.path)).casefold() for s in seen if OUR_KEY.encode() in s.raw}
    words = ("balance", "wallet", "lightning", "admin")
    assert [path for path in carried if any(word in path for word in words)] == []
    assert all(path.startswith(("/v1/", "/chat/")) for path in carried)


def test_a_refund_of_a_real_node_is_not_paid_to_a_client_without_a_key(tmp_path: Path) -> None:
    with ThreadedNode(MockNode(keys=frozenset({OUR_KEY, CLIENT_KEY}))) as served:
        node = served.node
        with running(tmp_path, config(node.url)) as arbstr:
            for path in ("/v1/balance/refund", "/v1/wallet/refund", "/balance/refund"):
                assert ask(arbstr.url, post(path, b"")).status in (400, 401, 403, 404)
            balance = node.balance_msats
            assert balance == 10_000_000
            line = f"Authorization: Bearer {CLIENT_KEY}"
            assert ask(arbstr.url, post("/v1/balance/refund", b"", line)).status == 200
            assert node.balance_msats == 0  # the client's own: that is its right


def test_nothing_of_ours_is_sent_to_where_an_upstream_points(house: House) -> None:
    (sent,) = house.sent(get("/v1/redirect"))
    assert sent.path == "/v1/redirect"
    assert OUR_KEY.encode() in sent.raw
    assert len(house.sent(get("/v1/redirect"))) == 1

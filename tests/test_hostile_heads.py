"""Hostile heads over raw sockets: each is refused or does no harm, and no second request comes out.

Every attack carries a request that nobody may send, ``POST /v1/smuggled``, where a reader that
disagrees with ours would find it. The upstream records every byte it gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.attack import (
    CHAT,
    Upstream,
    ask,
    completion,
    config,
    connected,
    get,
    parse,
    post,
    read_all,
    say,
)
from tests.hostile_heads import HARMLESS, REFUSED
from tests.running import Running, running


@dataclass
class House:
    arbstr: Running
    upstream: Upstream

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """What the upstream is asked meanwhile, by path."""
        before = len(self.upstream.seen)
        paths: list[str] = []
        yield paths
        paths += [sent.path for sent in self.upstream.seen[before:]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with Upstream(completion) as upstream:
        text = config(upstream.url, limits="header_bytes = 16384")
        with running(tmp_path_factory.mktemp("heads"), text) as arbstr:
            yield House(arbstr, upstream)
            code, log = arbstr.stop()
            assert code == 0
            assert "Traceback" not in log
            assert "smuggled" not in log
            assert not any("smuggled" in sent.raw.decode("latin-1") for sent in upstream.seen)


def test_there_are_many() -> None:
    assert len(REFUSED) >= 90


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_and_nothing_goes_up(house: House, name: str) -> None:
    with house.watched() as asked:
        replies = say(house.arbstr.url, REFUSED[name])
    assert asked == []
    assert len(replies) <= 1  # none to what is no HTTP at all
    for reply in replies:
        assert 400 <= reply.status < 600
        assert reply.whole
        assert reply.json()["error"]["message"]
        assert reply.header("content-type") == "application/json"
        assert reply.header("connection") == "close"
        assert "smuggled" not in reply.body.decode()


@pytest.mark.parametrize("name", HARMLESS)
def test_does_no_harm(house: House, name: str) -> None:
    raw, statuses, sent = HARMLESS[name]
    with house.watched() as asked:
        replies = say(house.arbstr.url, raw)
    assert [reply.status for reply in replies] == statuses
    assert asked == ["/v1/chat/completions"] * sent


def test_a_policy_name_that_is_no_text_is_told_as_text(house: House) -> None:
    raw = post("/v1/chat/completions", CHAT, "X-Arbstr-Policy: \xff\xfe")
    reply = ask(house.arbstr.url, raw)
    assert reply.status == 400
    assert reply.code == "unknown_policy"


@pytest.mark.parametrize("query", ["model=%ff", "%ff=1", "%ed%a0%80=%ed%a0%80", "model=%00"])
def test_a_query_that_is_no_text_is_told_as_text(house: House, query: str) -> None:
    for path in ("/v1/stats", "/v1/requests"):
        reply = ask(house.arbstr.url, get(f"{path}?{query}"))
        assert reply.status in (200, 400)
        assert "surrogate" not in reply.body.decode()


def test_a_model_name_ends_no_line_of_an_answer(house: House) -> None:
    body = rb'{"model":"a\r\nSet-Cookie: b=c\r\n\r\n<x>","messages":[]}'
    reply = ask(house.arbstr.url, post(body=body))
    assert reply.status == 200
    assert reply.header("set-cookie") is None
    assert reply.header("x-arbstr-requested-model") == r"a\r\nSet-Cookie: b=c\r\n\r\n<x>"


def test_headers_that_change_the_path_or_the_method_do_not_go_up(house: House) -> None:
    lines = ("X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-HTTP-Method-Override: DELETE",
             "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example", "Cookie: a=b",
             "Referer: http://evil.example/", "Via: 1.1 x", "Proxy-Authorization: Basic eDp5",
             "Connection: close, X-Secret", "X-Secret: 1", "X-Kept: 1")  # fmt: skip
    assert ask(house.arbstr.url, post("/v1/chat/completions", CHAT, *lines)).status == 200
    names = [name for name, _ in house.upstream.seen[-1].fields]
    assert "x-kept" in names
    refused = {line.partition(":")[0].lower() for line in lines} - {"x-kept"}
    assert refused.isdisjoint(names)
    assert house.upstream.seen[-1].all("host") == [house.upstream.url.split("/")[2]]


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/x", "/v1/../x", "/"])
def test_an_answer_to_a_head_request_has_no_body(house: House, path: str) -> None:
    """Else the client would read it as the answer to its next request."""
    with connected(house.arbstr.url) as connection:
        connection.sendall(get(path, method="HEAD") + get("/health", "Connection: close"))
        data = b""
        while more := connection.recv(65536):
            data += more
    replies = parse(data, head_only=True)
    assert replies[0].body == b""
    assert [reply.json()["status"] for reply in replies[1:]] in (["ok"], [])


def test_an_error_to_a_malformed_head_request_has_no_body(house: House) -> None:
    with connected(house.arbstr.url) as connection:
        connection.sendall(b"HEAD /v1/x HTTP/1.1\r\nX A: b\r\n\r\n")
        data = connection.recv(65536)
        assert data.startswith(b"HTTP/1.1 400 ")
        assert data.endswith(b"\r\n\r\n")
        assert connection.recv(1) == b""


def test_a_head_may_come_byte_by_byte(house: House) -> None:
    with house.watched() as asked, connected(house.arbstr.url) as connection:
        for byte in post("/v1/chat/completions", CHAT, "Connection: close"):
            connection.sendall(bytes((byte,)))
        replies = read_all(connection)
    assert [reply.status for reply in replies] == [200]
    assert len(asked) == 1


@pytest.mark.parametrize(
    "name", ["a blank line of LF", "a folded header", "content-length and chunked"]
)
def test_a_hostile_head_that_comes_byte_by_byte_is_refused_all_the_same(
    house: House, name: str
) -> None:
    with house.watched() as asked, connected(house.arbstr.url) as connection:
        try:
            for byte in REFUSED[name]:
                connection.sendall(bytes((byte,)))
        except OSError:
            pass  # it was refused before its end
        replies = read_all(connection)
    assert all(reply.status == 400 for reply in replies)
    assert asked == []


def test_requests_that_are_sent_ahead_are_bounded(house: House) -> None:
    """While an answer is on its way nothing more than a head's worth is kept for later."""
    with house.watched() as asked:
        say(house.arbstr.url, post() + b"POST /v1/smuggled HTTP/1.1\r\nX: " + b"a" * 3_000_000)
    assert len(asked) <= 1


def test_the_next_good_request_works(house: House) -> None:
    with house.watched() as asked:
        assert ask(house.arbstr.url, post()).status == 200
    assert asked == ["/v1/chat/completions"]

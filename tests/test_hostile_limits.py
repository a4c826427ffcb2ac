"""Limits: over each there is a clear error in the dialect of the path, and nothing goes up."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.attack import (
    CHAT,
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
    read_all,
    read_one,
)
from tests.running import Running, running

LIMITS = """
header_bytes = 4096
body_bytes = 20_000
json_depth = 8
messages = 5
concurrent = 3
request_seconds = 1
event_bytes = 2_000
answer_bytes = 10_000
"""
MESSAGES = json.dumps(
    {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
)
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


@dataclass
class House:
    """`held`: answers to the model ``slow`` wait until it is set."""

    arbstr: Running
    upstream: Upstream
    held: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    held = threading.Event()

    def answer(sent: Sent) -> bytes:
        model = json.loads(sent.body)["model"]
        if model == "slow":
            held.wait(30)
        return BODIES[model](sent) if model in BODIES else completion(sent)

    with Upstream(answer) as upstream:
        text = config(upstream.url, limits=LIMITS)
        with running(tmp_path_factory.mktemp("limits"), text) as arbstr:
            yield House(arbstr, upstream, held)
            code, log = arbstr.stop()
            assert code == 0
            assert "Traceback" not in log


def stream(*events: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + chunks + b"0\r\n\r\n"


BODIES = {
    "event": lambda _: stream(b"data: " + b"x" * 3_000 + b"\n\n"),
    "late-event": lambda _: stream(TOKEN, b"data: " + b"x" * 3_000 + b"\n\n"),
    "long": lambda _: stream(*[TOKEN] * 300),
    "whole": lambda _: http("200 OK", b'{"choices":"' + b"x" * 12_000 + b'"}'),
    "head": lambda _: b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 6_000,
}


def chat(model: str, *, streamed: bool = False, **more: object) -> bytes:
    body = {"model": model, "messages": [], "stream": streamed, **more}
    return post(body=json.dumps(body).encode())


def refused(house: House, raw: bytes) -> Reply:
    """The answer to `raw`, which must not go up."""
    before = len(house.upstream.seen)
    reply = ask(house.arbstr.url, raw)
    assert len(house.upstream.seen) == before
    assert reply.whole
    return reply


# --- size -----------------------------------------------------------------------------------------


def test_a_head_over_the_limit_is_431(house: House) -> None:
    reply = refused(house, post("/v1/chat/completions", CHAT, f"X-A: {'a' * 5_000}"))
    assert (reply.status, reply.code) == (431, "head_too_large")
    assert "4,096 bytes" in reply.json()["error"]["message"]


def test_the_error_has_the_shape_of_the_path(house: House) -> None:
    reply = refused(house, post("/v1/messages", MESSAGES.encode(), f"X-A: {'a' * 5_000}"))
    assert reply.status == 431
    assert reply.json()["type"] == "error"
    assert "4,096 bytes" in reply.json()["error"]["message"]


def test_a_head_that_does_not_end_is_431(house: House) -> None:
    raw = b"POST /v1/messages HTTP/1.1\r\nX-A: " + b"a" * 5_000
    assert refused(house, raw).status == 431


def test_a_body_over_the_limit_is_413_before_it_has_come(house: House) -> None:
    raw = post().replace(b"Content-Length: %d" % len(CHAT), b"Content-Length: 99999999999")
    reply = refused(house, raw)
    assert (reply.status, reply.code) == (413, "body_too_large")
    assert reply.header("connection") == "close"


def test_a_client_that_asks_first_is_not_told_to_go_on(house: House) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with connected(house.arbstr.url) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: 50000\r\n\r\n")
        assert connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 413"
        assert read_one(connection).json()["type"] == "error"


def test_a_chunked_body_over_the_limit_is_413_before_its_end(house: House) -> None:
    head = post().replace(b"Content-Length: %d" % len(CHAT), b"Transfer-Encoding: chunked")
    head = head[: -len(CHAT)]
    with connected(house.arbstr.url) as connection:
        connection.sendall(head + (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 6)
        reply = read_one(connection)
        assert (reply.status, reply.code) == (413, "body_too_large")
        connection.sendall(b"0\r\n\r\n" + post())
        assert read_all(connection) == []  # nothing more is read from such a connection


def test_a_body_at_the_limit_passes(house: House) -> None:
    body = CHAT[:-1] + b" " * (20_000 - len(CHAT)) + b"}"
    assert ask(house.arbstr.url, post(body=body)).status == 200


def test_a_refused_request_is_answered_before_its_body_has_come(house: House) -> None:
    raw = post("/v1/chat/completions", b"", "Origin: https://evil.example")
    raw = raw.replace(b"Content-Length: 0", b"Content-Length: 20000")
    reply = refused(house, raw)
    assert (reply.status, reply.code) == (403, "origin_not_allowed")


# --- shape ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_json_that_is_nested_too_deeply_is_400(house: House, path: str) -> None:
    deep = b'{"model":"m","messages":[],"x":' + b"[" * 8 + b"]" * 8 + b"}"
    reply = refused(house, post(path, deep))
    assert reply.status == 400
    assert "nested deeper than 8" in reply.json()["error"]["message"]


def test_json_that_is_nested_beyond_all_reason_is_400(house: House) -> None:
    for text in (b"[" * 19_000, b'{"a":' * 3_900, b'{"a":' + b"[" * 19_000, b"[{" * 9_000 + b"]"):
        reply = refused(house, post(body=text))
        assert reply.status == 400


@pytest.mark.parametrize(
    ("path", "member"), [("/v1/chat/completions", "messages"), ("/v1/responses", "input")]
)
def test_too_many_messages_are_400(house: House, path: str, member: str) -> None:
    message = {"role": "user", "content": "x"}
    body = {"model": "m", member: [message] * 6}
    reply = refused(house, post(path, json.dumps(body).encode()))
    assert reply.status == 400
    assert reply.code == "too_many_messages"
    body[member] = [message] * 5
    assert ask(house.arbstr.url, post(path, json.dumps(body).encode())).status != 400


# --- number ---------------------------------------------------------------------------------------


def test_one_request_too_many_is_503_and_says_when_to_come_again(house: House) -> None:
    house.held.clear()
    before = len(house.upstream.seen)
    replies: list[Reply] = []
    threads = [
        threading.Thread(target=lambda: replies.append(ask(house.arbstr.url, chat("slow"))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    while house.arbstr.get("/health")["open_requests"] < 3:  # our own endpoints always answer
        pass
    reply = ask(house.arbstr.url, chat("quick"))
    assert (reply.status, reply.code) == (503, "too_many_requests")
    assert reply.header("retry-after") == "1"
    assert ask(house.arbstr.url, get("/v1/files")).status == 503
    assert ask(house.arbstr.url, get("/v1/models")).status == 200
    house.held.set()
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [200] * 3
    assert len(house.upstream.seen) == before + 3
    assert house.arbstr.get("/health")["denied"]["too_many_requests"] == 2


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        b"P",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: loc",
        post()[: -len(CHAT)] + CHAT[:10],
        post().replace(b"Content-Length: %d" % len(CHAT), b"Transfer-Encoding: chunked")[
            : -len(CHAT)
        ]
        + b"5\r\n{",
    ],
)
def test_a_request_that_does_not_end_is_408(house: House, start: bytes) -> None:
    reply = refused(house, start)
    assert (reply.status, reply.code) == (408, "request_timeout")
    assert reply.header("connection") == "close"


@pytest.mark.parametrize("part", [b"X-A: b\r\n", b"a"])
def test_a_request_that_drips_is_408(house: House, part: bytes) -> None:
    """Each byte comes in time, the whole does not."""
    with connected(house.arbstr.url) as connection:
        connection.sendall(b"POST /v1/messages HTTP/1.1\r\n")
        connection.settimeout(0.05)
        got = b""
        while not got:
            connection.sendall(part)
            try:
                got = connection.recv(65536)
            except TimeoutError:
                continue
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b'"type":"error"' in got


def test_a_refused_request_that_does_not_end_is_closed_without_a_second_answer(
    house: House,
) -> None:
    raw = post("/v1/chat/completions", b"", "Origin: null")
    with connected(house.arbstr.url) as connection:
        connection.sendall(raw.replace(b"Content-Length: 0", b"Content-Length: 20000"))
        replies = read_all(connection)
    assert [reply.status for reply in replies] == [403]


def test_a_connection_on_which_nothing_is_asked_is_closed(house: House) -> None:
    with connected(house.arbstr.url) as silent, connected(house.arbstr.url) as stuck:
        stuck.sendall(b"\x16\x03\x01\x00\x05")  # the start of a TLS handshake
        assert silent.recv(1) == b""
        assert stuck.recv(1) == b""


def test_an_idle_connection_between_requests_is_kept(house: House) -> None:
    with connected(house.arbstr.url) as connection:
        connection.sendall(post())
        assert read_one(connection).status == 200
        other = refused(house, b"P")  # takes a second and more
        assert other.status == 408
        connection.sendall(post())
        assert read_one(connection).status == 200


# --- answers --------------------------------------------------------------------------------------


def test_an_event_over_the_limit_before_the_first_token_is_502(house: House) -> None:
    reply = ask(house.arbstr.url, chat("event", streamed=True))
    assert reply.status == 502
    assert "2,000 bytes" in reply.json()["error"]["message"]


def test_an_event_over_the_limit_after_it_ends_the_answer_as_an_error(house: House) -> None:
    reply = ask(house.arbstr.url, chat("late-event", streamed=True))
    assert reply.status == 200
    assert b"[DONE]" not in reply.body
    last = json.loads(reply.body.strip().split(b"\n\n")[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "stream_interrupted"
    assert "2,000 bytes" in last["error"]["message"]


def test_a_stream_over_the_limit_ends_as_an_error(house: House) -> None:
    reply = ask(house.arbstr.url, chat("long", streamed=True))
    assert b"[DONE]" not in reply.body
    assert len(reply.body) < 11_000
    assert b"10,000 bytes" in reply.body


@pytest.mark.parametrize("model", ["whole", "head"])
def test_an_answer_or_a_head_over_the_limit_is_502(house: House, model: str) -> None:
    assert ask(house.arbstr.url, chat(model)).status == 502


def test_nothing_is_left_open(house: House) -> None:
    assert house.arbstr.get("/health")["open_requests"] == 0

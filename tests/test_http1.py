"""HTTP/1 as transcripts: bytes in, events for the stream out; events in, bytes for the wire out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import options
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ReceiveHttp,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._events import HttpEvent

from arbstr.proxy.burst import Burst
from arbstr.proxy.http1 import GuardedServer
from arbstr.proxy.http1_client import GuardedClient, read_head
from arbstr.proxy.messages import make_request, make_response

HEAD_BYTES = 2_000
POST = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


def context() -> Context:
    client = Client(
        peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN
    )
    found = Context(client, options.Options())
    found.server = Server(address=("127.0.0.1", 3))
    found.server.state = ConnectionState.OPEN
    return found


def told(found: Iterable[commands.Command]) -> list[str]:
    """What comes of it, a word or two each."""
    return [word for command in found for word in _told(command)]


def _told(command: commands.Command) -> list[str]:
    match command:
        case ReceiveHttp():
            return [f"got {_name(command.event)}"]
        case commands.SendData():
            return [f"sent {bytes(command.data)!r}"]
        case _:
            return [type(command).__name__]


def _name(event: HttpEvent) -> str:
    match event:
        case Burst():
            return "burst " + ", ".join(_name(part) for part in event.events)
        case RequestData() | ResponseData():
            return f"data {bytes(event.data)!r}"
        case RequestHeaders() | ResponseHeaders():
            return "head" + (" (no body)" if event.end_stream else "")
        case RequestEndOfMessage() | ResponseEndOfMessage():
            return "end"
        case RequestProtocolError() | ResponseProtocolError():
            return "error"
        case _:
            return type(event).__name__


class Wire:
    """The client's side of a proxy, or the upstream's."""

    def __init__(self, side: GuardedServer | GuardedClient) -> None:
        self.side = side
        told(side.handle_event(events.Start()))

    def get(self, *pieces: bytes) -> list[str]:
        return [
            word
            for piece in pieces
            for word in told(self.side.handle_event(events.DataReceived(self.side.conn, piece)))
        ]

    def send(self, *sent: HttpEvent) -> list[str]:
        return [word for event in sent for word in told(self.side.handle_event(event))]

    def close(self) -> list[str]:
        self.side.conn.state &= ~ConnectionState.CAN_READ
        return told(self.side.handle_event(events.ConnectionClosed(self.side.conn)))


def server() -> Wire:
    return Wire(GuardedServer(context(), HEAD_BYTES))


def client() -> Wire:
    """Its request is out."""
    wire = Wire(GuardedClient(context(), HEAD_BYTES))
    fields = ((b"host", b"a"), (b"content-length", b"2"))
    request = make_request(
        host="a", port=1, method=b"POST", scheme=b"http", path=b"/x", fields=fields, content=b"{}"
    )
    burst = (RequestHeaders(-1, request, False), RequestData(-1, b"{}"), RequestEndOfMessage(-1))
    assert wire.send(Burst(-1, burst)) == [
        "sent b'POST /x HTTP/1.1\\r\\nhost: a\\r\\ncontent-length: 2\\r\\n\\r\\n'",
        "sent b'{}'",
    ]
    return wire


def answer(stream: int, content: bytes, *fields: tuple[bytes, bytes]) -> Burst:
    length = (b"content-length", str(len(content)).encode())
    head = ResponseHeaders(stream, make_response(200, (length, *fields), content), not content)
    return Burst(stream, (head, ResponseData(stream, content), ResponseEndOfMessage(stream)))


# --- the client's side ----------------------------------------------------------------------------


def test_a_request_in_one_piece_is_one_event() -> None:
    assert server().get(POST + b"hello") == ["got burst head, data b'hello', end"]
    assert server().get(GET) == ["got burst head (no body), end"]


@pytest.mark.parametrize(
    "pieces",
    [(POST, b"hello"), (POST[:30], POST[30:], b"hello"), (b"\r\n" + POST, b"hello")],
)
def test_a_request_in_pieces_begins_with_its_head(pieces: tuple[bytes, ...]) -> None:
    assert server().get(*pieces) == ["got head", "got data b'hello'", "got end"]


def test_a_body_in_pieces_comes_as_it_comes() -> None:
    wire = server()
    assert wire.get(POST + b"he") == ["got head", "got data b'he'"]
    assert wire.get(b"l") == ["got data b'l'"]
    assert wire.get(b"lo") == ["got data b'lo'", "got end"]


def test_what_is_sent_ahead_waits_for_the_answer() -> None:
    wire = server()
    assert wire.get(POST, b"hello" + GET) == ["got head", "got data b'hello'", "got end"]
    after = wire.send(answer(1, b"ok"))
    assert after[-1] == "got burst head (no body), end"
    assert after[0].startswith("sent b'HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n")


def test_chunks_are_read_to_their_end_and_trailers_dropped() -> None:
    wire = server()
    assert wire.get(CHUNKED + b"3\r\nabc\r\n") == ["got head", "got data b'abc'"]
    assert wire.get(b"0\r\nx-trailer: y\r\n\r\n") == ["got end"]


def test_chunks_that_are_none_are_answered_with_an_error() -> None:
    sent, *rest = server().get(CHUNKED + b"zz\r\n")[1:]
    assert sent.startswith("sent b'HTTP/1.1 400 ")
    assert rest == ["CloseConnection", "got error"]


def test_a_client_that_leaves_in_the_middle_of_its_body_is_an_error() -> None:
    wire = server()
    wire.get(POST + b"he")
    assert wire.close() == ["CloseConnection", "got error"]


def test_an_answer_in_chunks_ends_with_the_last_one() -> None:
    wire = server()
    wire.get(GET)
    head = make_response(200, ((b"transfer-encoding", b"chunked"),), None)
    assert wire.send(ResponseHeaders(1, head, False), ResponseData(1, b"abc"))[-1] == (
        "sent b'3\\r\\nabc\\r\\n'"
    )
    assert wire.send(ResponseEndOfMessage(1)) == ["sent b'0\\r\\n\\r\\n'"]
    assert wire.get(GET) == ["got burst head (no body), end"]


def test_head_gets_no_body() -> None:
    wire = server()
    wire.get(GET.replace(b"GET", b"HEAD"))
    assert len(wire.send(answer(1, b"not sent"))) == 1
    assert wire.get(GET) == ["got burst head (no body), end"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET.replace(b"Host", b"Connection: close\r\nHost"),
        GET.replace(b"Host", b"Connection: Keep-Alive, Close\r\nHost"),
        GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_client_that_wants_its_connection_closed_gets_that(request_bytes: bytes) -> None:
    wire = server()
    wire.get(request_bytes)
    assert wire.send(answer(1, b"ok"))[-1] == "CloseConnection"


def test_an_old_client_may_keep_its_connection() -> None:
    wire = server()
    wire.get(GET.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nConnection: keep-alive\r\n"))
    assert "CloseConnection" not in wire.send(answer(1, b"ok"))


def test_an_answer_may_close_the_connection_too() -> None:
    wire = server()
    wire.get(GET)
    assert wire.send(answer(1, b"ok", (b"connection", b"close")))[-1] == "CloseConnection"


# --- the upstream's side --------------------------------------------------------------------------


def test_a_response_in_one_piece_is_one_event() -> None:
    assert client().get(ANSWER + b"hello") == ["got burst head, data b'hello', end"]


def test_a_response_in_pieces_begins_with_its_head() -> None:
    wire = client()
    assert wire.get(ANSWER + b"he") == ["got head", "got data b'he'"]
    assert wire.get(b"llo") == ["got data b'llo'", "got end"]


def test_informational_heads_are_skipped() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    assert client().get(early, early + ANSWER + b"hello") == ["got burst head, data b'hello', end"]


def test_a_head_without_end_is_an_error() -> None:
    assert client().get(b"HTTP/1.1 200 OK\r\nx: " + b"y" * HEAD_BYTES) == [
        "CloseConnection",
        "got error",
    ]


def test_a_response_without_length_ends_with_its_connection() -> None:
    wire = client()
    assert wire.get(b"HTTP/1.1 200 OK\r\n\r\nhello") == ["got head", "got data b'hello'"]
    assert wire.close() == ["got end", "CloseConnection"]


def test_a_length_that_is_none_is_an_error() -> None:
    assert client().get(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n") == [
        "CloseConnection",
        "got error",
    ]


def test_what_comes_unasked_closes_the_connection() -> None:
    wire = client()
    wire.get(ANSWER + b"hello")
    assert wire.get(b"HTTP/1.1 408 Request Timeout\r\n\r\n") == ["CloseConnection"]


@given(
    st.sampled_from(
        [b"HTTP/1.1 200 OK", b"HTTP/1.0 404 Not  Found ", b"HTTP/1.1 503", b"HTTP/2 1"]
    ),
    st.lists(st.text(alphabet="ab:- \t\x01\xe9,", max_size=12).filter(bool), max_size=4),
)
def test_a_head_is_read_as_mitmproxy_reads_it(first: bytes, fields: list[str]) -> None:
    lines = [first, *(field.encode("latin-1") for field in fields)]
    try:
        theirs = http1.read_response_head(lines)
    except ValueError:
        with pytest.raises(ValueError, match=r"Bad HTTP|Invalid header"):
            read_head(lines)
        return
    ours = read_head(lines).data
    assert (ours.http_version, ours.status_code, ours.headers.fields) == (
        theirs.data.http_version,
        theirs.data.status_code,
        theirs.headers.fields,
    )
    assert ours.reason == theirs.data.reason

"""The hostile heads, and the odd ones that do no harm: tables for tests/test_hostile_heads.py."""

from __future__ import annotations

from tests.attack import CHAT, get, post

SMUGGLED = (
    b"POST /v1/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
CHUNKED_SMUGGLED = b"0\r\n\r\n" + SMUGGLED
START = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
USUAL = START + HOST + JSON
CHUNKED = b"Transfer-Encoding: chunked\r\n"
IN_CHUNKS = USUAL + CHUNKED + b"\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(CHAT)
GOOD_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT)


def head(*lines: bytes) -> bytes:
    return b"".join(lines) + b"\r\n"


FRAMING = {
    "content-length and chunked": head(USUAL, LENGTH, CHUNKED) + CHUNKED_SMUGGLED,
    "chunked and content-length": head(USUAL, CHUNKED, LENGTH) + CHUNKED_SMUGGLED,
    "two lengths that differ": head(USUAL, b"Content-Length: 0\r\n", LENGTH) + SMUGGLED,
    "two lengths that agree": head(USUAL, LENGTH, LENGTH) + CHAT + SMUGGLED,
    "a list of lengths": head(USUAL, b"Content-Length: 0, 0\r\n") + SMUGGLED,
    "a length with a sign": head(USUAL, b"Content-Length: +0\r\n") + SMUGGLED,
    "a negative length": head(USUAL, b"Content-Length: -1\r\n") + SMUGGLED,
    "a length in hex": head(USUAL, b"Content-Length: 0x10\r\n") + SMUGGLED,
    "a length with a zero before": head(USUAL, b"Content-Length: 00\r\n") + SMUGGLED,
    "a length with an underscore": head(USUAL, b"Content-Length: 1_0\r\n") + SMUGGLED,
    "a length that is a word": head(USUAL, b"Content-Length: ten\r\n") + SMUGGLED,
    "an empty length": head(USUAL, b"Content-Length:\r\n") + SMUGGLED,
    "a length of 100 digits": head(USUAL, b"Content-Length: " + b"9" * 100 + b"\r\n") + SMUGGLED,
    "xchunked": head(USUAL, b"Transfer-Encoding: xchunked\r\n") + CHUNKED_SMUGGLED,
    "chunked twice": head(USUAL, CHUNKED * 2) + CHUNKED_SMUGGLED,
    "chunked, chunked": head(USUAL, b"Transfer-Encoding: chunked, chunked\r\n") + CHUNKED_SMUGGLED,
    "chunked, then identity": head(USUAL, CHUNKED, b"Transfer-Encoding: identity\r\n")
    + CHUNKED_SMUGGLED,
    "identity": head(USUAL, b"Transfer-Encoding: identity\r\n") + SMUGGLED,
    "gzip, chunked": head(USUAL, b"Transfer-Encoding: gzip, chunked\r\n") + CHUNKED_SMUGGLED,
    "chunked after a vertical tab": head(USUAL, b"Transfer-Encoding: \x0bchunked\r\n")
    + CHUNKED_SMUGGLED,
    "chunked in quotes": head(USUAL, b'Transfer-Encoding: "chunked"\r\n') + CHUNKED_SMUGGLED,
    "an empty transfer-encoding": head(USUAL, b"Transfer-Encoding:\r\n", LENGTH) + CHAT + SMUGGLED,
    "chunked in HTTP/1.0": head(USUAL.replace(b"1.1", b"1.0"), CHUNKED) + CHUNKED_SMUGGLED,
}

LINES = {
    "bare LF everywhere": head(USUAL, LENGTH).replace(b"\r\n", b"\n") + CHAT,
    "bare LF after the request line": START[:-2] + b"\n" + head(HOST, JSON, LENGTH) + CHAT,
    "bare LF before the blank line": USUAL + LENGTH[:-2] + b"\n\r\n" + CHAT,
    "a blank line of LF": USUAL + LENGTH + b"\n" + CHAT,
    "a bare CR in a value": head(USUAL, b"X-A: b\rTransfer-Encoding: chunked\r\n", LENGTH) + CHAT,
    "a bare CR at the end of a line": head(USUAL, b"X-A: b\r\r\n", LENGTH) + CHAT,
    "a folded header": head(USUAL, b"X-A: b\r\n c\r\n", LENGTH) + CHAT,
    "a folded transfer-encoding": head(USUAL, b"Transfer-Encoding:\r\n chunked\r\n")
    + CHUNKED_SMUGGLED,
    "a folded first header": head(START, b" X-A: b\r\n", HOST, JSON, LENGTH) + CHAT,
    "a space before the colon": head(USUAL, b"Transfer-Encoding : chunked\r\n", LENGTH)
    + CHUNKED_SMUGGLED,
    "a tab before the colon": head(USUAL, b"Content-Length\t: 5\r\n", LENGTH) + CHAT,
    "a space in a name": head(USUAL, b"X A: b\r\n", LENGTH) + CHAT,
    "a line without a colon": head(USUAL, b"X-A\r\n", LENGTH) + CHAT,
    "an empty name": head(USUAL, b": b\r\n", LENGTH) + CHAT,
    "a NUL in a name": head(USUAL, b"X\x00A: b\r\n", LENGTH) + CHAT,
    "a NUL in a value": head(USUAL, b"X-A: b\x00c\r\n", LENGTH) + CHAT,
    "a control character in a value": head(USUAL, b"X-A: b\x08c\r\n", LENGTH) + CHAT,
    "a name that is not ASCII": head(USUAL, b"X-\xc3\xa9: b\r\n", LENGTH) + CHAT,
    "a name in brackets": head(USUAL, b"(X): b\r\n", LENGTH) + CHAT,
}

TARGETS = {
    "no target": b"POST HTTP/1.1\r\n" + head(HOST, JSON, LENGTH) + CHAT,
    "two targets": head(b"POST /v1/a /v1/b HTTP/1.1\r\n", HOST, JSON, LENGTH) + CHAT,
    "two spaces": head(b"POST  /v1/chat/completions HTTP/1.1\r\n", HOST, JSON, LENGTH) + CHAT,
    "a tab for a space": head(START.replace(b" ", b"\t", 1), HOST, JSON, LENGTH) + CHAT,
    "a space before the method": head(b" " + USUAL, LENGTH) + CHAT,
    "a space after the version": head(START[:-2] + b" \r\n", HOST, JSON, LENGTH) + CHAT,
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/2.0 by name": head(USUAL.replace(b"HTTP/1.1", b"HTTP/2.0"), LENGTH) + CHAT,
    "HTTP/1.2": head(USUAL.replace(b"HTTP/1.1", b"HTTP/1.2"), LENGTH) + CHAT,
    "HTTP/11": head(USUAL.replace(b"HTTP/1.1", b"HTTP/11"), LENGTH) + CHAT,
    "http/1.1": head(USUAL.replace(b"HTTP/1.1", b"http/1.1"), LENGTH) + CHAT,
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9,
    "CONNECT": head(b"CONNECT evil.example:443 HTTP/1.1\r\n", b"Host: evil.example:443\r\n"),
    "CONNECT to a path": head(b"CONNECT /v1/models HTTP/1.1\r\n", HOST) + SMUGGLED,
    "connect, written small": head(b"connect localhost:80 HTTP/1.1\r\n", HOST) + SMUGGLED,
    "connect to a path, written small": head(b"connect /v1/models HTTP/1.1\r\n", HOST) + SMUGGLED,
    "TRACE": head(b"TRACE /v1/models HTTP/1.1\r\n", HOST),
    "a method written small": head(b"post" + START[4:], HOST, JSON, LENGTH) + CHAT,
    "a method nobody knows": head(b"BREW /v1/models HTTP/1.1\r\n", HOST),
    "absolute-form": get("http://evil.example/v1/models"),
    "absolute-form, our own host": get("http://127.0.0.1:8080/v1/models"),
    "absolute-form, https": get("https://evil.example/"),
    "absolute-form, another scheme": get("gopher://evil.example/"),
    "authority-form": get("evil.example:80"),
    "two slashes": get("//evil.example/v1/models"),
    "asterisk-form": get("*", method="OPTIONS"),
    "a path without a slash": get("v1/models"),
    "dots": get("/v1/../admin"),
    "dots, encoded": get("/v1/%2e%2e/admin"),
    "dots, encoded twice": get("/v1/%252e%252e/admin"),
    "a backslash": get("/v1\\..\\admin"),
    "a NUL, encoded": get("/v1/models%00"),
    "a line end, encoded": get("/v1/models%0d%0aX-A:%20b"),
    "a fragment": get("/v1/models#/admin"),
    "bytes that are not ASCII": b"GET /v1/\xff\xfe HTTP/1.1\r\n" + head(HOST),
    "no Host": b"GET /v1/x HTTP/1.1\r\n\r\n",
    "two Hosts": get("/v1/x", "Host: evil.example"),
    "two Hosts that agree": get("/v1/x", "Host: 127.0.0.1"),
    "an empty Host": get("/v1/x", host=""),
    "the Host of a rebound name": get("/v1/x", host="evil.example:8080"),
    "mitm.it": get("/", host="mitm.it"),
    "a Host with a user": get("/v1/x", host="user@127.0.0.1"),
    "a websocket": get("/v1/x", "Connection: Upgrade", "Upgrade: websocket"),
    "a head of 20 KB": get("/v1/x", f"X-A: {'a' * 20_000}"),
    "a head of 5,000 headers": get("/v1/x", *["A: b"] * 5_000),
    "a request line of 20 KB": get(f"/v1/{'a' * 20_000}"),
    "something else": b"\x00\x01\x02\x03\r\n\r\n",
    "TLS, cut": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" + b"\x00" * 20,
    "an SMTP client": b"EHLO evil.example\r\nMAIL FROM:<a@b>\r\n\r\n",
}

BODIES = {
    "a chunk size that is a word": IN_CHUNKS + b"five\r\nhello\r\n" + CHUNKED_SMUGGLED,
    "a negative chunk size": IN_CHUNKS + b"-1\r\n" + CHUNKED_SMUGGLED,
    "a chunk size in 0x": IN_CHUNKS + b"0x5\r\nhello\r\n" + CHUNKED_SMUGGLED,
    "a chunk size of 30 digits": IN_CHUNKS + b"F" * 30 + b"\r\n" + SMUGGLED,
    "a chunk longer than it says": IN_CHUNKS + b"2\r\nhello\r\n" + CHUNKED_SMUGGLED,
    "bare LF after a chunk size": IN_CHUNKS + b"5\nhello\n0\n\n" + SMUGGLED + b"\r\n",
    "an empty chunk size": IN_CHUNKS + b"\r\nhello\r\n" + CHUNKED_SMUGGLED,
    "a chunk extension without end": IN_CHUNKS + b"5;" + b"a" * 40_000,
    "trailers without end": IN_CHUNKS + b"0\r\n" + b"A: b\r\n" * 8_000,
}

REFUSED = {**FRAMING, **LINES, **TARGETS, **BODIES}

HARMLESS = {
    "empty lines before": (b"\r\n\r\n" + post(), [200], 1),
    "HTTP/1.0 with a Host": (post().replace(b"HTTP/1.1", b"HTTP/1.0"), [200], 1),
    "chunked": (IN_CHUNKS + GOOD_CHUNKS, [200], 1),
    "CHUNKED": (head(USUAL, b"TRANSFER-ENCODING: CHUNKED\r\n") + GOOD_CHUNKS, [200], 1),
    "chunks with extensions": (
        IN_CHUNKS + GOOD_CHUNKS.replace(b"\r\n", b";a=b\r\n", 1),
        [200],
        1,
    ),
    "trailers": (
        IN_CHUNKS + GOOD_CHUNKS.replace(b"0\r\n\r\n", b"0\r\nContent-Length: 5\r\nX-A: b\r\n\r\n"),
        [200],
        1,
    ),
    "two requests at once": (post() + post(), [200, 200], 2),
    "a good one and a bad one": (post() + get("/v1/../x"), [200, 400], 1),
    "a bad one and a good one": (get("/v1/../x") + post(), [400], 0),
    "a page's and a good one": (
        post("/v1/chat/completions", CHAT, "Origin: null") + post(),
        [403],
        0,
    ),
    "a body that is another request": (post(body=SMUGGLED), [400], 0),
    "a wrong content type around another request": (
        post(body=SMUGGLED, kind="text/plain"),
        [415],
        0,
    ),
    "a byte too many": (post() + b"\r\n", [200], 1),
    "expect: 100-continue": (post("/v1/chat/completions", CHAT, "Expect: 100-continue"), [200], 1),
    "upgrade to h2c": (
        post("/v1/chat/completions", CHAT, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
        [200],
        1,
    ),
    "a value with bytes that are not ASCII": (
        post("/v1/chat/completions", CHAT, "User-Agent: \xff\xfe", "X-Arbstr-Policy: none"),
        [200],
        1,
    ),
}

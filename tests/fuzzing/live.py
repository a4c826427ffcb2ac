"""Fuzzing over raw sockets: anything is sent to a running ``arbstr serve --mock``.

What must hold, whatever is sent: each answer parses and is below 600; the log has no traceback; no
row is lost; the next good request works.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from hypothesis import strategies as st

from tests.attack import CHAT, Reply, parse, post
from tests.fuzzing import shapes
from tests.hostile_heads import HARMLESS, REFUSED
from tests.running import Running

ANSWER_S = 30.0
WAIT_S = 0.5
QUIET_S = 0.02
ROWS_S = 30.0
CONFIG = """
[server]
allowed_origins = ["https://app.example"]
[limits]
request_seconds = 2
body_bytes = 60_000
json_depth = 60
[fallback]
max_attempts = 3
shutdown_grace = "0s"
[policies]
default = "quick"
[[policies.rules]]
name = "quick"
allowed_models = ["gpt-4o-mini", "mock-cut", "mock-fail-503", "deepseek-chat"]
keywords = ["quick"]
"""
_BAD_LOG = re.compile(
    r"Traceback|crashed|Addon error|never (?:awaited|retrieved)|has failed|Warning"
)
_CHAT = CHAT.replace(b'"m"', b'"gpt-4o-mini"')
GOOD = post("/v1/chat/completions", _CHAT, "Connection: close")

_NAMES = st.sampled_from(
    [
        *("Host", "host", "Content-Length", "Content-length", "Transfer-Encoding", "Content-Type"),
        *("Content-Encoding", "Connection", "Origin", "Expect", "Authorization", "X-Arbstr-Policy"),
        *("X-Arbstr-Token", "X-Arbstr-Explain", "X-Cashu", "Upgrade", "User-Agent", "TE", "X-A"),
        *("Trailer", "Accept-Encoding", "Sec-Fetch-Site", "Cookie", "x-session-id"),
    ]
)
_VALUES = st.one_of(
    st.sampled_from(
        ["localhost", "127.0.0.1:8080", "evil.example", "0", "5", "-1", "chunked", "gzip, chunked",
         "identity", "application/json", "text/plain", "close", "keep-alive", "Upgrade",
         "websocket", "100-continue", "https://app.example", "null", "none", "quick",
         "cross-site", "1", "", "Bearer sk-abcdefgh", "cashuAabc", "a, b", "a" * 300]
    ),
    st.text(st.characters(max_codepoint=255), max_size=20),
)  # fmt: skip
_ODD = st.sampled_from(["%ff", "%ed%a0%80", "%00", "&", "=", "+", "%", ";", "[]", "%25ff"])
_METHODS = st.sampled_from(
    ["GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE",
     "get", "", "POST POST", "\x00"]
)  # fmt: skip
_TARGETS = st.one_of(
    st.sampled_from([*shapes.PRICED, *shapes.OWN]),
    st.sampled_from(["*", "//x", "/..", "/v1/%2e%2e", "http://a/", "", "/a b", "/v1/balance/info"]),
    st.builds(lambda t: "/" + quote(t), st.text(max_size=20)),
    st.builds(
        lambda p, q: f"{p}?{urlencode(q, errors='replace')}",
        st.sampled_from(shapes.OWN),
        shapes.QUERIES,
    ),
    st.text(st.characters(max_codepoint=255), max_size=12),
)
_VERSIONS = st.sampled_from(
    ["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", "HTTP/1.1 ", "", "http/1.1"]
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A good head around a body in one of the dialects, with a length or in chunks."""
    body = draw(shapes.BODIES)
    path = draw(st.sampled_from(shapes.PRICED))
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += draw(st.sampled_from([[], ["Connection: close"], ["X-Arbstr-Policy: none"]]))
    if draw(st.booleans()):
        return _head([*lines, f"Content-Length: {len(body)}"]) + body
    size = draw(st.integers(1, 50))
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return _head([*lines, "Transfer-Encoding: chunked"]) + chunks + b"0\r\n\r\n"


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """A query of one of our own endpoints."""
    query = urlencode(draw(shapes.QUERIES), errors="replace")
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(query)))
        query = query[:at] + draw(_ODD) + query[at:]
    target = f"{draw(st.sampled_from(shapes.OWN))}?{query}"
    return _head([f"GET {target} HTTP/1.1", "Host: localhost"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head of anything, and something after it."""
    lines = [" ".join((draw(_METHODS), draw(_TARGETS), draw(_VERSIONS)))]
    lines += draw(st.sampled_from([["Host: localhost"]] * 3 + [[]]))
    pairs = draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=5))
    lines += [
        f"{name}{draw(st.sampled_from([': '] * 6 + [':', ' : ']))}{value}" for name, value in pairs
    ]
    end = draw(st.sampled_from(["\r\n"] * 6 + ["\n", "\r", "\r\n "]))
    head = (end.join(lines) + end * 2).encode("latin-1", "replace")
    return head + draw(
        st.sampled_from([b"", b"", CHAT, b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", GOOD])
    )


_KNOWN = st.sampled_from([*REFUSED.values(), *(raw for raw, _, _ in HARMLESS.values())])
KINDS: Mapping[str, st.SearchStrategy[bytes]] = {
    "bodies over sockets": bodies(),
    "query strings": queries(),
    "heads": shapes.mangled(heads()),
    "heads like known attacks": shapes.mangled(_KNOWN),
}


class Target:
    """A running arbstr that is fuzzed. Raises AssertionError where something does not hold."""

    def __init__(self, arbstr: Running) -> None:
        """`arbstr`: serves `CONFIG` from its mock node."""
        self.arbstr = arbstr
        self.ids: set[int] = set()
        self.statuses: Counter[int] = Counter()

    def check(self, raw: bytes) -> None:
        """Send it, look at the answers."""
        for number, reply in enumerate(self.send(raw, WAIT_S if b"\r\n\r\n" in raw else 0.02)):
            self.look(reply, has_row=number == 0 and raw.startswith(b"POST "))

    def send(self, raw: bytes, wait_s: float) -> list[Reply]:
        """Send, wait for an answer for as long as one may come, then for the end."""
        parts = urlsplit(self.arbstr.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=ANSWER_S) as connection:
            try:
                connection.sendall(raw)
                got = self.read(connection, wait_s)
                connection.shutdown(socket.SHUT_WR)
                got += self.read(connection, ANSWER_S)
            except (ConnectionResetError, BrokenPipeError):
                return []
            except OSError as error:
                if error.errno != errno.ENOTCONN:  # it has closed, and so cannot be closed
                    raise
        return parse(got, head_only=raw.lstrip().startswith(b"HEAD "))

    def read(self, connection: socket.socket, seconds: float) -> bytes:
        """What comes until the end, or until a whole answer is followed by nothing."""
        got = b""
        connection.settimeout(seconds)
        while True:
            try:
                data = connection.recv(65536)
            except TimeoutError:
                assert got or seconds < ANSWER_S, "it neither answers nor closes"
                return got
            if not data:
                return got
            got += data
            if seconds < ANSWER_S:
                connection.settimeout(QUIET_S)

    def look(self, reply: Reply, *, has_row: bool) -> None:
        """An answer parses, as what it says it is. `has_row`: if it has an id it has a row."""
        assert 200 <= reply.status < 600, reply
        self.statuses[reply.status] += 1
        kind = (reply.header("content-type") or "").partition(";")[0]
        if reply.whole and reply.body and kind == "application/json":
            json.loads(reply.body)
        if reply.status == 500:
            assert b"arbstr has failed" not in reply.body
        found = reply.header("x-arbstr-request-id")
        if has_row and found is not None:
            self.ids.add(int(found))

    def settle(self) -> None:
        """Nothing is left open, every row is there, a good request works, the log is clean."""
        (answer,) = self.send(GOOD, ANSWER_S)
        assert answer.status == 200, answer
        end = time.monotonic() + ROWS_S
        while True:
            health = self.arbstr.get("/health")
            ledger = health["ledger"]
            if health["open_requests"] == 0 and ledger["queued"] == 0:
                break
            assert time.monotonic() < end, f"something is left open: {health}"
        assert ledger["lost"] == 0
        bad = [line for line in self.arbstr.log.splitlines() if _BAD_LOG.search(line)]
        assert bad == [], bad[:5]
        known = {row["id"] for row in self.arbstr.rows("SELECT id FROM requests")}
        lost = {found for found in self.ids if found not in known}
        assert lost == set(), f"rows that are missing: {sorted(lost)[:5]}"
        assert self.arbstr.process.poll() is None


def live_checks(target: Target) -> Mapping[str, Callable[[st.DataObject], None]]:
    """A check for each kind."""

    def check(strategy: st.SearchStrategy[bytes]) -> Callable[[st.DataObject], None]:
        return lambda data: target.check(data.draw(strategy))

    return {name: check(strategy) for name, strategy in KINDS.items()}


def _head(lines: list[str]) -> bytes:
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"


def config_path(folder: Path) -> Path:
    """Write the config that is fuzzed against."""
    path = folder / "config.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path

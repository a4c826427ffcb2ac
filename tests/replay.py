"""Captured exchanges, played again: through the pure core, and by an upstream on real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from arbstr.core.body import read_members
from arbstr.core.breaker import Breakers
from arbstr.core.catalog import Catalog, Model
from arbstr.core.dialects import Dialect, by_path
from arbstr.core.exchange import Answer, Command, Data, Exchange, Phase, Ticket, Timing
from arbstr.core.forecast import Forecast
from arbstr.core.listing import read_listing
from arbstr.core.policy import Choice, Policies
from arbstr.core.price import Price
from arbstr.core.route import Conditions, plan
from arbstr.core.tryout import Limits

CAPTURES = Path(__file__).parent / "captures"
type Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Capture:
    """One exchange. `chunks`: the sizes in which a chunked body came, () for any other.

    `whole` False: the capture ends before the response did. `charged_msats`: what the node took
    from the balance meanwhile; None where that was not measured.
    """

    name: str
    path: str
    fields: Fields
    body: bytes
    status: int
    answer_fields: Fields
    answer: bytes
    chunks: tuple[int, ...]
    whole: bool
    charged_msats: int | None

    @property
    def dialect(self) -> Dialect:
        """The API it was asked in."""
        found = by_path(self.path.partition("?")[0])
        assert found is not None
        return found

    def pieces(self) -> list[bytes]:
        """The answer's body as it came."""
        if not self.chunks:
            return [self.answer]
        ends = [sum(self.chunks[: n + 1]) for n in range(len(self.chunks))]
        return [self.answer[end - size : end] for end, size in zip(ends, self.chunks, strict=True)]


def load(name: str) -> Capture:
    """Read one folder of `CAPTURES`."""
    folder = CAPTURES / name
    line, fields, body = _split((folder / "request.http").read_bytes())
    status, answer_fields, answer = _split((folder / "response.http").read_bytes())
    meta = json.loads((folder / "meta.json").read_bytes())
    return Capture(
        name=name,
        path=line.split()[1],
        fields=fields,
        body=body,
        status=int(status.split()[1]),
        answer_fields=answer_fields,
        answer=answer,
        chunks=tuple(meta.get("chunks", ())),
        whole=meta.get("last_chunk_seen") is not False,
        charged_msats=meta.get("charged_msats"),
    )


def names() -> list[str]:
    """Every capture of a priced path that was answered."""
    found = []
    for folder in sorted(CAPTURES.iterdir()):
        method, path, *_ = (folder / "request.http").read_bytes().split()
        known = by_path(path.decode().partition("?")[0]) is not None
        if method == b"POST" and known and (folder / "meta.json").exists():
            found.append(folder.name)
    return found


def _split(raw: bytes) -> tuple[str, Fields, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (text.partition(":") for text in lines)
    return line, tuple((n.encode(), v.strip().encode("latin-1")) for n, _, v in pairs), body


def listed_models() -> tuple[Model, ...]:
    """What the captured node sold, and the models of ``odd_*``, which it did not list."""
    listed = read_listing(load("models_no_v1").answer, provider="node", now_ms=1)
    return (*listed, *(Model(name, "node", ODD_PRICE) for name in ODD_MODELS))


ODD_PRICE = Price(Decimal(1), Decimal(4), cached=Decimal("0.1"))
ODD_MODELS = (
    "odd-cached",
    "odd-error-event",
    "odd-error-event-nodone",
    "odd-no-done",
    "odd-no-usage",
    "odd-ok",
    "odd-usage-in-last-content",
)
"""Models that the captured node sold later; their prices follow from what it charged."""


# --- through the core -----------------------------------------------------------------------------


@dataclass
class Played:
    """What became of a capture."""

    exchange: Exchange
    commands: list[Command]

    @property
    def down(self) -> bytes:
        """What the client got: the pieces, the whole answer, the held-back end."""
        out = b"".join(c.data for c in self.commands if isinstance(c, Data))
        whole = next((c.body for c in self.commands if isinstance(c, Answer)), b"")
        tail = b"" if self.exchange.whole else b"".join(self.exchange.current.tryout.tail)
        return out + whole + tail


def play(capture: Capture, pieces: Iterable[bytes], models: Sequence[Model]) -> Played:
    """Play the capture through routing and the exchange. Raises BadBodyError, NoModelError."""
    members = read_members(capture.body)
    ask = capture.dialect.read_ask(members)
    route = plan(ask, Choice(None, "none"), Catalog(models), Policies(), Forecast(), Conditions())
    exchange = Exchange(
        Ticket(
            id=1,
            instance="i",
            endpoint=capture.path,
            client=None,
            dialect=capture.dialect,
            ask=ask,
            route=route,
            members=members,
            paid_once=any(name.lower() == b"x-cashu" for name, _ in capture.fields),
            started_ms=0,
            started_s=0.0,
        ),
        timing=Timing(),
        limits=Limits(),
        breakers=Breakers(),
        wall_ms=lambda: 0,
        jitter=lambda: 0.0,
    )
    commands = exchange.start(0.0)
    exchange.sent(1, 0.0, reused=False)
    commands += exchange.headers(1, capture.status, capture.answer_fields, 0.1)
    for piece in pieces:
        commands += exchange.data(1, piece, 0.2)
    if capture.whole:
        commands += exchange.end(1, 0.3)
    else:
        commands += exchange.error(1, "reset", "the connection was reset", 0.3)
    assert exchange.phase is Phase.SETTLING
    return Played(exchange, commands + exchange.settled())


# --- over sockets ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A request as the upstream got it."""

    path: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((v for n, v in self.fields if n.lower() == name), None)


class End(BaseException):
    """Raised by an answering function: what else happens to the connection."""


class Reset(End):
    """It is reset."""


class Close(End):
    """It is closed, whatever was announced."""


type Answering = Callable[[Asked], Iterator[bytes]]


@dataclass
class Upstream:
    """A server that answers with the bytes that `answering` gives for a request."""

    answering: Answering
    models: bytes
    url: str = ""


@contextmanager
def upstream(answering: Answering, models: bytes) -> Iterator[Upstream]:
    """Serve on a free port of 127.0.0.1. `models`: the body of ``GET /v1/models``."""
    served = Upstream(answering, models)

    class Handler(_Handler):
        owner = served

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Upstream

    def do_GET(self) -> None:
        body = self.owner.models
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        asked = Asked(self.path, tuple(self.headers.items()), body)
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            self._play(self.owner.answering(asked))

    def _play(self, steps: Iterator[bytes]) -> None:
        self.close_connection = True  # unless the answer has come to its end
        try:
            for step in steps:
                self.wfile.write(step)
                self.wfile.flush()
        except Reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            socket.close(self.connection.detach())  # now: the base would send a FIN before
        except Close:
            pass
        else:
            self.close_connection = False

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def as_captured(asked: Asked) -> Iterator[bytes]:
    """Answer with the capture that the header ``x-capture`` names, framed as it came."""
    capture = load(asked.header("x-capture") or "")
    yield (
        _status_line(capture.status)
        + b"".join(name + b": " + value + b"\r\n" for name, value in capture.answer_fields)
        + b"\r\n"
    )
    if not capture.chunks:
        yield capture.answer
    for piece in capture.pieces() if capture.chunks else ():
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    if not capture.whole:
        raise Reset
    if capture.chunks:
        yield b"0\r\n\r\n"
    raise Close


def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\n".encode()

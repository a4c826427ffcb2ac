"""What a dialect is: where each API keeps what routing, fallback and metering look at."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.body import BadBodyError, Members
from arbstr.core.errors import UpstreamError, read_error
from arbstr.core.price import Bill, read_bill
from arbstr.core.shapes import mapping, objects
from arbstr.core.sse import Event
from arbstr.core.usage import Usage

_ANY = msgspec.json.Decoder()
_NAMING_CHARS = 1 << 16


class Mark(enum.IntFlag):
    """What one event of a stream is. NOTHING: it only goes down, in its place."""

    NOTHING = 0
    CONTENT = 1
    """It carries text, a tool call or reasoning: the commit."""
    END = 2
    """The stream's end marker."""
    ERROR = 4
    """The upstream reports an error; the reader's `error` holds it."""
    USAGE_ONLY = 8
    """It carries usage and nothing else: dropped where the client did not ask for it."""
    BROKEN = 16
    """It is not what the dialect allows: no JSON, no object."""
    COST = 32
    """The cost event that a Routstr node sends after the end marker."""


class Facts(msgspec.Struct, frozen=True):
    """What a whole plain body says. `problem`: why it is no answer, None where it is one."""

    problem: str | None = None
    error: UpstreamError | None = None
    usage: Usage | None = None
    bill: Bill | None = None


class Judge(msgspec.Struct, frozen=True):
    """How one API's whole answers are judged.

    `holds`: the list without which it is no answer; `read_usage`: of its ``usage``; `failed`:
    whether it is an error under status 200, `failure` what is said of it where it says nothing.
    """

    holds: str
    read_usage: Callable[[Mapping[str, object]], Usage | None]
    failed: Callable[[Mapping[str, object]], bool] = lambda answer: bool(answer.get("error"))
    failure: str = "a 200 answer holds an error"
    may_be_empty: bool = True

    def __call__(self, body: bytes) -> Facts:
        """Judge a whole plain answer."""
        answer = as_object(body)
        if answer is None:
            return Facts("the answer is not a JSON object")
        usage, bill = self.read_usage(mapping(answer.get("usage"))), read_bill(answer)
        if self.failed(answer):
            return Facts(self.failure, read_error(answer, fallback=self.failure), usage, bill)
        held = answer.get(self.holds)
        if not isinstance(held, list) or not (objects(held) or self.may_be_empty):
            return Facts(f"the answer has no {self.holds}", None, usage, bill)
        return Facts(None, None, usage, bill)


class StreamReader:
    """What every reader keeps."""

    __slots__ = ("bill", "error", "usage")

    def __init__(self, _ask: Ask) -> None:
        self.usage: Usage | None = None
        self.bill: Bill | None = None
        self.error: UpstreamError | None = None


class Reader(Protocol):
    """Reads the events of one stream, in order."""

    usage: Usage | None
    bill: Bill | None
    error: UpstreamError | None

    def read(self, event: Event) -> Mark:
        """Say what `event` is, and remember what it tells."""
        ...

    @property
    def whole(self) -> bool:
        """Whether all has been said, so that a clean end without the end marker is no cut."""
        ...


class Problem(msgspec.Struct, frozen=True):
    """An error of ours or an upstream's, on its way to a client.

    `extra`: members of its error object.
    """

    status: int
    message: str
    type: str
    code: str | None
    extra: Mapping[str, object] = {}


class Dialect(msgspec.Struct, frozen=True):
    """One API. Pure functions over its shapes; nothing else in arbstr asks for a dialect's name.

    `paths`: where it is served, without a query. `raises`: whether the official clients raise at
    this error event of an upstream's; one that they pass over in silence is said again in our
    words. `end_event`: what we add where a whole stream
    lacks its end marker. `bill_follows_end`: whether a node sends its cost event after the end
    marker. `metered`: whether its answers are judged, priced and fallen back for.
    """

    name: str
    paths: tuple[str, ...]
    read_ask: Callable[[Members], Ask]
    edits: Callable[[Members, Ask, str, int | None], Mapping[str, bytes]]
    read_body: Callable[[bytes], Facts]
    reader: Callable[[Ask], Reader]
    error_body: Callable[[Problem], bytes]
    error_event: Callable[[Problem], bytes]
    raises: Callable[[Event], bool] = lambda _: True
    end_event: bytes = b""
    bill_follows_end: bool = False
    metered: bool = True


def read_model(members: Members) -> str:
    """The model asked for. Raises BadBodyError for none, or one that is no string."""
    model = members.value("model")
    if model is None:
        raise BadBodyError("the body names no model: `model` is missing", "missing_model")
    if not isinstance(model, str) or not model:
        raise BadBodyError("`model` must be a string that is not empty", "invalid_model_type")
    return model


def positive(members: Members, *names: str) -> int | None:
    """The first of these members that is a whole number over 0."""
    for name in names:
        value = members.value(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def as_object(data: bytes | None) -> dict[str, object] | None:
    """Decode one JSON object; None for anything else."""
    if data is None:
        return None
    try:
        value = _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def fingerprint(*contents: object) -> str:
    """A short hash that names a conversation by the contents of its first messages.

    By their texts where they have any: marks such as ``cache_control`` wander from turn to turn.
    Of a very long one its length, its start and its end have to do.
    """
    digest = hashlib.blake2b(digest_size=9)
    for content in contents:
        text = texts(content)
        if len(text) > 2 * _NAMING_CHARS:
            text = f"{len(text)}{text[:_NAMING_CHARS]}{text[-_NAMING_CHARS:]}"
        digest.update(msgspec.json.encode(text or content))
    return digest.hexdigest()


def error_object(problem: Problem) -> dict[str, object]:
    """The ``error`` object of OpenAI's shape; what the upstream said of it stays as it is."""
    return {
        "message": problem.message,
        "type": problem.type,
        "code": problem.code,
        **problem.extra,
    }


def openai_error(problem: Problem) -> bytes:
    """``{"error": {message, type, code, ...}}``: chat, responses, embeddings."""
    return msgspec.json.encode({"error": error_object(problem)})


def common_edits(members: Members, model: str, limit: int | None, name: str) -> dict[str, bytes]:
    """The edits every dialect needs: the model, and a lowered output limit in member `name`."""
    changes: dict[str, bytes] = {}
    if members.value("model") != model:
        changes["model"] = msgspec.json.encode(model)
    if limit is not None:
        changes[name] = msgspec.json.encode(limit)
    return changes


def texts(content: object) -> str:
    """The text of a message's content: a string, or the ``text`` of its parts, joined by LF."""
    if isinstance(content, str):
        return content
    parts = (part.get("text") for part in objects(content))
    return "\n".join(text for text in parts if isinstance(text, str))


def length(items: object) -> int:
    """How many items a list has; 0 for anything else."""
    return len(items) if isinstance(items, list) else 0


def image_bytes(url: object) -> int:
    """The size of an image that is carried in the body as a data URL or as base64."""
    return len(url) if isinstance(url, str) else 0

"""What an exchange is told at its start, what it orders, and what it keeps of each attempt."""

from __future__ import annotations

import enum

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.attempt import Failure
from arbstr.core.body import Members
from arbstr.core.dialects import Dialect
from arbstr.core.record import Outcome
from arbstr.core.route import Candidate, Route
from arbstr.core.tryout import Tryout


class Phase(enum.Enum):
    """Where a request is."""

    TRYING = enum.auto()
    PAUSED = enum.auto()
    STREAMING = enum.auto()
    SETTLING = enum.auto()
    DONE = enum.auto()


class Timing(msgspec.Struct, frozen=True):
    """Limits of one request, in seconds and tries."""

    max_attempts: int = 4
    first_token_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 600.0


class Ticket(msgspec.Struct, frozen=True):
    """What is known of a request before its first attempt. Times: UTC ms and monotonic seconds.

    `members`: the client's body, None for a request that passes through as it is.
    `paid_once`: paid by ``X-Cashu``, never sent twice.
    """

    id: int
    instance: str
    endpoint: str
    client: str | None
    dialect: Dialect
    ask: Ask
    route: Route
    members: Members | None
    paid_once: bool
    started_ms: int
    started_s: float


# --- commands -----------------------------------------------------------------------------------


class Try(msgspec.Struct, frozen=True):
    """Send attempt `n` to its candidate. `fresh`: on a new connection."""

    n: int
    candidate: Candidate
    fresh: bool = False


class Pause(msgspec.Struct, frozen=True):
    """Wait, then call `resume`."""

    seconds: float


class Head(msgspec.Struct, frozen=True):
    """The commit of a streamed answer: its head goes down."""

    attempt: Attempt


class Data(msgspec.Struct, frozen=True):
    """Bytes of a streamed answer go down."""

    data: bytes


class Settle(msgspec.Struct, frozen=True):
    """The row is ready: write it, then call `settled`."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer goes down: `attempt`'s own head, or none for an error of ours."""

    status: int
    body: bytes
    attempt: Attempt | None = None
    retry_after: str | None = None


class Finish(msgspec.Struct, frozen=True):
    """The streamed answer is complete."""


class Abort(msgspec.Struct, frozen=True):
    """What went down is not whole and cannot say so itself: close the client's connection on it."""


class Cancel(msgspec.Struct, frozen=True):
    """Attempt `n` is of no more use: close it."""

    n: int


class Late(msgspec.Struct, frozen=True):
    """An attempt that was given up has been read to its end after the row was written."""

    attempt: Attempt


type Command = Try | Pause | Head | Data | Settle | Answer | Finish | Abort | Cancel | Late


class Attempt:
    """One upstream try: where it went, what came of it. Times are monotonic seconds and UTC ms."""

    def __init__(
        self, n: int, candidate: Candidate, tryout: Tryout, now_s: float, now_ms: int
    ) -> None:
        self.n = n
        self.candidate = candidate
        self.tryout = tryout
        self.started_s = now_s
        self.started_ms = now_ms
        self.last_byte_s = now_s
        self.reused = False
        self.first_token_s: float | None = None
        self.ended_s: float | None = None
        self.outcome: Outcome = "in_flight"
        self.failure: Failure | None = None
        self.over = False
        """Its response has ended, or will never."""
        self.read_on = False
        """It was given up before its end, and is read on for its bill."""

    @property
    def error_code(self) -> str | None:
        """For ``attempts.error_code``."""
        return None if self.failure is None else self.failure.code

    def close(self, outcome: Outcome, now_s: float, failure: Failure | None = None) -> None:
        """Its end, as far as the client is concerned."""
        self.outcome = outcome
        self.failure = failure or self.failure
        self.ended_s = now_s
        self.read_on = self.tryout.unpaid and not self.over

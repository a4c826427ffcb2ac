"""One client request from its first attempt to its last byte: a state machine without I/O.

Events go in, commands come out; `proxy/stream.py` turns them into mitmproxy's. The way of a
request::

    start --> TRYING --(failure: the verdict table)--> TRYING | PAUSED | SETTLING with an error
                |
                | first token, or a whole good body: the commit
                v
            STREAMING --(end, cut, stall, error event)--> SETTLING --(row is in the ledger)--> DONE

Until the commit nothing goes to the client. After it there is no second attempt. Whatever comes
from the end marker on waits in SETTLING until the ledger has the row. An attempt that is given up
by time-out, or whose client left, is read on to its end, because the node bills it anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from arbstr.core import last_word
from arbstr.core.attempt import Failure, Kind, Then, Verdict, decide
from arbstr.core.breaker import EVERYWHERE, Breakers
from arbstr.core.dialects.base import Problem
from arbstr.core.errors import STREAM_INTERRUPTED, UPSTREAM_ERROR
from arbstr.core.orders import (
    Abort,
    Answer,
    Attempt,
    Cancel,
    Command,
    Data,
    Finish,
    Head,
    Late,
    Pause,
    Phase,
    Settle,
    Ticket,
    Timing,
    Try,
)
from arbstr.core.record import Outcome
from arbstr.core.route import Candidate
from arbstr.core.tryout import Headers, Limits, Tryout
from arbstr.core.veil import NO_KEYS, Keys, Veil, redacted

__all__ = [
    "Abort",
    "Answer",
    "Attempt",
    "Cancel",
    "Command",
    "Data",
    "Exchange",
    "Finish",
    "Head",
    "Late",
    "Pause",
    "Phase",
    "Settle",
    "Ticket",
    "Timing",
    "Try",
]

COST_WAIT_S = 2.0
"""How long the end of an answer waits for a bill that comes after it."""


class Exchange:
    """Decides, event by event.

    Lives on the event loop; every call is told the time (monotonic s).
    """

    def __init__(
        self,
        ticket: Ticket,
        *,
        timing: Timing,
        limits: Limits,
        breakers: Breakers,
        wall_ms: Callable[[], int],
        jitter: Callable[[], float],
        may_try: Callable[[Candidate], bool] = lambda _: True,
        keys: Keys = NO_KEYS,
    ) -> None:
        """`may_try`: asked before each further candidate; a cap on the day's cost may say no.

        `keys`: masked in everything that an upstream says.
        """
        self.ticket = ticket
        self.phase = Phase.TRYING
        self.attempts: list[Attempt] = []
        self.answering: Attempt | None = None
        self.outcome: Outcome = "in_flight"
        self.status: int | None = None
        self.problem: Problem | None = None
        self.client_here = True
        self.first_token_s: float | None = None
        self.ended_s: float | None = None
        self._timing = timing
        self._limits = limits
        self._breakers = breakers
        self._wall_ms = wall_ms
        self._redact = keys.redact
        self._jitter = jitter
        self._may_try = may_try
        self._veil = Veil(keys)
        self._left = list(ticket.route.candidates)
        self._retried: set[int] = set()
        self._paused: tuple[Candidate, bool] | None = None
        self.whole: Answer | None = None
        self._cost_by_s: float | None = None

    # --- what the doer asks -----------------------------------------------------------------------

    @property
    def current(self) -> Attempt:
        """The newest attempt."""
        return self.attempts[-1]

    def body_for(self, candidate: Candidate) -> bytes | None:
        """The body to send to `candidate`; None: the client's, unchanged."""
        members = self.ticket.members
        if members is None:
            return None
        dialect, ask = self.ticket.dialect, self.ticket.ask
        changes = dialect.edits(members, ask, candidate.model.id, candidate.max_tokens)
        return members.edited(changes) if changes else None

    def deadline_s(self) -> float | None:
        """When `tick` has something to do; None where nothing is waited for."""
        if self.phase not in (Phase.TRYING, Phase.STREAMING) or not self.attempts:
            return None
        return min(limit for limit, _, _ in self._clocks())

    # --- events -----------------------------------------------------------------------------------

    def start(self, now_s: float) -> list[Command]:
        """The first attempt."""
        return self._try(self._left.pop(0), now_s)

    def sent(self, n: int, now_s: float, *, reused: bool) -> None:
        """Attempt `n` is on its way; `reused`: on a connection that has served before."""
        attempt = self.attempts[n - 1]
        attempt.reused = reused
        attempt.last_byte_s = now_s

    def headers(self, n: int, status: int, headers: Headers, now_s: float) -> list[Command]:
        """The head of attempt `n`'s response."""
        attempt = self.attempts[n - 1]
        attempt.last_byte_s = now_s
        attempt.tryout.head(status, headers)
        return self._look(attempt, now_s)

    def data(self, n: int, data: bytes, now_s: float) -> list[Command]:
        """Bytes of attempt `n`'s response."""
        attempt = self.attempts[n - 1]
        attempt.last_byte_s = now_s
        attempt.tryout.data(data)
        return self._look(attempt, now_s)

    def end(self, n: int, now_s: float) -> list[Command]:
        """Attempt `n`'s response has ended cleanly."""
        attempt = self.attempts[n - 1]
        attempt.over = True
        attempt.tryout.end(now_ms=self._wall_ms())
        return self._look(attempt, now_s)

    def error(self, n: int, kind: Kind, message: str, now_s: float) -> list[Command]:
        """Attempt `n` could not connect, or its connection broke."""
        attempt = self.attempts[n - 1]
        attempt.over = True
        tryout = attempt.tryout
        tryout.waits_for_cost = False
        if tryout.token and not tryout.ended:
            tryout.broken = tryout.broken or f"the connection broke: {message}"
        elif not tryout.ended:
            idle = attempt.reused and kind == "reset" and tryout.status is None
            tryout.failure = tryout.failure or Failure(kind, message, kind, idle_reused=idle)
        return self._look(attempt, now_s)

    def tick(self, now_s: float, *, backlog: bool) -> list[Command]:
        """Time has passed. `backlog`: the client is slow, so nothing was read from the upstream."""
        if self.phase not in (Phase.TRYING, Phase.STREAMING) or not self.attempts:
            return []
        if backlog:
            self.current.last_byte_s = now_s
        limit, what, message = min(self._clocks())
        if now_s < limit:
            return []
        if what == "cost" or self.current.tryout.ended:
            return self._no_more_cost(now_s)
        return self._timed_out(what, message, now_s)

    def resume(self, now_s: float) -> list[Command]:
        """The pause is over."""
        if self.phase is not Phase.PAUSED or self._paused is None:
            return []
        if not self.client_here:
            return self._settle("client_closed", now_s)
        candidate, fresh = self._paused
        return self._try(candidate, now_s, fresh=fresh)

    def client_left(self, now_s: float) -> list[Command]:
        """The client is gone. What is under way is read to its end; nothing new is sent."""
        self.client_here = False
        if self.phase is Phase.TRYING and not self.attempts:
            return self._settle("client_closed", now_s)
        return []

    def shut_down(self, now_s: float) -> list[Command]:
        """The proxy stops: what is under way ends now, as an interruption."""
        if self.phase in (Phase.SETTLING, Phase.DONE) or not self.attempts:
            return []
        if self.current.tryout.ended:
            return self._no_more_cost(now_s)
        if self.answering is not None:
            return self._interrupt("the proxy was shut down", now_s)
        stopped = Failure("reset", "the proxy was shut down", "shut_down")
        self.current.close("interrupted", now_s, stopped)
        return [
            Cancel(self.current.n),
            *self._fail(last_word.no_answer(self.attempts, "the proxy was shut down", 503), now_s),
        ]

    def settled(self) -> list[Command]:
        """The row is in the ledger, or will not be in time: the rest goes down."""
        self.phase = Phase.DONE
        if not self.client_here:
            return []
        if self.whole is not None:
            return [self.whole]
        if self.outcome == "interrupted" and not self.ticket.dialect.metered:
            return [Abort()]
        return [Finish()]

    # --- attempts ---------------------------------------------------------------------------------

    def _try(self, candidate: Candidate, now_s: float, *, fresh: bool = False) -> list[Command]:
        self.phase = Phase.TRYING
        self._paused = None
        n = len(self.attempts) + 1
        tryout = Tryout(self.ticket.dialect, self.ticket.ask, self._limits)
        self.attempts.append(Attempt(n, candidate, tryout, now_s, self._wall_ms()))
        self._breakers.attempt(candidate.model.provider, candidate.model.id, now_s)
        return [Try(n, candidate, fresh)]

    def _look(self, attempt: Attempt, now_s: float) -> list[Command]:
        """What has become of `attempt`, and what follows."""
        tryout = attempt.tryout
        if attempt.outcome != "in_flight" or self.phase in (Phase.SETTLING, Phase.DONE):
            return self._look_late(attempt)
        if tryout.token and attempt.first_token_s is None:
            attempt.first_token_s = now_s
            if self.first_token_s is None:
                self.first_token_s = now_s
        if self.answering is None:
            if tryout.failure is not None:
                return self._failed(attempt, tryout.failure, now_s)
            if not tryout.token:
                return []
            self.answering = attempt
            self.status = tryout.status
            self._succeed(attempt)
            if tryout.shape == "plain":
                return self._whole_answer(attempt, now_s)
            self.phase = Phase.STREAMING
            return [Head(attempt), *self._flow(attempt, now_s)]
        return self._flow(attempt, now_s)

    def _flow(self, attempt: Attempt, now_s: float) -> list[Command]:
        """After the commit: pass on, and see whether this was the end."""
        tryout = attempt.tryout
        out = self._veil.feed(tryout.take())
        commands: list[Command] = [Data(out)] if out and self.client_here else []
        if tryout.waits_for_cost:
            if self._cost_by_s is None:
                self._cost_by_s = now_s + COST_WAIT_S
        elif tryout.broken is not None:
            return commands + self._interrupt(tryout.broken, now_s)
        elif tryout.ended:
            return commands + self._whole_answer(attempt, now_s)
        return commands

    def _whole_answer(self, attempt: Attempt, now_s: float) -> list[Command]:
        tryout = attempt.tryout
        status = tryout.status or 200
        if tryout.shape == "plain":
            self.whole = Answer(status, self._veil.mask(tryout.body), attempt)
        attempt.close("ok" if status < 400 else "error", now_s)
        return self._settle(attempt.outcome if self.client_here else "client_closed", now_s)

    def _no_more_cost(self, now_s: float) -> list[Command]:
        """The answer is decided; its bill is waited for no longer. Should it come, it is `Late`."""
        self.current.tryout.waits_for_cost = False
        return self._look(self.current, now_s)

    def _look_late(self, attempt: Attempt) -> list[Command]:
        """News of an attempt that was given up, or of one whose answer is already whole."""
        attempt.tryout.take()
        if not attempt.over or not attempt.read_on:
            return []
        attempt.read_on = False
        return [Late(attempt)] if self.phase in (Phase.SETTLING, Phase.DONE) else []

    # --- failures ---------------------------------------------------------------------------------

    def _failed(self, attempt: Attempt, failure: Failure, now_s: float) -> list[Command]:
        """Nothing was committed: look up what is next."""
        failure = self._without_keys(failure)
        retried = id(attempt.candidate) in self._retried
        verdict = decide(failure, tried_before=retried, paid_once=self.ticket.paid_once)
        attempt.close("error" if self.client_here else "client_closed", now_s, failure)
        self._note_failure(attempt, failure, verdict, now_s)
        if not self.client_here:
            return self._settle("client_closed", now_s)
        if len(self.attempts) < self._timing.max_attempts:
            if verdict.then in (Then.SAME_FRESH, Then.SAME_AFTER_WAIT):
                self._retried.add(id(attempt.candidate))
                return self._again(attempt.candidate, verdict, now_s)
            if (following := self._next(attempt.candidate, verdict.then)) is not None:
                self._left.remove(following)
                return self._try(following, now_s)
        return self._fail(last_word.of(self.attempts, failure), now_s)

    def _without_keys(self, failure: Failure) -> Failure:
        """`failure` as it may be told: an upstream's error may quote the key that it was sent."""
        error = failure.error
        if error is not None:
            error = msgspec.structs.replace(
                error,
                message=self._redact(error.message),
                type=self._redact(error.type),
                code=None if error.code is None else self._redact(error.code),
                members={k: redacted(v, self._redact) for k, v in error.members.items()},
            )
        message, code = self._redact(failure.message), self._redact(failure.code)
        return msgspec.structs.replace(failure, message=message, code=code, error=error)

    def _again(self, candidate: Candidate, verdict: Verdict, now_s: float) -> list[Command]:
        if verdict.then is Then.SAME_FRESH:
            return self._try(candidate, now_s, fresh=True)
        self.phase = Phase.PAUSED
        self._paused = (candidate, False)
        return [Pause(verdict.wait_s + self._jitter())]

    def _next(self, failed: Candidate, then: Then) -> Candidate | None:
        """The next candidate that may do better than `failed`; None where there is none."""
        fits: Callable[[Candidate], bool] = {
            Then.NEXT: lambda _: True,
            Then.NEXT_LARGER_CONTEXT: lambda c: _more(c.model.context, failed.model.context),
            Then.NEXT_SMALLER_RESERVATION: lambda c: _more(
                failed.reservation_msats, c.reservation_msats
            ),
            Then.NEXT_OTHER_PROVIDER: lambda c: c.model.provider not in self._refusing(),
        }.get(then, lambda _: False)
        return next((c for c in self._left if fits(c) and self._may_try(c)), None)

    def _refusing(self) -> set[str]:
        """The providers that refuse our key."""
        return {
            a.candidate.model.provider
            for a in self.attempts
            if a.failure is not None and a.failure.fault == "node_key"
        }

    def _note_failure(
        self, attempt: Attempt, failure: Failure, verdict: Verdict, now_s: float
    ) -> None:
        provider, model = attempt.candidate.model.provider, attempt.candidate.model.id
        if verdict.unlist:
            # A 404 may mean the path: only an error that speaks of the model is about all paths.
            where = EVERYWHERE if failure.fault == "model" else self.ticket.dialect.name
            self._breakers.unlist(provider, model, where, now_s)
        if verdict.rest_s > 0:
            self._breakers.rest(provider, model, now_s + verdict.rest_s)
        if verdict.counts and self.ticket.dialect.metered:
            self._breakers.failure(provider, model, now_s, failure.message)

    def _succeed(self, attempt: Attempt) -> None:
        first = attempt.first_token_s
        ttft_ms = None if first is None else (first - attempt.started_s) * 1000
        model = attempt.candidate.model
        if self.ticket.dialect.metered:
            self._breakers.success(model.provider, model.id, ttft_ms=ttft_ms)

    # --- time -------------------------------------------------------------------------------------

    def _clocks(self) -> list[tuple[float, str, str]]:
        """(when, which, what to say) of every clock that runs."""
        timing, attempt = self._timing, self.current
        clocks = [
            (
                self.ticket.started_s + timing.total_s,
                "total",
                f"no complete answer within {timing.total_s:g} s",
            )
        ]
        if self._cost_by_s is not None:
            clocks.append((self._cost_by_s, "cost", ""))
        elif self.answering is not None:
            message = f"no byte for {timing.idle_s:g} s"
            clocks.append((attempt.last_byte_s + timing.idle_s, "idle", message))
        elif self._has_next():
            message = f"no token within {timing.first_token_s:g} s"
            clocks.append((attempt.started_s + timing.first_token_s, "first_token", message))
        return clocks

    def _has_next(self) -> bool:
        return (
            bool(self._left)
            and len(self.attempts) < self._timing.max_attempts
            and (not self.ticket.paid_once and self.client_here)
        )

    def _timed_out(self, what: str, message: str, now_s: float) -> list[Command]:
        """A clock ran out. The attempt is read on in the background: its bill will come."""
        attempt = self.current
        failure = Failure("timeout", message, f"{what}_timeout")
        if self.answering is not None:
            attempt.failure = failure
            return self._interrupt(message, now_s)
        if what == "total":
            attempt.close("error" if self.client_here else "client_closed", now_s, failure)
            if not self.client_here:
                return self._settle("client_closed", now_s)
            return self._fail(last_word.no_answer(self.attempts, message), now_s)
        return self._failed(attempt, failure, now_s)

    # --- ends -------------------------------------------------------------------------------------

    def _interrupt(self, message: str, now_s: float) -> list[Command]:
        """It broke after the commit: the client is told in its own dialect, and so is the row."""
        attempt = self.current
        tryout = attempt.tryout
        text = self._redact(message)
        self.problem = Problem(502, text, UPSTREAM_ERROR, STREAM_INTERRUPTED)
        tryout.broken = tryout.broken or text  # what still comes is read for its bill alone
        if not tryout.tail:
            tryout.tail = [self.ticket.dialect.error_event(self.problem)]
        failure = attempt.failure or Failure("reset", text, STREAM_INTERRUPTED)
        outcome: Outcome = "interrupted" if self.client_here else "client_closed"
        attempt.close(outcome, now_s, failure)
        return self._settle(outcome, now_s)

    def _fail(self, problem: Problem, now_s: float) -> list[Command]:
        """Nobody is left: an error goes down."""
        self.problem = problem
        self.status = problem.status
        last = self.attempts[-1]
        if self.ticket.paid_once and last.tryout.status is not None and last.over:
            self.status = last.tryout.status
            self.whole = Answer(last.tryout.status, self._veil.mask(last.tryout.body), last)
        else:
            body = self.ticket.dialect.error_body(problem)
            self.whole = Answer(
                problem.status, body, retry_after=last_word.retry_after(self.attempts, self.status)
            )
        return self._settle("error", now_s)

    def _settle(self, outcome: Outcome, now_s: float) -> list[Command]:
        self.outcome = outcome
        self.ended_s = now_s
        self.phase = Phase.SETTLING
        if self.answering is not None and self.whole is None:
            tail = self._veil.mask(self._veil.flush() + b"".join(self.answering.tryout.tail))
            self.answering.tryout.tail = [tail]
        for attempt in self.attempts:
            if attempt.outcome == "in_flight":
                attempt.close(outcome, now_s)
        return [Settle()]


def _more(value: float | None, than: float | None) -> bool:
    """Whether `value` is larger; what nobody knows may be."""
    return value is None or than is None or value > than

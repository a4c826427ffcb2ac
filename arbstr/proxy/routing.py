"""From a client's request to its ticket: what is asked, under whose rules, and who is tried."""

from __future__ import annotations

import secrets
import time

import msgspec
from mitmproxy import http

from arbstr.core.ask import Ask
from arbstr.core.body import BadBodyError, Members, read_members
from arbstr.core.catalog import Model
from arbstr.core.dialects import PASS_THROUGH, Dialect
from arbstr.core.dialects.base import Problem
from arbstr.core.exchange import Ticket
from arbstr.core.policy import Choice, UnknownPolicyError
from arbstr.core.route import Candidate, NoModelError, Route
from arbstr.proxy import guard
from arbstr.proxy.messages import value, values
from arbstr.proxy.state import State
from arbstr.proxy.world import World, wall_ms

_RANDOM_BITS = 20
_SESSIONS = (b"x-claude-code-session-id", b"session-id", b"x-session-id")
"""Headers in which a client names its conversation."""


class Refused(Exception):  # noqa: N818 - it is an answer, not a defect
    """A request that we answer ourselves with an error."""

    def __init__(self, problem: Problem, ticket: Ticket | None = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.ticket = ticket


class Router:
    """Makes tickets. Reserves nothing, sends nothing."""

    def __init__(self, instance: str, world: World) -> None:
        self._instance = instance
        self._world = world
        self._last_id = 0

    def ticket(
        self, flow: http.HTTPFlow, request: http.Request, dialect: Dialect, state: State
    ) -> Ticket:
        """Read and route a metered request. `request`: with its secrets. Raises Refused."""
        try:
            members = read_members(
                request.raw_content or b"", max_depth=state.config.limits.json_depth
            )
            ask = _read_ask(request, dialect, members, state)
            members.shrink()
        except BadBodyError as error:
            blank = self._ticket(flow, dialect, _no_route(Ask(dialect.name, "")), None)
            problem = Problem(error.status, str(error), "invalid_request_error", error.code)
            raise Refused(problem, blank) from None
        try:
            choice = _choose(request, ask, state)
            route = self._world.plan(ask, choice)
        except UnknownPolicyError as error:
            blank = self._ticket(flow, dialect, _no_route(ask), members)
            problem = Problem(400, str(error), "invalid_request_error", "unknown_policy")
            raise Refused(problem, blank) from None
        except NoModelError as error:
            blank = self._ticket(flow, dialect, _no_route(ask, choice), members)
            raise Refused(_no_model(error), blank) from None
        return self._ticket(flow, dialect, route, members, ask)

    def pass_through(self, flow: http.HTTPFlow, state: State) -> Ticket:
        """A request that is not ours to judge goes to the first provider, as it is."""
        provider = state.config.providers[0]
        model = Model(id="", provider=provider.name, source="assumed")
        candidate = Candidate(model, None, 0.0, 0.0, 0.0, 0.0)
        route = Route(Choice(None, "none"), "", (candidate,))
        return self._ticket(flow, PASS_THROUGH, route, None)

    def _ticket(
        self,
        flow: http.HTTPFlow,
        dialect: Dialect,
        route: Route,
        members: Members | None,
        ask: Ask | None = None,
    ) -> Ticket:
        request = flow.request
        return Ticket(
            id=self._new_id(),
            instance=self._instance,
            endpoint=request.path.partition("?")[0],
            client=_client(flow),
            dialect=dialect,
            ask=ask or Ask(dialect.name, route.requested),
            route=route,
            members=members,
            paid_once=bool(values(request, b"x-cashu")),
            started_ms=wall_ms(),
            started_s=time.monotonic(),
        )

    def _new_id(self) -> int:
        """Ms since the epoch, then random bits; never the same twice in one process."""
        fresh = wall_ms() << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        self._last_id = max(fresh, self._last_id + 1)
        return self._last_id


def _read_ask(request: http.Request, dialect: Dialect, members: Members, state: State) -> Ask:
    ask = dialect.read_ask(members)
    most = state.config.limits.messages
    if ask.messages > most:
        message = f"{ask.messages:,} messages are more than {most:,}"
        raise BadBodyError(message, "too_many_messages")
    for name in _SESSIONS:
        if (session := _header(request, name)) is not None:
            return msgspec.structs.replace(ask, conversation=session)
    return ask


def _choose(request: http.Request, ask: Ask, state: State) -> Choice:
    return state.selector.choose(
        header=_header(request, b"x-arbstr-policy"),
        model=ask.model,
        text=ask.last_user_text,
        user_agent=_header(request, b"user-agent") or "",
        key=guard.bearer(request),
    )


def _client(flow: http.HTTPFlow) -> str | None:
    """Who asked: the client's user agent; a replay is recorded as one."""
    agent = _header(flow.request, b"user-agent")
    return f"replay of {agent or 'unknown'}" if flow.is_replay == "request" else agent


def _header(request: http.Request, name: bytes) -> str | None:
    """A header as text that can be stored and sent on: it may have come as any bytes."""
    found = value(request, name)
    if found is None or found.isascii():
        return found
    return found.encode(errors="surrogateescape").decode(errors="replace")


def _no_route(ask: Ask, choice: Choice | None = None) -> Route:
    return Route(choice or Choice(None, "none"), ask.model, ())


def _no_model(error: NoModelError) -> Problem:
    refusals = [
        {"provider": r.provider, "model": r.model, "reason": r.reason} for r in error.refusals
    ]
    extra: dict[str, object] = {"refusals": refusals}
    if error.near:
        extra["near"] = list(error.near)
    return Problem(error.status, error.message, "invalid_request_error", error.code, extra)

"""Whether one model can do one request, and what that would cost there.

`Fit` is made once for a request and looks at its models one after the other. The checks run from
the cheapest to the dearest, and a daily cap comes last: a model that it alone keeps out would do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.caps import CapHit
from arbstr.core.catalog import Model
from arbstr.core.conditions import Conditions
from arbstr.core.forecast import Expectation, Outlook
from arbstr.core.policy import Choice, Policies
from arbstr.core.price import sats
from arbstr.core.shortlist import Kind, Refusal, unpriced

TURNS_AHEAD = 4
"""How far a conversation is looked ahead: a few turns, for nobody knows when it ends."""

RESERVED_SHARE = 0.99
"""A node reserves its maximum less 1 % (routstr.md, "Prices")."""

LEAST_TOKENS = 16
"""A shorter answer than this is none; the model is refused instead."""

LATE_RESERVATION = 1
LATE_CIRCUIT = 2


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A model to try, and what it is expected to use and cost.

    `expected_msats` None: its price is not known. `reservation_msats`: what the seller will hold
    while it answers, None where its ceiling is not known. `note`: what else there is to know, for
    people. `max_tokens`: to be sent in place of the client's own, so that the request stays under
    a cap. `turn_msats`: the cost of a turn over this one and the next ones, in a conversation that
    some model has in its cache. `late`: above 0 it is tried after all others.
    """

    model: Model
    expected_msats: float | None
    input_tokens: float
    cached_tokens: float
    output_tokens: float
    samples: float
    reservation_msats: float | None = None
    note: str | None = None
    max_tokens: int | None = None
    turn_msats: float | None = None
    late: int = 0


class Fit:
    """One request's view of the models. `over_cap`: the first daily cap that kept a model out."""

    def __init__(
        self, ask: Ask, choice: Choice, policies: Policies, outlook: Outlook, conditions: Conditions
    ) -> None:
        """`outlook`: the forecast for `ask` under the policy of `choice`."""
        self._ask = ask
        self._choice = choice
        self._outlook = outlook
        self._conditions = conditions
        self._warm = conditions.warm(ask)
        self._price_cap = _price_cap(choice, policies)
        self._now_ms = int(conditions.now_s * 1000)
        self._room_msats = math.inf
        if conditions.caps is not None:
            self._room_msats = conditions.caps.headroom_msats(choice.name, self._now_ms)
        self.over_cap: CapHit | None = None

    def look_at(self, model: Model) -> Candidate | Refusal:
        """The candidate that `model` is for this request, or why it is none."""
        if (refusal := self._cannot(model)) is not None:
            return refusal
        use = self._outlook.of(model.id, model.max_output)
        if (refusal := self._too_long(model, use)) is not None:
            return refusal
        cached, output = self._cached_tokens(model, use), use.output_tokens
        cost, max_tokens = _cost(model, use.input_tokens, cached, output), None
        if cost is None:
            if self._price_cap is not None:
                return unpriced(model, self._price_cap)
        else:
            rule = self._choice.rule
            cap = None if rule is None else rule.max_msats_per_request
            if cap is not None and cost > cap:
                max_tokens = self._lowered(model, cap - (cost - output * model.output_rate))
                if max_tokens is None:
                    return _over_request_cap(model, cost, cap)
                output = float(max_tokens * self._ask.choices)
                cost = _cost(model, use.input_tokens, cached, output)
            if cost is not None and cost > self._room_msats:
                return self._over_day_cap(model, cost)
        held = self._reservation(model, use.input_tokens, max_tokens)
        late, note = self._remarks(model, held, cached, max_tokens)
        turn = self._turn(model, use, cost) if self._warm is not None else None
        return Candidate(
            model,
            cost,
            use.input_tokens,
            cached,
            output,
            use.samples,
            held,
            note,
            max_tokens,
            turn,
            late,
        )

    def cheapest(self, models: Iterable[Model]) -> Model | None:
        """The one of these that would cost least, whether it fits or not; None without a price."""
        best, least = None, math.inf
        for model in models:
            use = self._outlook.of(model.id, model.max_output)
            cached = self._cached_tokens(model, use)
            cost = _cost(model, use.input_tokens, cached, use.output_tokens)
            if cost is not None and cost < least:
                best, least = model, cost
        return best

    def _cannot(self, model: Model) -> Refusal | None:
        """Why `model` cannot do this request at any length and price."""
        ask = self._ask
        if self._conditions.unlisted(model.provider, model.id):
            return _refusal(model, "unlisted", "the provider said that it does not sell it")
        if ask.tools and model.tools is False:
            return _refusal(model, "tools", "no tools")
        if ask.images and model.vision is False:
            return _refusal(model, "images", "no images")
        if ask.json_mode and model.json is False:
            return _refusal(model, "json", "no JSON mode")
        return None

    def _too_long(self, model: Model, use: Expectation) -> Refusal | None:
        """Whether prompt and answer exceed the context.

        The room an answer needs is the client's own limit, as sellers check it, but no more than
        the model ever writes or half of its context: some clients name a limit they never mean.
        """
        context = model.context
        if context is None:
            return None
        answer = use.output_tokens / max(1, self._ask.choices)
        if (limit := self._ask.max_output) is not None and self._ask.output:
            answer = min(limit, context // 2 if model.max_output is None else model.max_output)
        if use.input_tokens + answer <= context:
            return None
        needed = math.ceil(use.input_tokens + answer)
        parts = f"{math.ceil(use.input_tokens):,} in, {math.ceil(answer):,} out"
        return _refusal(
            model, "context", f"context {context:,} < {needed:,} tokens needed ({parts})"
        )

    def _cached_tokens(self, model: Model, use: Expectation) -> float:
        warm = self._warm
        if warm is None or (warm.model, warm.provider) != (model.id, model.provider):
            return 0.0
        return min(use.input_tokens, warm.cached_bytes / self._outlook.bytes_per_token(model.id))

    def _lowered(self, model: Model, room_msats: float) -> int | None:
        """The ``max_tokens`` whose output costs `room_msats`; None where that is no answer."""
        rule = self._choice.rule
        per_token = model.output_rate * self._ask.choices
        if rule is None or not rule.lower_max_tokens or per_token <= 0:
            return None
        tokens = int(room_msats / per_token)
        return tokens if tokens >= LEAST_TOKENS else None

    def _over_day_cap(self, model: Model, cost: float) -> Refusal:
        caps = self._conditions.caps
        hit = None if caps is None else caps.check(self._choice.name, cost, self._now_ms)
        self.over_cap = self.over_cap or hit
        return _refusal(model, "day_cap", str(hit))

    def _reservation(
        self, model: Model, input_tokens: float, max_tokens: int | None
    ) -> float | None:
        """What a node holds while it answers, msats (routstr.md, "Prices").

        Its ceiling, less what the prompt leaves of the longest prompt, less what the client's limit
        leaves of the longest answer. Checked against the amounts in the captures of 402.
        """
        if model.max_cost_msats is None:
            return None
        held = RESERVED_SHARE * float(model.max_cost_msats)
        context, longest = model.context or 0, model.max_output or 0
        unused = RESERVED_SHARE * (context - longest) - input_tokens
        if unused > 0:
            held -= unused * model.input_rate
        limit = max_tokens or self._ask.max_output
        if limit is not None and self._ask.reserves:
            unused = RESERVED_SHARE * (longest or context) - limit
            if unused > 0:
                held -= unused * model.output_rate
        return held if held > 0 else 0.0

    def _remarks(
        self, model: Model, held: float | None, cached: float, max_tokens: int | None
    ) -> tuple[int, str | None]:
        """How late a candidate comes, and its note."""
        is_open = self._conditions.open_circuits(model.provider, model.id)
        balance = None if held is None else self._conditions.balance_msats(model.provider)
        is_short = balance is not None and held is not None and held > balance
        if not (is_open or is_short or cached or max_tokens):
            return 0, None
        notes = []
        if cached:
            notes.append("warm cache")
        if max_tokens is not None:
            notes.append(f"max_tokens lowered to {max_tokens:,} (max_sats_per_request)")
        if is_short:
            notes.append(f"reserves {sats(held)} sats of {sats(balance)}")
        if is_open:
            notes.append("circuit open")
        return LATE_CIRCUIT if is_open else LATE_RESERVATION * is_short, ", ".join(notes)

    def _turn(self, model: Model, use: Expectation, cost: float | None) -> float | None:
        """The mean cost of a turn over this one and the next `TURNS_AHEAD`, msats.

        From the next turn on the prompt of the turn before is in this model's cache, and only what
        was added is new.
        """
        if cost is None or self._warm is None:
            return None
        is_warm = (self._warm.model, self._warm.provider) == (model.id, model.provider)
        caches = self._warm.caches or not is_warm
        grown = self._warm.growth_bytes / self._outlook.bytes_per_token(model.id)
        ahead = 0.0
        for n in range(TURNS_AHEAD):
            had = use.input_tokens + n * grown
            cached = had if caches else 0.0
            ahead += _cost(model, had + grown, cached, use.output_tokens) or 0.0
        return (cost + ahead) / (1 + TURNS_AHEAD)


def _cost(model: Model, input_tokens: float, cached: float, output: float) -> float | None:
    """The expected cost in msats (design.md, "Cheapest"); None for an unpriced model."""
    if model.price is None:
        return None
    fresh = (input_tokens - cached) * model.input_rate
    return fresh + cached * model.cached_rate + output * model.output_rate + model.base_fee


def _price_cap(choice: Choice, policies: Policies) -> str | None:
    """The cap under which a price must be known; None where there is none."""
    rule = choice.rule
    if rule is not None and rule.max_msats_per_request is not None:
        return "max_sats_per_request"
    if rule is not None and rule.max_msats_per_day is not None:
        return "max_sats_per_day"
    return None if policies.max_msats_per_day is None else "max_sats_per_day"


def _over_request_cap(model: Model, cost: float, cap: int) -> Refusal:
    reason = f"{sats(cost)} sats expected > {sats(cap)} allowed (max_sats_per_request)"
    return _refusal(model, "request_cap", reason)


def _refusal(model: Model, kind: Kind, reason: str) -> Refusal:
    return Refusal(model.provider, model.id, reason, kind)

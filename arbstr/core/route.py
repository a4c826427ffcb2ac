"""Which models are tried for a request, in what order, and why the others are not.

`plan` is the whole decision, as a value: live requests, ``/v1/cost``, ``arbstr explain`` and
``arbstr simulate`` all come here. It knows nothing of the world but what `Conditions` tells it.

Order. First the models that should work, then those whose reservation would not fit the balance,
last those whose circuit is open (they are tried when nothing else is left). Within each of these:
without a policy the requested model before its substitutes, in their order; then the strategy.
``lowest_cost``: expected cost, unpriced models last. ``lowest_latency``: time to the first token,
measured or else configured, unknown last; then cost. ``round_robin``: by name, from where it is
this request's turn. What is still even: fewer failures, then name.

In a conversation whose prompt is in a model's cache, cost means the cost of a turn over this one
and the `TURNS_AHEAD` after it: the warm model pays its cached rate now, any other the full rate,
and from the next turn on each would pay its own cached rate for a prompt that goes on growing.
"""

from __future__ import annotations

import math

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.caps import CapHit
from arbstr.core.catalog import Catalog, Model, plain_name
from arbstr.core.conditions import Conditions
from arbstr.core.fit import Candidate, Fit
from arbstr.core.forecast import Forecast
from arbstr.core.policy import Choice, Policies, Rule, Strategy
from arbstr.core.shortlist import Refusal, allows_name, first_exact_name, screen, shortlist

__all__ = ["Candidate", "CapHit", "Conditions", "NoModelError", "Refusal", "Route", "plan"]


class Route(msgspec.Struct, frozen=True):
    """The decision for one request.

    `candidates`: in the order they are to be tried, never empty. `refusals`: every allowed model
    that is not tried, and the requested one where the policy does not allow it. `outside`: all
    models that the policy does not allow. `baseline`: the requested model at its cheapest, where it
    is listed and priced. `over_cap`: a daily cap that kept a model out.
    """

    choice: Choice
    requested: str
    candidates: tuple[Candidate, ...]
    refusals: tuple[Refusal, ...] = ()
    outside: tuple[Refusal, ...] = ()
    baseline: Model | None = None
    over_cap: CapHit | None = None


class NoModelError(Exception):
    """No model can be tried. `status` and `code` are the answer to the client.

    404 ``model_not_found``: nobody lists such a model, `near` are names like it. 402
    ``cap_reached``: a model would do but for a cap. 400 ``context_length_exceeded``: the prompt is
    too long for each. 400 ``no_model_fits``: the `refusals` say why.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        refusals: tuple[Refusal, ...] = (),
        near: tuple[str, ...] = (),
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.refusals = refusals
        self.near = near
        super().__init__(message)


class _Wanted(msgspec.Struct):
    """The models to look at. Without a policy the groups are tried one after the other."""

    groups: tuple[tuple[Model, ...], ...]
    refusals: tuple[Refusal, ...] = ()
    outside: tuple[Refusal, ...] = ()


_REASONS = 5
"""How many refusals an error message spells out; all of them are in its `refusals`."""

type _Key = tuple[int, int, float, float, str, str]


def plan(  # noqa: PLR0917 - the six inputs of the one decision
    ask: Ask,
    choice: Choice,
    catalog: Catalog,
    policies: Policies,
    forecast: Forecast,
    conditions: Conditions,
) -> Route:
    """Decide who is tried for `ask`. Raises NoModelError where nobody can be."""
    wanted = _wanted(ask, choice, catalog, policies)
    fit = Fit(ask, choice, policies, forecast.outlook(ask, choice.name), conditions)
    strategy = "lowest_cost" if choice.rule is None else choice.rule.strategy
    keyed: list[tuple[_Key, Candidate]] = []
    refusals = list(wanted.refusals)
    for group, models in enumerate(wanted.groups):
        for model in models:
            found = fit.look_at(model)
            if isinstance(found, Refusal):
                refusals.append(found)
            else:
                keyed.append((_key(found, group, strategy, conditions), found))
    if not keyed:
        raise _nobody(ask, choice, catalog, tuple(refusals), fit.over_cap)
    keyed.sort(key=_by_key)
    if strategy == "round_robin":
        candidates = _rotated(keyed, choice, conditions)
    else:
        candidates = _untied(keyed, conditions)
    if choice.rule is not None and not choice.rule.fallback:
        candidates = candidates[:1]
    return Route(
        choice=choice,
        requested=ask.model,
        candidates=candidates,
        refusals=tuple(refusals),
        outside=wanted.outside,
        baseline=None if choice.any_model else fit.cheapest(catalog.find(ask.model)),
        over_cap=fit.over_cap,
    )


def _wanted(ask: Ask, choice: Choice, catalog: Catalog, policies: Policies) -> _Wanted:
    if (rule := choice.rule) is not None:
        return _allowed(ask, choice, rule, catalog)
    if choice.any_model:
        return _Wanted((catalog.models,))
    groups = [catalog.find(ask.model), *map(catalog.find, _substitutes(ask, catalog, policies))]
    # A provider whose list is not known may sell it too, but at a price that is not known either.
    groups[0] += catalog.assumed(ask.model)
    return _Wanted(tuple(groups))


def _allowed(ask: Ask, choice: Choice, rule: Rule, catalog: Catalog) -> _Wanted:
    short = shortlist(catalog, rule)
    models, refusals = short.models, short.refusals
    if catalog.open_providers:
        asked_for = not choice.any_model and allows_name(rule, ask.model)
        name = ask.model if asked_for else first_exact_name(rule)
        for model in () if name is None else catalog.assumed(name):
            refusal = screen(model, rule)
            models += (model,) if refusal is None else ()
            refusals += () if refusal is None else (refusal,)
    if not choice.any_model and short.outside:
        asked = {(m.provider, m.id) for m in catalog.find(ask.model)}
        refusals += tuple(r for r in short.outside if (r.provider, r.model) in asked)
    return _Wanted((models,), refusals, short.outside)


def _substitutes(ask: Ask, catalog: Catalog, policies: Policies) -> tuple[str, ...]:
    """The models that the user consents to in place of the requested one, in any spelling of it."""
    if not policies.substitutes:
        return ()
    if (exact := policies.substitutes.get(ask.model)) is not None:
        return exact
    names = {plain_name(ask.model)}
    for model in catalog.find(ask.model):
        names.update(map(plain_name, (model.id, *model.aliases)))
    found = (s for name, s in policies.substitutes.items() if plain_name(name) in names)
    return next(found, ())


def _key(found: Candidate, group: int, strategy: Strategy, conditions: Conditions) -> _Key:
    model = found.model
    cost = found.expected_msats if found.turn_msats is None else found.turn_msats
    cost = math.inf if cost is None else cost
    first = 0.0
    if strategy == "lowest_latency":
        latency = conditions.latency_ms(model.provider, model.id)
        latency = model.latency_ms if latency is None else latency
        first = math.inf if latency is None else float(latency)
    elif strategy == "round_robin":
        cost = 0.0
    return (found.late, group, first, cost, model.id, model.provider)


def _by_key(item: tuple[_Key, Candidate]) -> _Key:
    return item[0]


def _untied(keyed: list[tuple[_Key, Candidate]], conditions: Conditions) -> tuple[Candidate, ...]:
    """Those that are even in all but their names, by how often they failed."""
    before: tuple[object, ...] = ()
    for key, _ in keyed:
        if key[:4] == before:
            break
        before = key[:4]
    else:
        return tuple(candidate for _, candidate in keyed)

    def failures(item: tuple[_Key, Candidate]) -> tuple[object, ...]:
        key, candidate = item
        failed = conditions.failures(candidate.model.provider, candidate.model.id)
        return (*key[:4], failed, *key[4:])

    return tuple(candidate for _, candidate in sorted(keyed, key=failures))


def _rotated(
    keyed: list[tuple[_Key, Candidate]], choice: Choice, conditions: Conditions
) -> tuple[Candidate, ...]:
    """Begin at the one whose turn it is; those that come late take no turns."""
    candidates = tuple(candidate for _, candidate in keyed)
    good = sum(1 for candidate in candidates if not candidate.late)
    if good == 0:
        return candidates
    start = conditions.round_robin(choice.name or "", good) % good
    return candidates[start:good] + candidates[:start] + candidates[good:]


def _nobody(
    ask: Ask,
    choice: Choice,
    catalog: Catalog,
    refusals: tuple[Refusal, ...],
    over_cap: CapHit | None,
) -> NoModelError:
    """The error for a request that nobody can be tried for."""
    whose = "" if choice.rule is None else f" under policy {choice.rule.name}"
    considered = [r for r in refusals if r.kind != "not_allowed"]
    kinds = {r.kind for r in considered}
    if over_cap is not None:
        return NoModelError(402, "cap_reached", f"no model{whose} fits: {over_cap}", refusals)
    if "request_cap" in kinds:
        reason = next(r for r in considered if r.kind == "request_cap")
        message = f"no model{whose} fits: {reason.model}: {reason.reason}"
        return NoModelError(402, "cap_reached", message, refusals)
    if not kinds - {"unlisted"}:
        return _not_found(ask, choice, catalog, refusals)
    reasons = "; ".join(f"{r.model}: {r.reason}" for r in considered[:_REASONS])
    more = f"; and {len(considered) - _REASONS} more" if len(considered) > _REASONS else ""
    code = "context_length_exceeded" if kinds == {"context"} else "no_model_fits"
    return NoModelError(400, code, f"no model{whose} fits: {reasons}{more}", refusals)


def _not_found(
    ask: Ask, choice: Choice, catalog: Catalog, refusals: tuple[Refusal, ...]
) -> NoModelError:
    if choice.rule is not None:
        message = f"no provider lists a model that policy {choice.rule.name} allows"
        return NoModelError(404, "model_not_found", message, refusals)
    if choice.any_model:
        return NoModelError(404, "model_not_found", "no provider lists any model", refusals)
    near = tuple(name for name in catalog.near(ask.model) if name != ask.model)
    like = f"; near: {', '.join(near)}" if near else ""
    message = f"no provider lists the model {ask.model!r}{like}"
    return NoModelError(404, "model_not_found", message, refusals, near)

"""What a policy leaves of a catalog before any request is looked at.

`shortlist` depends on the catalog and the rule alone, and both are immutable, so its answers are
kept: with 300 models a request does not pay for the 280 that its policy never allows.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from arbstr.core.catalog import TIERS, Catalog, Model, plain_name
from arbstr.core.policy import Rule
from arbstr.core.price import MSATS_PER_SAT

type Kind = Literal[
    "not_allowed",
    "rate_cap",
    "tier",
    "unpriced",
    "unlisted",
    "tools",
    "images",
    "json",
    "context",
    "request_cap",
    "day_cap",
]

_GLOB = re.compile(r"[*?\[]")
_LITERAL = re.compile(r"[^*?\[\]!]")
_KEPT = 32
"""Shortlists kept: enough for the rules of one catalog; those of older catalogs fall out."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A model that is not tried, and why. `reason`: one phrase for people, with its figures."""

    provider: str
    model: str
    reason: str
    kind: Kind


class Shortlist(msgspec.Struct, frozen=True):
    """What is left. `outside`: the models that the rule does not allow at all."""

    models: tuple[Model, ...]
    refusals: tuple[Refusal, ...] = ()
    outside: tuple[Refusal, ...] = ()


@functools.lru_cache(maxsize=_KEPT)
def shortlist(catalog: Catalog, rule: Rule) -> Shortlist:
    """The models of `catalog` that `rule` allows, by name, output rate and tier.

    A name without a glob allows what the catalog finds under it, in any spelling. A glob allows
    what it matches as written, and in the folded spelling where that does not drop a vendor that
    both of them name.
    """
    allowed = _allowed(catalog, rule)
    models: list[Model] = []
    refusals: list[Refusal] = []
    outside: list[Refusal] = []
    for model in catalog.models:
        if allowed is not None and (model.provider, model.id) not in allowed:
            reason = f"not among the allowed_models of policy {rule.name}"
            outside.append(Refusal(model.provider, model.id, reason, "not_allowed"))
        elif (refusal := screen(model, rule)) is not None:
            refusals.append(refusal)
        else:
            models.append(model)
    return Shortlist(tuple(models), tuple(refusals), tuple(outside))


def screen(model: Model, rule: Rule) -> Refusal | None:
    """Why `rule` refuses `model` whatever the request: its output rate or its tier; None if not."""
    return _over_rate(model, rule) or _below_tier(model, rule)


def allows_name(rule: Rule, name: str) -> bool:
    """Whether `rule` allows a model of this name, listed or not."""
    if not rule.allowed_models:
        return True
    fold = plain_name(name)
    if any(plain_name(p) == fold for p in rule.allowed_models if not _GLOB.search(p)):
        return True
    return any(glob.matches((name,)) for glob in _globs(rule.allowed_models))


def first_exact_name(rule: Rule) -> str | None:
    """The first allowed model that is named without a glob."""
    return next((p for p in rule.allowed_models if not _GLOB.search(p)), None)


class _Glob(msgspec.Struct, frozen=True):
    """A glob as written, and one on folded names (None where nothing but the vendor is literal)."""

    written: re.Pattern[str]
    folded: re.Pattern[str] | None
    has_vendor: bool

    def matches(self, names: Iterable[str]) -> bool:
        for name in names:
            if self.written.match(name.lower()):
                return True
            if self.folded is None or (self.has_vendor and "/" in name):
                continue
            if self.folded.match(plain_name(name)):
                return True
        return False


def _globs(patterns: Iterable[str]) -> list[_Glob]:
    found = []
    for pattern in patterns:
        if not _GLOB.search(pattern):
            continue
        lower = pattern.lower()
        tail = lower.rsplit("/", 1)[-1]
        fold = tail if "[" in tail else plain_name(tail)
        folded = re.compile(fnmatch.translate(fold)) if _LITERAL.search(tail) else None
        found.append(_Glob(re.compile(fnmatch.translate(lower)), folded, "/" in pattern))
    return found


def _allowed(catalog: Catalog, rule: Rule) -> set[tuple[str, str]] | None:
    """Provider and id of every allowed model; None where all are."""
    if not rule.allowed_models:
        return None
    allowed = {
        (model.provider, model.id)
        for pattern in rule.allowed_models
        if not _GLOB.search(pattern)
        for model in catalog.find(pattern)
    }
    globs = _globs(rule.allowed_models)
    for model in catalog.models:
        names = (model.id, *model.aliases)
        if any(glob.matches(names) for glob in globs):
            allowed.add((model.provider, model.id))
    return allowed


def _over_rate(model: Model, rule: Rule) -> Refusal | None:
    limit = rule.max_msats_per_1k_output
    if limit is None:
        return None
    if model.price is None:
        return unpriced(model, "max_sats_per_1k_output")
    if model.price.output * 1000 <= limit:
        return None
    # Msats a token is sats per 1,000 tokens.
    reason = (
        f"output rate {model.output_rate:,g} sats per 1,000 tokens > "
        f"{limit / MSATS_PER_SAT:,g} allowed (max_sats_per_1k_output)"
    )
    return Refusal(model.provider, model.id, reason, "rate_cap")


def _below_tier(model: Model, rule: Rule) -> Refusal | None:
    if rule.min_tier is None:
        return None
    if model.tier is None:
        reason = f"tier unknown, {rule.min_tier} needed (min_tier)"
    elif TIERS.index(model.tier) < TIERS.index(rule.min_tier):
        reason = f"tier {model.tier} < {rule.min_tier} (min_tier)"
    else:
        return None
    return Refusal(model.provider, model.id, reason, "tier")


def unpriced(model: Model, cap: str) -> Refusal:
    """The refusal of a model whose price is not known, where the cap of this name holds."""
    return Refusal(model.provider, model.id, f"price unknown under a price cap ({cap})", "unpriced")

"""Whose rules apply to a request.

The first that applies: the header ``X-Arbstr-Policy``, the model name ``arbstr/NAME``, a
``[clients]`` rule, keywords in the last user message, the default policy, none.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from arbstr.core.catalog import Tier

type Strategy = Literal["lowest_cost", "lowest_latency", "round_robin"]
type PolicySource = Literal["header", "model", "client", "keyword", "default", "none"]

MODEL_PREFIX = "arbstr/"
AUTO = ("auto", "arbstr/auto")
NO_POLICY = "none"


class Rule(msgspec.Struct, frozen=True):
    """One policy. Caps are msats, None where there is no cap.

    `allowed_models`: globs; () is any.

    `max_msats_per_1k_output`: the dearest output rate allowed, in msats per 1,000 output tokens.
    """

    name: str
    allowed_models: tuple[str, ...] = ()
    strategy: Strategy = "lowest_cost"
    max_msats_per_1k_output: int | None = None
    max_msats_per_request: int | None = None
    max_msats_per_day: int | None = None
    lower_max_tokens: bool = False
    min_tier: Tier | None = None
    fallback: bool = True
    keywords: tuple[str, ...] = ()


class ClientRule(msgspec.Struct, frozen=True):
    """``[clients]``: a user agent glob (or a glob on the client's key) and the policy it gets."""

    pattern: str
    policy: str


class Policies(msgspec.Struct, frozen=True):
    """All rules in force.

    `substitutes`: ``[fallback.models]``, consent for requests without a policy.

    `default_strategy`: for requests without a policy (rules have it filled in already).
    """

    rules: tuple[Rule, ...] = ()
    default: str | None = None
    default_strategy: Strategy = "lowest_cost"
    clients: tuple[ClientRule, ...] = ()
    substitutes: Mapping[str, tuple[str, ...]] = {}
    max_msats_per_day: int | None = None


class Choice(msgspec.Struct, frozen=True):
    """The policy that applies and why. `rule` None: no policy, the client's model is asked for.

    `any_model`: the client named no model of its own (``auto``, ``arbstr/NAME``).
    """

    rule: Rule | None
    source: PolicySource
    any_model: bool = False

    @property
    def name(self) -> str | None:
        """The policy's name, None without one."""
        return None if self.rule is None else self.rule.name


class UnknownPolicyError(ValueError):
    """A policy was named that does not exist. `known`: those that do."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        """`name` as the client wrote it."""
        self.name = name
        self.known = known
        super().__init__(f"unknown policy {name!r}; known: {', '.join(known) or 'none'}")


class Selector:
    """Chooses the policy of a request. Built once per config."""

    __slots__ = ("_by_name", "_clients", "_default", "_keywords", "policies")

    def __init__(self, policies: Policies) -> None:
        """Compile keywords and globs of `policies`."""
        self.policies = policies
        self._by_name = {rule.name: rule for rule in policies.rules}
        self._default = self._by_name.get(policies.default or "")
        self._keywords = tuple(
            (rule, _words(rule.keywords)) for rule in policies.rules if rule.keywords
        )
        self._clients = tuple(
            (re.compile(fnmatch.translate(c.pattern), re.IGNORECASE), self._by_name[c.policy])
            for c in policies.clients
        )

    def choose(
        self, *, header: str | None, model: str, text: str, user_agent: str, key: str
    ) -> Choice:
        """Find the policy for one request. Raises UnknownPolicyError.

        `text`: the last user message. `key`: the client's own key ("" without one), seen by
        ``[clients]`` patterns only.
        """
        named_in_model = model.startswith(MODEL_PREFIX) and model not in AUTO
        any_model = named_in_model or model in AUTO
        if header:
            if header == NO_POLICY:
                return Choice(None, "none", any_model)
            return Choice(self._named(header), "header", any_model)
        if named_in_model:
            return Choice(self._named(model.removeprefix(MODEL_PREFIX)), "model", any_model)
        for pattern, rule in self._clients:
            if pattern.match(user_agent) or (key and pattern.match(key)):
                return Choice(rule, "client", any_model)
        if (rule_by_word := self._by_keyword(text)) is not None:
            return Choice(rule_by_word, "keyword", any_model)
        if self._default is not None:
            return Choice(self._default, "default", any_model)
        return Choice(None, "none", any_model)

    def _named(self, name: str) -> Rule:
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownPolicyError(name, tuple(self._by_name)) from None

    def _by_keyword(self, text: str) -> Rule | None:
        if not text or not self._keywords:
            return None
        best, most = None, 0
        for rule, words in self._keywords:
            hits = sum(1 for word in words if word.search(text))
            if hits > most:
                best, most = rule, hits
        return best


def _words(keywords: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Whole words, in any case; a space in a keyword is any white space."""
    return tuple(
        re.compile(rf"(?<!\w){r'\s+'.join(map(re.escape, k.split()))}(?!\w)", re.IGNORECASE)
        for k in keywords
    )

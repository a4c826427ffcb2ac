"""Where a conversation's cache is, so that the next turn can be priced with it.

A seller keeps the prompt of a turn for some minutes and charges the cached rate for what the next
turn repeats of it. `Conversations` remembers who answered a conversation last and how much it had
read; `Conversations.warm` says what of a new turn is likely in that cache. What to make of it is
the route's business: the dear warm model may still lose.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from arbstr.core.ask import Ask

CACHE_TTL_S = 300.0
"""How long sellers keep a prompt; both OpenAI and Anthropic name five minutes."""
_REMEMBERED = 10_000


class Warm(msgspec.Struct, frozen=True):
    """The model that has a conversation's prompt in its cache.

    `cached_bytes`: how much of the new prompt it has. `growth_bytes`: by how much the prompts of
    this conversation grow from turn to turn. `caches` False: it was seen to cache nothing here, so
    it has nothing and will have nothing.
    """

    provider: str
    model: str
    cached_bytes: int
    growth_bytes: float
    caches: bool = True


class _Last(msgspec.Struct):
    provider: str
    model: str
    at_ms: int
    prompt_bytes: int
    first_bytes: int
    turns: int
    caches: bool = True


class Conversations:
    """The last turn of each conversation. Lives on the event loop; every call is told the time."""

    def __init__(self, ttl_s: Mapping[str, float] | None = None) -> None:
        """`ttl_s`: by provider, how long a cache stays warm, where it is not `CACHE_TTL_S`."""
        self._ttl_s = dict(ttl_s or {})
        self._last: OrderedDict[str, _Last] = OrderedDict()

    def warm(self, ask: Ask, now_ms: int) -> Warm | None:
        """Who has a part of this prompt in its cache; None where nobody likely has."""
        last = self._last.get(ask.conversation or "")
        if last is None:
            return None
        if now_ms - last.at_ms > 1000 * self._ttl_s.get(last.provider, CACHE_TTL_S):
            return None
        cached = min(ask.prefix_bytes, last.prompt_bytes, ask.prompt_bytes)
        if cached <= 0:
            return None
        growth = max(0.0, (ask.prompt_bytes - last.first_bytes) / last.turns)
        cached = cached if last.caches else 0
        return Warm(last.provider, last.model, cached, growth, last.caches)

    def answered(
        self, ask: Ask, *, provider: str, model: str, now_ms: int, cached_tokens: int | None = None
    ) -> None:
        """`model` has answered this turn, so it has the prompt now.

        `cached_tokens`: what the answer's usage says came from the cache; 0 on a turn that should
        have been warm means that this model caches nothing here.
        """
        if ask.conversation is None:
            return
        warm = self.warm(ask, now_ms)
        stayed = warm is not None and (warm.provider, warm.model) == (provider, model)
        old = self._last.pop(ask.conversation, None)
        if old is None:
            old = _Last(provider, model, now_ms, ask.prompt_bytes, ask.prompt_bytes, 0)
        same = (old.provider, old.model) == (provider, model)
        caches = (old.caches or not same) and not (stayed and cached_tokens == 0)
        self._last[ask.conversation] = _Last(
            provider,
            model,
            now_ms,
            ask.prompt_bytes,
            old.first_bytes,
            old.turns + 1,
            caches=caches,
        )
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)

    def failed(self, ask: Ask, *, provider: str, model: str) -> None:
        """`model` did not answer: decide anew, as if nobody had the prompt."""
        last = self._last.get(ask.conversation or "")
        if last is not None and (last.provider, last.model) == (provider, model):
            del self._last[ask.conversation or ""]

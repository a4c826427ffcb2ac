"""Token counts of one answer, in disjoint buckets."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from arbstr.core.shapes import first, mapping


class Usage(msgspec.Struct, frozen=True):
    """What one answer used. The input buckets do not overlap; a bucket nobody spoke of is None.

    ``input_tokens`` is fresh input only: OpenAI's ``prompt_tokens`` counts cached tokens in,
    Anthropic's ``input_tokens`` does not, and both end up here without them. ``output_tokens``
    counts reasoning in; ``reasoning_tokens`` says how much of it that was.
    """

    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def prompt_tokens(self) -> int | None:
        """All input buckets together, or None where no input is known."""
        if self.input_tokens is None:
            return None
        return self.input_tokens + (self.cached_tokens or 0) + (self.cache_write_tokens or 0)


def count(value: object) -> int | None:
    """A token count as an int: None for anything that is not a whole number of 0 or more."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else None


def from_openai(usage: Mapping[str, object]) -> Usage | None:
    """Read a chat-completions or responses ``usage`` object; None where it holds no counts.

    Shapes: ``prompt_tokens``/``completion_tokens`` with ``prompt_tokens_details.cached_tokens``
    (chat), ``input_tokens``/``output_tokens`` with ``input_tokens_details`` (responses); both count
    cached tokens into the input. DeepSeek's ``prompt_cache_hit_tokens`` is the same number by
    another name.
    """
    total = count(first(usage, "prompt_tokens", "input_tokens"))
    output = count(first(usage, "completion_tokens", "output_tokens"))
    if total is None and output is None:
        return None
    inputs = mapping(first(usage, "prompt_tokens_details", "input_tokens_details"))
    outputs = mapping(first(usage, "completion_tokens_details", "output_tokens_details"))
    cached = count(first(inputs, "cached_tokens"))
    if cached is None:
        cached = count(first(usage, "prompt_cache_hit_tokens", "cache_read_input_tokens"))
    write = count(first(inputs, "cache_creation_tokens", "cache_write_tokens"))
    if write is None:
        write = count(usage.get("cache_creation_input_tokens"))
    fresh = None if total is None else max(0, total - (cached or 0) - (write or 0))
    return Usage(fresh, cached, write, output, count(first(outputs, "reasoning_tokens")))


def from_anthropic(usage: Mapping[str, object]) -> Usage | None:
    """Read a Messages ``usage`` object; None where it holds no counts.

    Source: Messages API, "usage": ``input_tokens`` is what was neither read from nor written to the
    cache.
    """
    fresh = count(usage.get("input_tokens"))
    output = count(usage.get("output_tokens"))
    if fresh is None and output is None:
        return None
    details = mapping(usage.get("output_tokens_details"))
    return Usage(
        fresh,
        count(usage.get("cache_read_input_tokens")),
        count(usage.get("cache_creation_input_tokens")),
        output,
        count(first(details, "thinking_tokens", "reasoning_tokens")),
    )

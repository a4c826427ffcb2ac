"""What the mock node sells: models, their prices, the names they answer to, `GET /v1/models`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from arbstr.mock.faults import FAULTS, Fault

NANO = 10**9
"""Prices are integers of nano-msats a token: every price sold anywhere is exact in them."""

_USD_A_SAT = 0.001  # the captures' exchange rate: one bitcoin at $100,000
_CREATED = 1700000000
_DATE_SUFFIX = re.compile(r"-\d{8}$")


@dataclass(frozen=True, slots=True)
class MockModel:
    """A model for sale.

    Attributes:
        id: the name in `GET /v1/models`, without a vendor.
        prompt: price of an input token in msats, as an exact decimal. It is the same number as
            USD per million tokens, because one sat is $0.001 here.
        completion: the same for an output token.
        cache_read: the same for a cached input token; `None`: nothing is ever cached.
        vendor: with one, answers name `vendor/id`.
        context: tokens of prompt it takes; a longer one is `context_length_exceeded`.
        max_output: tokens it writes at most.
        vision: whether images are listed as input.
        aliases: other names it answers to.
        verbosity: how long its answers are, times 40 tokens.
        reasoning: how much it thinks before it answers, times 40 tokens; billed as output.
        token_delay_ms: pause before every token (four characters of answer).
        fault: how it misbehaves, see `faults`.
        fail_status: the status of `Fault.FAIL`.

    Raises:
        ValueError: a price that is negative, no number, or finer than a nano-msat.
    """

    id: str
    prompt: str
    completion: str
    cache_read: str | None = None
    vendor: str | None = None
    context: int = 128_000
    max_output: int = 16_384
    vision: bool = False
    aliases: tuple[str, ...] = ()
    verbosity: float = 1.0
    reasoning: float = 0.0
    token_delay_ms: float = 0.0
    fault: Fault | None = None
    fail_status: int | None = None

    def __post_init__(self) -> None:
        for price in (self.prompt, self.completion, self.cache_read or "0"):
            nano_msats(price)

    @property
    def upstream_id(self) -> str:
        """The name answers carry, as in captures/model_id_without_vendor_prefix."""
        return f"{self.vendor}/{self.id}" if self.vendor else self.id


def nano_msats(price: str) -> int:
    """The price of a token, a decimal in msats, as an integer of nano-msats.

    Raises:
        ValueError: see `MockModel`.
    """
    try:
        exact = Decimal(price) * NANO
        nano = int(exact)
    except (ArithmeticError, ValueError):  # no number; NaN; infinite
        raise ValueError(f"not a price in msats: {price!r}") from None
    if nano != exact or nano < 0:
        raise ValueError(f"not a price in whole nano-msats: {price!r}")
    return nano


class Shelf:
    """The models on sale, found by any of their names, with prices ready to compute with.

    Raises:
        ValueError: two models answer to the same name.
    """

    def __init__(self, models: tuple[MockModel, ...]) -> None:
        self.models = models
        self.rates: Mapping[str, Rates] = MappingProxyType({m.id: Rates.of(m) for m in models})
        self.listing = json.dumps(
            {"data": [_entry(m) for m in models]}, separators=(",", ":")
        ).encode()
        self._by_name: dict[str, MockModel] = {}
        for model in models:
            names = (model.id, model.upstream_id, f"generic/{model.id}", *model.aliases)
            for name in {n.lower() for n in names}:
                if self._by_name.setdefault(name, model) is not model:
                    raise ValueError(f"two models answer to {name!r}")

    def find(self, name: str) -> MockModel | None:
        """The model a client means (captures/model_id_*): case, vendor and date do not matter."""
        wanted = name.lower()
        return self._by_name.get(wanted) or self._by_name.get(_DATE_SUFFIX.sub("", wanted))


@dataclass(frozen=True, slots=True)
class Rates:
    """A model's prices in nano-msats a token; the most a request can cost in nano-msats."""

    prompt: int
    completion: int
    cache_read: int
    max_completion: int
    max_total: int

    @staticmethod
    def of(model: MockModel) -> "Rates":
        """Prices of `model`; what is cached costs the full price where nothing is cached."""
        prompt, completion = nano_msats(model.prompt), nano_msats(model.completion)
        most_out = completion * model.max_output
        return Rates(
            prompt=prompt,
            completion=completion,
            cache_read=prompt if model.cache_read is None else nano_msats(model.cache_read),
            max_completion=most_out,
            # A free model still reserves something: the listing says 0.001 sats.
            max_total=max(prompt * (model.context - model.max_output) + most_out, NANO),
        )


def _entry(model: MockModel) -> dict[str, object]:
    """One element of `data`, key by key as in captures/models."""
    usd = _usd(model)
    sats = {k: v / _USD_A_SAT for k, v in usd.items()}
    # The node advertises a request fee of 0.001 sats and charges none (captures/models).
    sats["request"] = 0.001
    sats["max_cost"] = sats["max_cost"] or 0.001
    inputs = ["text", "image"] if model.vision else ["text"]
    return {
        "id": model.id,
        "name": model.upstream_id,
        "created": _CREATED,
        "description": f"{model.id} (mock)"
        if model.fault is None
        else FAULTS[model.fault].streamed,
        "context_length": model.context,
        "architecture": {
            "modality": f"{'+'.join(inputs)}->text",
            "input_modalities": inputs,
            "output_modalities": ["text"],
            "tokenizer": "unknown",
            "instruct_type": None,
        },
        "pricing": usd,
        "sats_pricing": sats,
        "per_request_limits": None,
        "top_provider": {
            "context_length": model.context,
            "max_completion_tokens": model.max_output,
            "is_moderated": False,
        },
        "enabled": True,
        "upstream_provider_id": "generic",
        "canonical_slug": None,
        "alias_ids": list(model.aliases) or None,
        "forwarded_model_id": None,
    }


def _usd(model: MockModel) -> dict[str, float]:
    """Prices in USD a token, binary floats with their rounding errors as the node has them."""
    prompt, completion, cache_read = (
        float(Decimal(price) / 10**6)
        for price in (model.prompt, model.completion, model.cache_read or "0")
    )
    max_completion = model.max_output * completion
    return {
        "prompt": prompt,
        "completion": completion,
        "request": 0.0,
        "image": 0.0,
        "web_search": 0.0,
        "internal_reasoning": 0.0,
        "input_cache_read": cache_read,
        "input_cache_write": 0.0,
        "max_prompt_cost": model.context * prompt,
        "max_completion_cost": max_completion,
        "max_cost": (model.context - model.max_output) * prompt + max_completion,
    }

"""What a good Routstr node answers: texts that prove whose they are, bills, bodies and events.

Shapes: captures `chat_ok` and `chat_stream_include_usage` (routstr-core 0.4.5). Every text is made
of the request's nonce, so that a swapped, cut or doubled answer cannot pass for the right one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

type Json = Mapping[str, object]

PIECES = 6
"""In how many events a text comes."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a model costs, msats per token (the config's sats per 1,000 tokens)."""

    input: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """What one answer used and what the node takes for it."""

    input_tokens: int
    output_tokens: int
    msats: int


def text_of(nonce: str) -> str:
    """The one right answer to the request `nonce`."""
    seal = hashlib.sha256(nonce.encode()).hexdigest()[:32]
    return f"Answer to {nonce}: Grüße, 世界, naïve 🌍🚀 façade; sealed {seal}."


def pieces_of(text: str, count: int = PIECES) -> list[str]:
    """Cut `text` into `count` pieces of whole characters."""
    size = math.ceil(len(text) / count)
    return [text[start : start + size] for start in range(0, len(text), size)]


def make_bill(nonce: str, model: str, n: int, rates: Rates) -> Bill:
    """A bill that differs from try to try, so that no two can be mistaken for each other."""
    digest = hashlib.sha256(f"{nonce} {model} {n}".encode()).digest()
    tokens_in = 20 + digest[0]
    tokens_out = 10 + digest[1]
    exact = tokens_in * rates.input + tokens_out * rates.output
    return Bill(tokens_in, tokens_out, math.ceil(exact))


def counts(bill: Bill) -> dict[str, object]:
    """The plain ``usage`` counts."""
    return {
        "prompt_tokens": bill.input_tokens,
        "completion_tokens": bill.output_tokens,
        "total_tokens": bill.input_tokens + bill.output_tokens,
    }


def cost_members(bill: Bill) -> dict[str, object]:
    """``usage`` with its cost, and the cost blocks beside it."""
    cost = {"base_msats": 0, "total_msats": bill.msats, "total_usd": bill.msats / 1e6}
    left = {"sats_cost": bill.msats // 1000, "remaining_balance_msats": 999_999_999_906}
    usage = counts(bill) | {"cost": cost, "cost_sats": bill.msats // 1000} | left
    return {
        "usage": usage,
        "provider": "generic",
        "metadata": {"routstr": {"cost": cost | left}},
        "cost": cost | left,
    }


def completion(model: str, text: str, members: Json) -> bytes:
    """A whole chat completion, not streamed. `members`: usage and cost, or nothing."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = {
        "id": "chatcmpl-fault",
        "object": "chat.completion",
        "created": 1_795_393_207,
        "model": model,
        "choices": [choice],
    }
    return json.dumps(body | dict(members)).encode()


def chunk(model: str, delta: Json, finish: str | None = None) -> dict[str, object]:
    """One streamed chunk with one choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _chunk(model, [choice])


def usage_chunk(model: str, members: Json) -> dict[str, object]:
    """The last chunk before the end: no choices, usage and cost."""
    return _chunk(model, []) | dict(members)


def _chunk(model: str, choices: list[Json]) -> dict[str, object]:
    return {
        "id": "chatcmpl-fault",
        "object": "chat.completion.chunk",
        "created": 1_795_393_209,
        "model": model,
        "choices": choices,
    }


def event(data: Json, end: str = "\n") -> bytes:
    """One server-sent event. `end`: how its lines end."""
    return f"data: {json.dumps(data, ensure_ascii=False)}{end}{end}".encode()


def listed_model(name: str, rates: Rates, most_sats: Decimal) -> dict[str, object]:
    """One item of ``GET /v1/models`` (capture `models`). Prices there are sats per token."""
    pricing = {"prompt": float(rates.input / 1000), "completion": float(rates.output / 1000)}
    pricing |= {"request": 0.001, "image": 0.0, "max_cost": float(most_sats)}
    return {
        "id": name,
        "name": name,
        "context_length": 8000,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "top_provider": {"context_length": 8000, "max_completion_tokens": 8000},
        "sats_pricing": pricing,
        "enabled": True,
    }


DONE = b"data: [DONE]\n\n"


def error_body(status: int, message: str, **more: object) -> dict[str, object]:
    """An error as the node words it (captures `upstream_500`, `err_unknown_model`)."""
    error = {"message": message, "type": "upstream_error", "code": status} | more
    return {"error": error, "request_id": "79f7a9f1-0000-4000-8000-fa0170000000"}


def whole_stream(model: str, text: str, members: Json) -> list[bytes]:
    """Every event of a good stream, in order, ``[DONE]`` included."""
    events = [event(chunk(model, {"role": "assistant", "content": ""}))]
    events += [event(chunk(model, {"content": piece})) for piece in pieces_of(text)]
    events += [event(chunk(model, {}, "stop")), event(usage_chunk(model, members)), DONE]
    return events

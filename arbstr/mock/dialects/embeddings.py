"""`/v1/embeddings` (captures/embeddings): plain answers only."""

import struct
from base64 import b64encode
from hashlib import blake2b
from uuid import uuid4

import msgspec

from arbstr.mock.answer import Answer
from arbstr.mock.ask import Ask
from arbstr.mock.dialects import chat
from arbstr.mock.money import Bill

WRITES = False
STREAM_BILLED = False
END = -1

_DIMENSIONS = 64

error_body = chat.error_body
opening, piece, closing, failure = chat.opening, chat.piece, chat.closing, chat.failure


def plain(ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True) -> dict[str, object]:
    """The body: a vector for each input, as floats or in base64."""
    inputs = ask.body.get("input")
    many = isinstance(inputs, list) and not all(isinstance(token, int) for token in inputs)
    size = ask.body.get("dimensions")
    vectors = [
        _vector(text, size if isinstance(size, int) and 0 < size <= 4096 else _DIMENSIONS)
        for text in (inputs if many and isinstance(inputs, list) else [inputs])
    ]
    packed = ask.body.get("encoding_format") == "base64"
    body: dict[str, object] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": _packed(v) if packed else v}
            for i, v in enumerate(vectors)
        ],
        "model": answer.model,
    }
    if usage:
        tokens = answer.usage.input_tokens
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens} | bill.usage_tail()
    head = {"provider": "generic", "id": f"chatcmpl-{uuid4()}"}
    return body | head | bill.blocks(nested=True)


def _vector(text: object, size: int) -> list[float]:
    """Numbers from -1 to 1 that depend on the text alone."""
    seed = blake2b(msgspec.json.encode(text)).digest()
    noise = seed * (size // len(seed) + 1)
    return [(byte - 128) / 128 for byte in noise[:size]]


def _packed(vector: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

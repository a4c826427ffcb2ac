"""`/v1/messages`, Anthropic's API as the node serves it (captures/messages_litellm*)."""

from collections.abc import Mapping
from uuid import UUID, uuid5

from arbstr.mock.answer import Answer
from arbstr.mock.ask import Ask
from arbstr.mock.dialects.events import event
from arbstr.mock.money import Bill

WRITES = True
STREAM_BILLED = True
END = -2
"""Where in `closing` the end marker is: `message_stop`; the cost comes after it."""

_SPACE = UUID("7f4de009-1c9a-496f-9148-7aac7f32e3f3")
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def plain(ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True) -> dict[str, object]:
    """The body of an answer (captures/messages_litellm)."""
    content: list[object] = []
    if _shows_thinking(ask, answer):
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": "mock"})
    content.append(_tool_use(answer) if answer.tool else {"type": "text", "text": answer.text})
    body = _message(answer) | {
        "content": content,
        "model": answer.model,
        "stop_reason": _STOP[answer.finish],
        "stop_sequence": None,
    }
    if usage:
        body["usage"] = {
            "input_tokens": answer.usage.input_tokens - answer.usage.cached_tokens,
            "output_tokens": answer.usage.output_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": answer.usage.cached_tokens,
            **bill.usage_tail(),
        }
    return body | {"provider": "generic"} | bill.blocks(nested=False)


def error_body(_answer: Answer, bill: Bill) -> dict[str, object]:
    """An error under status 200, in Anthropic's shape."""
    return {"type": "error", "error": _cause(), "provider": "generic", **bill.blocks(nested=False)}


def opening(ask: Ask, answer: Answer) -> list[bytes]:
    """`message_start`, with a usage of zeros, thinking, then the start of the answer's block."""
    zeros = {
        "input_tokens": 0,
        "output_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
    message = _message(answer) | {
        "content": [],
        "model": answer.model,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": zeros,
    }
    events = [_event("message_start", {"message": message})]
    index = _index(ask, answer)
    if index:
        events += _thinking(answer)
    if not answer.tool:
        return [*events, _block_start(index, {"type": "text", "text": ""})]
    arguments = {"type": "input_json_delta", "partial_json": "{}"}
    return [*events, _block_start(index, _tool_use(answer)), _block_delta(index, arguments)]


def piece(ask: Ask, answer: Answer, text: str) -> bytes:
    """The event of a piece of text."""
    return _block_delta(_index(ask, answer), {"type": "text_delta", "text": text})


def closing(ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True) -> list[bytes]:
    """The block ends, usage, `message_stop`, and after it the node's own `cost`."""
    end: dict[str, object] = {"delta": {"stop_reason": _STOP[answer.finish]}}
    if usage:
        tokens = {
            "input_tokens": answer.usage.input_tokens - answer.usage.cached_tokens,
            "output_tokens": answer.usage.output_tokens,
        }
        if answer.usage.cached_tokens:
            tokens["cache_read_input_tokens"] = answer.usage.cached_tokens
        end["usage"] = tokens
    return [
        _event("content_block_stop", {"index": _index(ask, answer)}),
        _event("message_delta", end),
        _event("message_stop", {}),
        event({"cost": bill.cost_block()}, "cost"),
    ]


def failure(_answer: Answer, _bill: Bill, *, first: bool) -> list[bytes]:
    """An upstream's error in the stream, the same wherever it comes; nothing follows it."""
    del first
    return [_event("error", {"error": _cause()})]


def _message(answer: Answer) -> dict[str, object]:
    # A UUID made of the answer's id: the same answer has the same id in all its events.
    return {"id": f"msg_{uuid5(_SPACE, answer.id)}", "type": "message", "role": "assistant"}


def _tool_use(answer: Answer) -> dict[str, object]:
    return {
        "type": "tool_use",
        "id": f"toolu_{answer.call_id}",
        "name": answer.tool,
        "input": {},
    }


def _cause() -> dict[str, object]:
    return {"type": "api_error", "message": "Provider disconnected"}


def _shows_thinking(ask: Ask, answer: Answer) -> bool:
    """Reasoning is always billed, but shown only to a client that asked for it."""
    return ask.thinking and bool(answer.reasoning)


def _index(ask: Ask, answer: Answer) -> int:
    return 1 if _shows_thinking(ask, answer) else 0


def _thinking(answer: Answer) -> list[bytes]:
    start = {"type": "thinking", "thinking": "", "signature": ""}
    return [
        _block_start(0, start),
        _block_delta(0, {"type": "thinking_delta", "thinking": answer.reasoning}),
        _block_delta(0, {"type": "signature_delta", "signature": "mock"}),
        _event("content_block_stop", {"index": 0}),
    ]


def _block_start(index: int, block: Mapping[str, object]) -> bytes:
    return _event("content_block_start", {"index": index, "content_block": block})


def _block_delta(index: int, delta: Mapping[str, object]) -> bytes:
    return _event("content_block_delta", {"index": index, "delta": delta})


def _event(name: str, data: Mapping[str, object]) -> bytes:
    return event({"type": name, **data}, name)

"""`/v1/chat/completions` (captures/chat_*, captures/odd_*)."""

from collections.abc import Mapping
from uuid import uuid4

from arbstr.mock.answer import Answer
from arbstr.mock.ask import Ask
from arbstr.mock.dialects.events import event
from arbstr.mock.money import Bill, Usage

WRITES = True
STREAM_BILLED = True
END = -1
"""Where in `closing` the end marker is."""

_DONE = b"data: [DONE]\n\n"
_ODD_ID = "chatcmpl-e6c11c87-91c9-455e-81fb-c7e6d3299c94"  # the node's own, always this one


def plain(_ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True) -> dict[str, object]:
    """The body of an answer; without `usage` as in captures/odd_no_usage."""
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if answer.tool else answer.text,
        "refusal": None,
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool:
        message["tool_calls"] = [_tool_call(answer, "{}")]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
    body: dict[str, object] = {
        "id": f"chatcmpl-{answer.id}",
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [choice],
    }
    if usage:
        body["usage"] = _usage(answer.usage) | bill.usage_tail()
    return body | {"provider": "generic"} | bill.blocks(nested=True)


def error_body(answer: Answer, bill: Bill) -> dict[str, object]:
    """An error under status 200 (captures/odd_error_event)."""
    return {
        "error": {"message": "200 with an error body", "code": 502},
        "provider": "generic",
        "model": answer.model,
        "id": f"chatcmpl-{uuid4()}",
        **bill.blocks(nested=True),
    }


def opening(_ask: Ask, answer: Answer) -> list[bytes]:
    """Reasoning first, then the role, then a tool call; the text comes after."""
    thoughts = [
        _chunk(answer, {"reasoning_content": answer.reasoning[i : i + 20]})
        for i in range(0, len(answer.reasoning), 20)
    ]
    role = _chunk(answer, {"role": "assistant", "content": None if answer.tool else ""})
    if not answer.tool:
        return [*thoughts, role]
    arguments = {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    call = {"tool_calls": [{"index": 0, **_tool_call(answer, "")}]}
    return [*thoughts, role, _chunk(answer, call), _chunk(answer, arguments)]


def piece(_ask: Ask, answer: Answer, text: str) -> bytes:
    """The event of a piece of text."""
    return _chunk(answer, {"content": text})


def closing(_ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True) -> list[bytes]:
    """The reason of the end, usage and cost, whether asked for or not, and `[DONE]`."""
    finish = _chunk(answer, {}, answer.finish)
    if not usage:
        return [finish, *_nothing(answer, bill)]
    return [finish, event(_last(_base(answer), answer.usage, bill)), _DONE]


def failure(answer: Answer, bill: Bill, *, first: bool) -> list[bytes]:
    """An upstream's error in the stream and what the node adds (captures/odd_error_event_stream).

    It looks the same wherever it comes, `first` or not.
    """
    del first
    cause = {"message": "Provider disconnected", "type": "server_error", "code": 502}
    error = {"error": cause, "provider": "generic", "model": answer.model, "id": _ODD_ID}
    return [event(error), *_nothing(answer, bill)]


def _nothing(answer: Answer, bill: Bill) -> list[bytes]:
    """Zero usage, under an id of its own and without `created`; then `[DONE]`."""
    base = {"id": _ODD_ID, "object": "chat.completion.chunk", "model": answer.model}
    return [event(_last(base, Usage(), bill)), _DONE]


def _last(base: Mapping[str, object], usage: Usage, bill: Bill) -> dict[str, object]:
    return {
        **base,
        "choices": [],
        "usage": _usage(usage) | bill.usage_tail(),
        "provider": "generic",
        **bill.blocks(nested=False),
    }


def _base(answer: Answer) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
    }


def _chunk(answer: Answer, delta: Mapping[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({**_base(answer), "choices": [choice], "provider": "generic"})


def _tool_call(answer: Answer, arguments: str) -> dict[str, object]:
    return {
        "id": f"call_{answer.call_id}",
        "type": "function",
        "function": {"name": answer.tool, "arguments": arguments},
    }


def _usage(usage: Usage) -> dict[str, object]:
    block: dict[str, object] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens:
        block["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens:
        block["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return block

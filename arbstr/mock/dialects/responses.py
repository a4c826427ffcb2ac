"""`/v1/responses` (captures/responses_*). Streamed, the node bills nothing."""

from collections.abc import Mapping

from arbstr.mock.answer import Answer
from arbstr.mock.ask import Ask
from arbstr.mock.dialects import chat
from arbstr.mock.dialects.events import event
from arbstr.mock.money import Bill, Usage

WRITES = True
STREAM_BILLED = False
END = -1
"""Where in `closing` the end marker is: `response.completed`, which has no `event:` line."""

error_body = chat.error_body


def plain(_ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True) -> dict[str, object]:
    """The body of an answer (captures/responses_ok)."""
    body = _response(answer, _ended(answer), _output(answer))
    if usage:
        cached = {
            "cache_read_input_tokens": answer.usage.cached_tokens,
            "cache_creation_input_tokens": 0,
        }
        body["usage"] = _usage(answer.usage) | bill.usage_tail() | cached
    return body | {"provider": "generic"} | bill.blocks(nested=True)


def opening(_ask: Ask, answer: Answer) -> list[bytes]:
    """The response begins, reasoning, then the item that is the answer."""
    begun = {"response": _response(answer, "in_progress", [])}
    events = [
        _event(answer, "response.created", begun),
        _event(answer, "response.in_progress", begun),
        *_thinking(answer),
    ]
    if answer.tool:
        return [*events, *_calling(answer)]
    if answer.text:
        item = {**_message(answer), "status": "in_progress", "content": []}
        events += [
            _event(answer, "response.output_item.added", _at(answer) | {"item": item}),
            _event(answer, "response.content_part.added", _part(answer) | {"part": _text("")}),
        ]
    return events


def piece(_ask: Ask, answer: Answer, text: str) -> bytes:
    """The event of a piece of text."""
    return _event(answer, "response.output_text.delta", _part(answer) | {"delta": text})


def closing(_ask: Ask, answer: Answer, bill: Bill, *, usage: bool = True) -> list[bytes]:
    """The item ends, then the response; its usage names a cost of bare USD zero."""
    events = []
    if answer.text:
        part = _part(answer)
        events = [
            _event(answer, "response.output_text.done", part | {"text": answer.text}),
            _event(answer, "response.content_part.done", part | {"part": _text(answer.text)}),
            _event(answer, "response.output_item.done", _at(answer) | {"item": _message(answer)}),
        ]
    response = _response(answer, _ended(answer), _output(answer))
    if usage:
        tail = bill.usage_tail() | {"cost": bill.usd}
        response["usage"] = _usage(answer.usage) | tail
    last: dict[str, object] = {
        "type": "response.incomplete" if answer.cut else "response.completed",
        "response": response,
        "provider": "generic",
        "model": answer.model,
        **bill.blocks(nested=False),
    }
    return [*events, event(last)]


def failure(answer: Answer, _bill: Bill, *, first: bool) -> list[bytes]:
    """An upstream's error: `error` in place of everything, `response.failed` later on."""
    cause = {"code": "server_error", "message": "Provider disconnected"}
    if first:
        return [_event(answer, "error", {**cause, "param": None})]
    response = _response(answer, "failed", []) | {"error": cause}
    return [_event(answer, "response.failed", {"response": response})]


def _response(answer: Answer, status: str, output: list[object]) -> dict[str, object]:
    body: dict[str, object] = {
        "id": f"resp-{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "model": answer.model,
        "status": status,
    }
    if status == "incomplete":
        body["incomplete_details"] = {"reason": "max_output_tokens"}
    return body | {"output": output}


def _ended(answer: Answer) -> str:
    return "incomplete" if answer.cut else "completed"


def _output(answer: Answer) -> list[object]:
    items: list[object] = [_reasoning(answer)] if answer.reasoning else []
    if answer.tool:
        items.append(_call(answer, "completed", "{}"))
    elif answer.text:
        items.append(_message(answer))
    return items


def _message(answer: Answer) -> dict[str, object]:
    return {
        "type": "message",
        "id": f"msg-{answer.item_id}",
        "status": _ended(answer),
        "role": "assistant",
        "content": [_text(answer.text)],
    }


def _text(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": []}


def _reasoning(answer: Answer) -> dict[str, object]:
    summary = [{"type": "summary_text", "text": answer.reasoning}]
    return {"type": "reasoning", "id": f"rs-{answer.item_id}", "summary": summary}


def _call(answer: Answer, status: str, arguments: str) -> dict[str, object]:
    return {
        "type": "function_call",
        "id": f"fc-{answer.item_id}",
        "status": status,
        "call_id": f"call_{answer.call_id}",
        "name": answer.tool,
        "arguments": arguments,
    }


def _thinking(answer: Answer) -> list[bytes]:
    if not answer.reasoning:
        return []
    item = _reasoning(answer)
    part = {"item_id": item["id"], "output_index": 0, "summary_index": 0}
    begun = {"output_index": 0, "item": item | {"summary": []}}
    delta, done = {"delta": answer.reasoning}, {"text": answer.reasoning}
    text = {"type": "summary_text", "text": answer.reasoning}
    name = "response.reasoning_summary"
    return [
        _event(answer, "response.output_item.added", begun),
        _event(answer, f"{name}_part.added", part | {"part": text | {"text": ""}}),
        _event(answer, f"{name}_text.delta", part | delta),
        _event(answer, f"{name}_text.done", part | done),
        _event(answer, f"{name}_part.done", part | {"part": text}),
        _event(answer, "response.output_item.done", {"output_index": 0, "item": item}),
    ]


def _calling(answer: Answer) -> list[bytes]:
    begun, done = _call(answer, "in_progress", ""), _call(answer, "completed", "{}")
    at = {"item_id": done["id"], **_at(answer)}
    name = "response.function_call_arguments"
    return [
        _event(answer, "response.output_item.added", _at(answer) | {"item": begun}),
        _event(answer, f"{name}.delta", at | {"delta": "{}"}),
        _event(answer, f"{name}.done", at | {"arguments": "{}"}),
        _event(answer, "response.output_item.done", _at(answer) | {"item": done}),
    ]


def _at(answer: Answer) -> dict[str, object]:
    return {"output_index": 1 if answer.reasoning else 0}


def _part(answer: Answer) -> dict[str, object]:
    return {"item_id": f"msg-{answer.item_id}", **_at(answer), "content_index": 0}


def _event(answer: Answer, name: str, data: Mapping[str, object]) -> bytes:
    return event({"type": name, **data, "provider": "generic", "model": answer.model}, name)


def _usage(usage: Usage) -> dict[str, object]:
    block: dict[str, object] = {"input_tokens": usage.input_tokens}
    if usage.cached_tokens:
        block["input_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    block["output_tokens"] = usage.output_tokens
    if usage.reasoning_tokens:
        block["output_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return block | {"total_tokens": usage.input_tokens + usage.output_tokens}

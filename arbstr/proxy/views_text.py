"""Conversations and answers as text, for the views ``LLM request`` and ``LLM answer``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from arbstr.core.dialects import Dialect
from arbstr.core.dialects.base import as_object
from arbstr.core.price import Bill, sats
from arbstr.core.record import RequestRow
from arbstr.core.shapes import mapping, objects
from arbstr.core.usage import Usage
from arbstr.proxy.answers import Answer, Part, read_answer

_WIDTH = 76
_RULE = "─" * _WIDTH
_TOOL_CHARS = 2_000
_VALUE_CHARS = 60
_DATA_URL_HEAD = 64
_LONG_MEMBERS = frozenset(
    {"messages", "input", "tools", "functions", "system", "instructions", "prompt", "model"}
)
"""Members of a request that have a section of their own."""


# --- answers --------------------------------------------------------------------------------------


def answer_text(
    dialect: Dialect, data: bytes, *, streamed: bool, row: RequestRow | None = None
) -> str:
    """An answer as it was meant to be read, its usage below. Raises ValueError for none.

    `row`: what is known of it; a client that did not ask for usage has none in its events.
    """
    answer = read_answer(dialect, data, streamed=streamed)
    choices: dict[object, list[Part]] = {}
    for place, part in answer.parts.items():
        choices.setdefault(place[0], []).append(part)
    blocks = []
    for n, parts in choices.items():
        if len(choices) > 1:
            blocks.append(f"── choice {n} ──")
        blocks += [_part(part) for part in parts if part.text or part.name]
    body = "\n\n".join(blocks) or "(it says nothing)"
    return f"{body}\n\n{_RULE}\n" + "\n".join(_foot(answer, row)) + "\n"


def _part(part: Part) -> str:
    if part.kind == "text":
        return part.text
    if part.kind == "tool":
        return f"── tool call: {part.name or '(no name)'} ──\n{_indented(part.text)}"
    if part.kind == "other":
        return f"── {part.name} ──"
    return f"── {part.kind} ──\n{part.text}\n── end of {part.kind} ──"


def _foot(answer: Answer, row: RequestRow | None) -> Iterable[str]:
    ends = ", ".join(dict.fromkeys(answer.ended.values()))
    yield f"model   {answer.model or '(not named)'}" + (f"   ended: {ends}" if ends else "")
    if answer.error is not None:
        yield f"error   {answer.error}"
    if not answer.whole:
        yield "cut     its end marker is missing: this is not the whole answer"
    yield f"tokens  {_usage(_counts(answer.usage, row))}"
    if row is not None:
        cost = sats(row.cost_msats)
        yield "cost    unknown" if cost is None else f"cost    {cost} sats, {row.cost_source}"
    elif answer.bill is not None:
        yield f"billed  {_billed(answer.bill)}"
    if answer.events is not None:
        yield f"events  {answer.events:,}"


def _counts(usage: Usage | None, row: RequestRow | None) -> Usage | None:
    if usage is not None or row is None or row.output_tokens is None:
        return usage
    return Usage(
        row.input_tokens,
        row.cached_tokens,
        row.cache_write_tokens,
        row.output_tokens,
        row.reasoning_tokens,
    )


def _usage(usage: Usage | None) -> str:
    if usage is None:
        return "unknown"
    counts = (
        ("input", usage.input_tokens),
        ("cached", usage.cached_tokens),
        ("written to the cache", usage.cache_write_tokens),
        ("output", usage.output_tokens),
        ("reasoning", usage.reasoning_tokens),
    )
    return ", ".join(f"{name} {n:,}" for name, n in counts if n) or "none"


def _billed(bill: Bill) -> str:
    left = "" if bill.balance_msats is None else f", {sats(bill.balance_msats)} sats left"
    cost = sats(bill.total_msats)
    return ("unknown" if cost is None else f"{cost} sats") + left


# --- requests -------------------------------------------------------------------------------------


def request_text(data: bytes) -> str:
    """A request as the conversation that it is. Raises ValueError for a body that is none."""
    body = as_object(data)
    if body is None:
        raise ValueError("not a JSON object")
    blocks = ["\n".join(_parameters(body))]
    tools = objects(body.get("tools")) or objects(body.get("functions"))
    if tools:
        blocks.append("\n".join(_tools(tools)))
    systems = (body.get("system"), body.get("instructions"))
    blocks += [_message("system", said) for said in systems if said]
    said = body.get("messages") or body.get("input") or body.get("prompt")
    if isinstance(said, str):
        blocks.append(_message("user", said))
    elif isinstance(said, list):
        blocks += [_turn(item) for item in said]
    return "\n\n".join(blocks) + "\n"


def _parameters(body: Mapping[str, object]) -> Iterable[str]:
    yield f"model   {body.get('model')}"
    for name, value in body.items():
        if name not in _LONG_MEMBERS:
            yield f"{name}   {_shown(value)}"


def _shown(value: object) -> str:
    """A parameter on one line; a long one is only told the size of."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_CHARS else f"({_size(len(text.encode()))} of JSON)"


def _tools(tools: Iterable[Mapping[str, object]]) -> Iterable[str]:
    """Tools folded to their names and sizes."""
    found = []
    for tool in tools:
        name = mapping(tool.get("function")).get("name") or tool.get("name") or tool.get("type")
        found.append((str(name), len(msgspec.json.encode(tool))))
    yield f"tools   {len(found)}, {_size(sum(size for _, size in found))}"
    width = max(len(name) for name, _ in found)
    for name, size in found:
        yield f"  {name:<{width}} {_size(size):>10}"


def _turn(item: object) -> str:
    """One message, or one item of a Responses input."""
    turn = mapping(item)
    if not turn:
        return _message("input", item)
    kind = turn.get("type")
    role = turn.get("role")
    if not isinstance(role, str):
        return _other_item(str(kind), turn)
    if role == "tool":
        role = f"tool result {turn.get('name') or turn.get('tool_call_id') or ''}".strip()
    lines = _message(role, turn.get("content"))
    for call in objects(turn.get("tool_calls")):
        function = mapping(call.get("function"))
        lines += f"\n{_call(function.get('name'), function.get('arguments'))}"
    if reasoning := turn.get("reasoning_content"):
        lines += f"\n[reasoning] {reasoning}"
    return lines


def _other_item(kind: str, item: Mapping[str, object]) -> str:
    if kind in ("function_call", "custom_tool_call"):
        called = _call(item.get("name"), item.get("arguments") or item.get("input"))
        return f"{_title('assistant')}\n{called}"
    if kind.endswith("_output"):
        return _message(f"tool result {item.get('call_id') or ''}".strip(), item.get("output"))
    return f"{_title(kind)}\n({_size(len(msgspec.json.encode(item)))} of JSON)"


def _message(role: str, content: object) -> str:
    return f"{_title(role)}\n{_content(content)}"


def _title(role: str) -> str:
    return f"── {role} " + "─" * max(2, _WIDTH - 4 - len(role))


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return "(no text)"
    parts = [_content_part(part) for part in objects(content)]
    return "\n".join(parts) or "(nothing)"


def _content_part(part: Mapping[str, object]) -> str:
    kind = str(part.get("type"))
    if isinstance(text := part.get("text"), str):
        return text
    if isinstance(text := part.get("thinking"), str):
        return f"[thinking] {text}"
    if kind == "tool_use":
        given = part.get("input")
        return _call(part.get("name"), msgspec.json.encode(given).decode())
    if kind == "tool_result":
        return f"[result of {part.get('tool_use_id')}]\n{_content(part.get('content'))}"
    if (url := _url(part)) is not None:
        return f"[{kind}: {_url_text(url)}]"
    source = mapping(part.get("source"))
    if isinstance(data := source.get("data"), str):
        return f"[{kind}: {source.get('media_type')}, {_size(_decoded_bytes(data))}]"
    return f"[{kind}: {_size(len(msgspec.json.encode(part)))} of JSON]"


def _url(part: Mapping[str, object]) -> str | None:
    """The address of an image: in ``image_url`` (an object in chat), or in ``source``."""
    found = part.get("image_url")
    url = mapping(found).get("url") if isinstance(found, dict) else found
    url = url or mapping(part.get("source")).get("url")
    return url if isinstance(url, str) else None


def _url_text(url: str) -> str:
    if not url.startswith("data:"):
        return url
    head, _, data = url[5:].partition(",")
    return f"{head.partition(';')[0][:_DATA_URL_HEAD]}, {_size(_decoded_bytes(data))}"


def _decoded_bytes(base64: str) -> int:
    return len(base64.rstrip("=")) * 3 // 4


def _call(name: object, arguments: object) -> str:
    return f"[calls {name}]\n{_indented(arguments if isinstance(arguments, str) else '')}"


def _indented(arguments: str) -> str:
    """A tool's arguments: JSON indented where it is JSON."""
    try:
        text = msgspec.json.format(arguments.encode(), indent=2).decode() if arguments else "{}"
    except (msgspec.DecodeError, UnicodeError):
        text = arguments
    cut = text if len(text) <= _TOOL_CHARS else f"{text[:_TOOL_CHARS]}\n… {len(text):,} characters"
    return "\n".join(f"  {line}" for line in cut.splitlines())


def _size(n_bytes: int) -> str:
    if n_bytes < 10_000:
        return f"{n_bytes:,} B"
    if n_bytes < 10_000_000:
        return f"{n_bytes / 1000:,.0f} KB"
    return f"{n_bytes / 1_000_000:,.1f} MB"

"""An answer put together again: from a stream's events or a whole body, in all three dialects.

For people to read, so it is lenient: what it does not know it leaves out, and half an answer is
better than none. Metering has readers of its own (`core/dialects`), which are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.dialects import Dialect
from arbstr.core.dialects.base import Mark, as_object, texts
from arbstr.core.price import Bill
from arbstr.core.shapes import mapping, objects
from arbstr.core.sse import Event, Splitter
from arbstr.core.usage import Usage

type Kind = Literal["text", "reasoning", "refusal", "tool", "other"]
type Place = tuple[object, ...]
"""Where a part belongs: the choice, then the position within it."""

_LARGEST_EVENT = 1 << 30
_MESSAGES_DELTAS: tuple[tuple[str, Kind], ...] = (
    ("text", "text"),
    ("thinking", "reasoning"),
    ("partial_json", "tool"),
)
_RESPONSES_DELTAS: tuple[tuple[str, Kind], ...] = (
    ("output_text", "text"),
    ("reasoning", "reasoning"),
    ("refusal", "refusal"),
    ("arguments", "tool"),
    ("tool_call_input", "tool"),
)


class Part(msgspec.Struct):
    """A piece of an answer. `name`: a tool's. `text`: a tool's arguments, as JSON."""

    kind: Kind
    text: str = ""
    name: str = ""


class Answer(msgspec.Struct):
    """What was said. `ended`: why each choice ended. `whole`: the stream's end marker was there."""

    model: str = ""
    parts: dict[Place, Part] = {}
    ended: dict[object, str] = {}
    usage: Usage | None = None
    bill: Bill | None = None
    error: str | None = None
    events: int | None = None
    whole: bool = True

    def add(self, place: Place, kind: Kind, text: object, name: object = "") -> None:
        """More of the part at `place`."""
        part = self.parts.get(place)
        if part is None:
            part = self.parts[place] = Part(kind)
        if isinstance(text, str):
            part.text += text
        if isinstance(name, str):
            part.name += name


def read_answer(dialect: Dialect, data: bytes, *, streamed: bool) -> Answer:
    """Read the body of an answer. Raises ValueError for one that is none."""
    if streamed:
        return _read_stream(dialect, data)
    body = as_object(data)
    if body is None:
        raise ValueError("not a JSON object")
    answer = Answer()
    facts = dialect.read_body(data)
    answer.usage, answer.bill = facts.usage, facts.bill
    answer.error = None if facts.error is None else facts.error.message
    _take_body(answer, body)
    return answer


def _read_stream(dialect: Dialect, data: bytes) -> Answer:
    answer = Answer(events=0, whole=False)
    splitter = Splitter(_LARGEST_EVENT)
    reader = dialect.reader(Ask(dialect.name, ""))
    events = splitter.feed(data)
    if (last := splitter.finish()) is not None:
        events.append(last)
    for event in events:
        if event.data is None:
            continue
        answer.events = (answer.events or 0) + 1
        mark = reader.read(event)
        answer.whole = answer.whole or bool(mark & Mark.END)
        _take_event(answer, event)
    answer.usage, answer.bill = reader.usage, reader.bill
    answer.error = None if reader.error is None else reader.error.message
    return answer


# --- streams --------------------------------------------------------------------------------------


def _take_event(answer: Answer, event: Event) -> None:
    """Each dialect's events have members that no other's have."""
    data = as_object(event.data)
    if data is None:
        return
    if isinstance(data.get("choices"), list):
        _name(answer, data)
        _take_choices(answer, objects(data.get("choices")))
        return
    kind = data.get("type")
    if not isinstance(kind, str):
        return
    if kind.startswith("response."):
        _take_responses_event(answer, kind, data)
    else:
        _take_messages_event(answer, kind, data)


def _take_choices(answer: Answer, choices: Iterable[Mapping[str, object]]) -> None:
    """Chat: deltas and whole messages look alike."""
    for choice in choices:
        n = choice.get("index", 0)
        said = mapping(choice.get("delta") or choice.get("message"))
        reasoning = said.get("reasoning_content") or said.get("reasoning")
        if reasoning:
            answer.add((n, "reasoning"), "reasoning", reasoning)
        if text := said.get("content") or choice.get("text"):
            answer.add((n, "text"), "text", text if isinstance(text, str) else texts(text))
        if said.get("refusal"):
            answer.add((n, "refusal"), "refusal", said.get("refusal"))
        for position, call in enumerate(objects(said.get("tool_calls"))):
            function = mapping(call.get("function"))
            place = (n, "tool", call.get("index", position))
            answer.add(place, "tool", function.get("arguments"), function.get("name"))
        if isinstance(reason := choice.get("finish_reason"), str):
            answer.ended[n] = reason


def _take_messages_event(answer: Answer, kind: str, data: Mapping[str, object]) -> None:
    place = (0, data.get("index"))
    if kind == "message_start":
        _name(answer, mapping(data.get("message")))
    elif kind == "content_block_start":
        _take_block(answer, place, mapping(data.get("content_block")))
    elif kind == "content_block_delta":
        delta = mapping(data.get("delta"))
        for name, part in _MESSAGES_DELTAS:
            if isinstance(delta.get(name), str):
                answer.add(place, part, delta.get(name))
    elif isinstance(reason := mapping(data.get("delta")).get("stop_reason"), str):
        answer.ended[0] = reason


def _take_responses_event(answer: Answer, kind: str, data: Mapping[str, object]) -> None:
    response = mapping(data.get("response"))
    _name(answer, response)
    item: Place = (0, data.get("output_index"))
    if kind == "response.output_item.added":
        _take_item(answer, item, mapping(data.get("item")))
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        if output := objects(response.get("output")):
            answer.parts.clear()
            _take_output(answer, output)
        answer.ended[0] = str(response.get("status") or kind.removeprefix("response."))
    elif kind.endswith(".delta"):
        part = next((part for word, part in _RESPONSES_DELTAS if word in kind), None)
        if part is not None:
            n = data.get("summary_index", data.get("content_index"))
            answer.add(item if part == "tool" else (*item, part, n), part, data.get("delta"))


# --- whole bodies ---------------------------------------------------------------------------------


def _take_body(answer: Answer, body: Mapping[str, object]) -> None:
    _name(answer, body)
    if choices := objects(body.get("choices")):
        _take_choices(answer, choices)
    elif content := objects(body.get("content")):
        for n, block in enumerate(content):
            _take_block(answer, (0, n), block)
        if isinstance(reason := body.get("stop_reason"), str):
            answer.ended[0] = reason
    elif output := objects(body.get("output")):
        _take_output(answer, output)
        answer.ended[0] = str(body.get("status") or "")


def _take_block(answer: Answer, place: Place, block: Mapping[str, object]) -> None:
    """A content block of a message: whole, or the empty start of one."""
    kind = block.get("type")
    if kind == "text":
        answer.add(place, "text", block.get("text"))
    elif kind == "thinking":
        answer.add(place, "reasoning", block.get("thinking"))
    elif kind in ("tool_use", "server_tool_use"):
        given = block.get("input")
        text = msgspec.json.encode(given).decode() if given else ""
        answer.add(place, "tool", text, block.get("name"))
    else:
        answer.add(place, "other", "", str(kind))


def _take_output(answer: Answer, output: Iterable[Mapping[str, object]]) -> None:
    for n, item in enumerate(output):
        _take_item(answer, (0, n), item)


def _take_item(answer: Answer, place: Place, item: Mapping[str, object]) -> None:
    """An output item of a response: whole, or the empty start of one."""
    kind = item.get("type")
    if kind == "message":
        for n, part in enumerate(objects(item.get("content"))):
            said: Kind = "refusal" if part.get("type") == "refusal" else "text"
            answer.add((*place, said, n), said, part.get(said))
    elif kind == "reasoning":
        for n, part in enumerate([*objects(item.get("summary")), *objects(item.get("content"))]):
            answer.add((*place, "reasoning", n), "reasoning", part.get("text"))
    elif kind in ("function_call", "custom_tool_call"):
        answer.add(place, "tool", item.get("arguments") or item.get("input"), item.get("name"))
    else:
        answer.add(place, "other", "", str(kind))


def _name(answer: Answer, holder: Mapping[str, object]) -> None:
    if isinstance(model := holder.get("model"), str) and not answer.model:
        answer.model = model

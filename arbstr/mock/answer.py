"""What the mock models say: the same request always gets the same answer.

A number in the last user text sets its length for tests: `MOCK_TOKENS=500` (times the model's
verbosity).
"""

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from arbstr.mock.ask import Ask
from arbstr.mock.models import MockModel
from arbstr.mock.money import Usage

BASE_TOKENS = 40
"""Length of an answer of verbosity 1."""

_TOOL_CALL_TOKENS = 10
_ECHO_CHARS = 60
_LENGTH = re.compile(r"MOCK_TOKENS=(\d{1,6})")
_MORE = (
    "Nothing here was sent to a model. ",
    "Every token is counted and paid for in play sats. ",
    "The balance goes down as it would at a real node. ",
    "Ask for one of the mock models to see a bad day. ",
)
_THOUGHT = "Let me think about the question. "


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, before it has a dialect's shape.

    Attributes:
        model: the name it carries.
        text: what is said; empty with a tool call.
        reasoning: what was thought before.
        tool: the tool that is called, with no arguments.
        cut: whether the output limit ended it.
        usage: its tokens.
        id: 16 characters; a prefix is the dialect's.
        call_id: the same for the tool call.
        item_id: the same for the message inside a response.
        created: seconds since the epoch.
    """

    model: str
    text: str
    reasoning: str
    tool: str | None
    cut: bool
    usage: Usage
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    call_id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    item_id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def finish(self) -> Literal["stop", "length", "tool_calls"]:
        """Why it ended, in chat's words."""
        if self.cut:
            return "length"
        return "tool_calls" if self.tool else "stop"

    def pieces(self, chars: int) -> list[str]:
        """The text in the pieces it is streamed in."""
        return [self.text[i : i + chars] for i in range(0, len(self.text), chars)]


def compose(model: MockModel, ask: Ask, cached_tokens: int) -> Answer:
    """Answer a request: think, then speak or call a tool, until the limit is reached."""
    room = min(ask.cap or model.max_output, model.max_output)
    thought = min(round(BASE_TOKENS * model.reasoning), room)
    room -= thought
    text, tool, cut = "", None, room <= 0
    spoken = 0
    if not cut and ask.tool:
        tool, spoken = ask.tool, _TOOL_CALL_TOKENS + -(-len(ask.tool) // 4)
    elif not cut:
        wanted = _wanted_tokens(model, ask)
        spoken, cut = min(wanted, room), wanted > room
        text = _take((_opening(model, ask), *_MORE), spoken, whole=not cut)
    return Answer(
        model=model.upstream_id,
        text=text,
        reasoning=_take((_THOUGHT,), thought, whole=True),
        tool=tool,
        cut=cut,
        usage=Usage(ask.input_tokens, cached_tokens, thought + spoken, thought),
    )


def silence(model: MockModel, ask: Ask) -> Answer:
    """The answer of an API that writes nothing: embeddings."""
    return Answer(model.upstream_id, "", "", None, cut=False, usage=Usage(ask.input_tokens))


def _wanted_tokens(model: MockModel, ask: Ask) -> int:
    told = _LENGTH.search(ask.last_text) if "MOCK_TOKENS=" in ask.last_text else None
    return max(round((int(told[1]) if told else BASE_TOKENS) * model.verbosity), 1)


def _opening(model: MockModel, ask: Ask) -> str:
    said = " ".join(ask.last_text[-4 * _ECHO_CHARS :].split())[-_ECHO_CHARS:]
    echo = f'You said: "{said}". ' if said else ""
    result = "Thank you for the result. " if ask.after_tool else ""
    return f"Hello! How can I help you today? I am {model.id}. {result}{echo}"


def _take(sentences: Sequence[str], tokens: int, *, whole: bool) -> str:
    """The sentences over and over, four bytes a token; `whole` lets it end with a word."""
    size = tokens * 4
    once = "".join(sentences).encode()
    text = (once * (size // len(once) + 1))[:size].decode(errors="ignore").rstrip()
    if not whole or not text or text.endswith("."):
        return text
    return f"{text.rpartition(' ')[0] or text[:-1]}."

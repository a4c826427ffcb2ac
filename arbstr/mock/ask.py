"""What a request wants, in any of the dialects: size, streaming, limits, tools, the last text."""

from dataclasses import dataclass
from hashlib import blake2b

import msgspec

IMAGE_BYTES = 340
"""An image counts as so much text, whatever its size (85 tokens, OpenAI's low detail)."""

_REQUEST_TOKENS = 5  # with these two `hello` is 11 tokens, as in captures/chat_ok
_MESSAGE_TOKENS = 4
_CACHEABLE_TOKENS = 1024
_IMAGES = frozenset({"image_url", "image", "input_image", "input_audio", "file", "document"})
_NO_TEXT = frozenset({"type", "role", "cache_control"})
_TOOL_RESULTS = frozenset({"tool_result", "function_call_output"})
_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Ask:
    """A parsed request.

    Attributes:
        stream: whether events are wanted.
        items: the messages, input items or input texts, in their order.
        head: what stands before them: system prompt, instructions, tools.
        last_text: of the last user message; what the answer echoes.
        after_tool: whether the last item is a tool's result.
        tool: the tool to call, by name.
        cap: the most output tokens wanted, by any spelling.
        max_tokens: `max_tokens` alone: what the reservation looks at.
        thinking: whether the client of messages asked to see reasoning.
        body: the whole of it.
        input_tokens: of the whole prompt: a quarter of its bytes and a little for each message.
        prompt_chars: text of `messages`, for the reservation; `None` without them.
    """

    stream: bool
    items: list[object]
    head: list[object]
    last_text: str
    after_tool: bool
    tool: str | None
    cap: int | None
    max_tokens: int | None
    thinking: bool
    body: dict[str, object]
    input_tokens: int
    prompt_chars: int | None

    def prefixes(self) -> list[tuple[bytes, int]]:
        """Each prefix of the prompt that is long enough to be cached: its hash, its tokens."""
        found: list[tuple[bytes, int]] = []
        if self.input_tokens < _CACHEABLE_TOKENS:
            return found
        chain = blake2b(msgspec.json.encode(_unmarked(self.head)), digest_size=16)
        tokens = _REQUEST_TOKENS + _head_tokens(self.head)
        for item in self.items:
            chain.update(msgspec.json.encode(_unmarked(item)))
            tokens += _item_tokens(text_bytes(item))
            if tokens >= _CACHEABLE_TOKENS:
                found.append((chain.digest(), tokens))
        return found


def read(body: dict[str, object]) -> Ask:
    """Read a request body of chat, messages, responses or embeddings."""
    items = _items(body.get("messages", body.get("input")))
    turns = [item for item in items if not (isinstance(item, dict) and _is_system(item))]
    last = turns[-1] if turns else ""
    last_text = next((_user_text(t) for t in reversed(turns) if _is_user(t)), "")
    after_tool = _is_tool_result(last)
    thinking = body.get("thinking")
    head = [part for key in ("system", "instructions", "tools") if (part := body.get(key))]
    sizes = [text_bytes(item) for item in items]
    caps = [cap for key in _CAPS if (cap := _whole(body.get(key))) is not None and cap > 0]
    return Ask(
        stream=body.get("stream") is True,
        items=items,
        head=head,
        last_text=last_text,
        after_tool=after_tool,
        tool=None if after_tool else _tool(body, last_text),
        cap=min(caps, default=None),
        max_tokens=_whole(body.get("max_tokens")),
        thinking=isinstance(thinking, dict) and thinking.get("type") != "disabled",
        body=body,
        input_tokens=_REQUEST_TOKENS + _head_tokens(head) + sum(map(_item_tokens, sizes)),
        prompt_chars=sum(sizes) if "messages" in body else None,
    )


def text_bytes(value: object) -> int:
    """Bytes of all text inside a JSON value, whatever its keys; an image is `IMAGE_BYTES`."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, list):
        return sum(map(text_bytes, value))
    if isinstance(value, dict):
        if _type(value) in _IMAGES:
            return IMAGE_BYTES
        return sum(text_bytes(part) for key, part in value.items() if key not in _NO_TEXT)
    return 0


def _items(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _head_tokens(head: list[object]) -> int:
    return sum(-(-text_bytes(part) // 4) for part in head)


def _unmarked(value: object) -> object:
    """The value without Anthropic's cache marks, which wander from turn to turn."""
    if isinstance(value, list):
        return [_unmarked(part) for part in value]
    if isinstance(value, dict):
        return {k: _unmarked(part) for k, part in value.items() if k != "cache_control"}
    return value


def _item_tokens(size_bytes: int) -> int:
    return _MESSAGE_TOKENS - (-size_bytes // 4)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_system(item: dict[str, object]) -> bool:
    return item.get("role") in ("system", "developer")


def _is_user(item: object) -> bool:
    """Whether an item is the user's own words: a bare string, or role `user` with text."""
    if isinstance(item, str):
        return True
    return isinstance(item, dict) and item.get("role") == "user" and bool(_user_text(item))


def _user_text(item: object) -> str:
    """The text of a message; of parts those of type text alone."""
    if isinstance(item, str):
        return item
    content = item.get("content") if isinstance(item, dict) else None
    if isinstance(content, list):
        texts = [p.get("text") for p in content if isinstance(p, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _type(item: dict[str, object]) -> str | None:
    """What kind of part or item it is; a schema may have a property of that name."""
    kind = item.get("type")
    return kind if isinstance(kind, str) else None


def _is_tool_result(item: object) -> bool:
    if not isinstance(item, dict):
        return False
    if item.get("role") == "tool" or _type(item) in _TOOL_RESULTS:
        return True
    content = item.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and _type(part) in _TOOL_RESULTS for part in content
    )


def _tool(body: dict[str, object], last_text: str) -> str | None:
    """The tool to call: the one `tool_choice` forces, the first where the text speaks of a tool."""
    choice = body.get("tool_choice")
    names = [name for tool in _items(body.get("tools")) if (name := _tool_name(tool))]
    if not names or choice == "none":
        return None
    if isinstance(choice, dict) and (forced := _tool_name(choice)) in names:
        return forced
    forced_any = choice == "required" or (isinstance(choice, dict) and choice.get("type") == "any")
    return names[0] if forced_any or "tool" in last_text.lower() else None


def _tool_name(tool: object) -> str | None:
    """Chat has the name in `function`, responses and messages have it outside."""
    if not isinstance(tool, dict):
        return None
    inner = tool.get("function")
    name = inner.get("name") if isinstance(inner, dict) else tool.get("name")
    return name if isinstance(name, str) else None


class PrefixCache:
    """Which prompts were seen lately: what a prompt shares with one of them is cached.

    Args:
        ttl_s: how long a prefix is kept after it was last used.
        most: how many prefixes are kept.
    """

    def __init__(self, *, ttl_s: float = 300.0, most: int = 10_000) -> None:
        self._ttl_s = ttl_s
        self._most = most
        self._expires: dict[tuple[str, str, bytes], float] = {}

    def cached_tokens(self, owner: str, model_id: str, ask: Ask, now_s: float) -> int:
        """Tokens of the longest prefix that `owner` sent to the model before; remembers this one.

        Args:
            owner: the key that pays.
            model_id: caches are a model's own.
            ask: the request.
            now_s: a clock that only goes forward.
        """
        longest = 0
        for digest, tokens in ask.prefixes():
            key = (owner, model_id, digest)
            if self._expires.pop(key, 0.0) > now_s:
                longest = tokens
            self._expires[key] = now_s + self._ttl_s  # last in, so the oldest is always first
        while len(self._expires) > self._most:
            del self._expires[next(iter(self._expires))]
        return longest

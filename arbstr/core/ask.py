"""What a client asks for, in whatever dialect it says so."""

from __future__ import annotations

import msgspec


class Ask(msgspec.Struct, frozen=True):
    """One request, as far as routing needs it. Absent is None.

    `prompt_bytes`: the body's size without image data, the base of the token estimate.
    `max_output`: the client's cap on output tokens; `reserves` is False where the node does not let
    that cap reduce its reservation (routstr.md: ``max_completion_tokens``, ``/v1/responses``).
    `messages`: how many messages or items the prompt has.
    `wants_usage`: the client itself asked for the usage event of a streamed chat.
    `choices`: how many answers are asked for (``n``).
    `conversation`: an id or a hash that stays the same over the turns of one conversation.
    `prefix_bytes`: how much of `prompt_bytes` an earlier turn may have put in the seller's cache.
    """

    dialect: str
    model: str
    stream: bool = False
    max_output: int | None = None
    reserves: bool = True
    tools: bool = False
    images: int = 0
    messages: int = 0
    json_mode: bool = False
    choices: int = 1
    wants_usage: bool = False
    last_user_text: str = ""
    prompt_bytes: int = 0
    conversation: str | None = None
    prefix_bytes: int = 0
    output: bool = True
    """False where the endpoint produces no output tokens (embeddings, count_tokens)."""
    free: bool = False
    """Sellers charge nothing for it (count_tokens), so it counts against no cap."""

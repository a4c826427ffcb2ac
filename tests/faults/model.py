"""What a case is: which upstreams stand behind a request, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

type Shown = Literal["answer", "cut", "error"]

ANY_STATUS = -1
"""The attempt's status says nothing of value here."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model of a case.

    `fault`: ``NAME[=ARGUMENT]`` of a behaviour. `provider`: one of the upstream's; at ``listed``
    the model is synced from ``/v1/models``, with its `max_cost_sats`; others stand in the config.
    `context`: in tokens. Each costs a hundred times what the one before it does: the order of
    candidates is the order of prices.
    """

    fault: str
    provider: str = "up"
    context: int | None = None
    max_cost_sats: str | None = None


@dataclass(frozen=True, slots=True)
class Saw:
    """What the client must see.

    `error`: the SDK's exception; `status` and `code`: in it; `says`: in its message. An
    ``answer`` is the right text and, streamed, ``[DONE]``; a ``cut`` is the beginning of the right
    text, then the exception, and no ``[DONE]``.
    """

    kind: Shown
    error: str = ""
    status: int | None = None
    code: str | None = None
    says: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of `attempts`.

    `of`: index of the candidate. `seen`: it reached the upstream as a request. `code`
    None: any, but there must be one where the outcome is not ``ok``.
    """

    of: int
    outcome: str
    status: int | None = ANY_STATUS
    code: str | None = None
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Expect:
    """What one request must lead to. `outcome`: of its row in `requests`."""

    saw: Saw
    attempts: tuple[Attempt, ...]
    outcome: str


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: requests, one after the other, on one connection of one client.

    `group`: which proxy (its config) it runs at. `id`: unique, part of all its models' names.
    `raw`: a body to send as it stands. `headers`: more of them. `substitutes`: the candidates
    follow from ``[fallback.models]``, not from a policy.
    """

    id: str
    name: str
    group: str
    candidates: tuple[Candidate, ...]
    asks: tuple[Expect, ...]
    stream: bool
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    substitutes: bool = False

    def model(self, index: int) -> str:
        """The name of candidate `index` on the wire."""
        return f"{self.candidates[index].fault}@{self.id}.{index}"

    def rate(self, index: int) -> str:
        """What candidate `index` costs, msats per token, as written in the config."""
        return ("0.01", "1", "100", "10000", "1000000")[index]


@dataclass(slots=True)
class Seen:
    """What the client saw of one request. `wire`: head and body as they came, framing removed."""

    kind: Shown | Literal["broken", "hung"] = "answer"
    text: str = ""
    error: str = ""
    status: int | None = None
    code: str | None = None
    type: str | None = None
    message: str = ""
    attempts_told: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: bytearray = field(default_factory=bytearray)

    def brief(self) -> str:
        """A few words for the table."""
        if self.kind == "answer":
            return "answer"
        words = ["text, then"] if self.kind == "cut" else []
        words += [self.error]
        words += [str(self.status)] if self.status is not None else []
        return " ".join([*words, self.code or self.type or ""]).strip()


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the printed table. `problems`: why it is not ok. `wire`: for ``--verbose``."""

    name: str
    group: str
    saw: str
    attempts: str
    outcome: str
    problems: tuple[str, ...]
    wire: str = ""

    @property
    def ok(self) -> bool:
        """Whether all is as design.md says."""
        return not self.problems

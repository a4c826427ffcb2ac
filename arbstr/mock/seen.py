"""What the mock node remembers of a request, for tests."""

from dataclasses import dataclass


@dataclass(slots=True)
class Seen:
    """One request that came in.

    Attributes:
        method: as it came.
        path: with its query.
        headers: names in lower case.
        body: as it came.
        model: the id of the model that it meant; `None`: none, or an unknown one.
        charged_msats: what was billed for it; grows when the answer is played to its end.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    model: str | None = None
    charged_msats: int = 0

"""Looking into decoded JSON that may have any shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def mapping(value: object) -> Mapping[str, object]:
    """The object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> Sequence[Mapping[str, object]]:
    """The objects in a list; () for anything else."""
    if not isinstance(value, list):
        return ()
    return [item for item in value if isinstance(item, dict)]


def first(source: Mapping[str, object], *names: str) -> object:
    """The first of these members that is there and not null."""
    for name in names:
        if (value := source.get(name)) is not None:
            return value
    return None

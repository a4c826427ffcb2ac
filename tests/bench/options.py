"""What every benchmark is told, and how contenders take turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import Contender


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    `rounds`: how often each is measured; `seconds`: for how long each time; `count`: how many
    requests, streams or rows where it is a number that counts (None: the benchmark's own).
    `names`: who takes part; `peers`: where the peers are installed; `folder`: for configs and logs.
    """

    rounds: int
    seconds: float
    count: int | None
    names: Sequence[str]
    peers: Path | None
    folder: Path


def turns(contenders: Sequence[Contender], rounds: int) -> Iterator[Contender]:
    """Everybody once a round, each round beginning with the next one.

    Interleaved, so that whatever else the machine does hits all of them.
    """
    for number in range(rounds):
        first = number % len(contenders)
        yield from (*contenders[first:], *contenders[:first])

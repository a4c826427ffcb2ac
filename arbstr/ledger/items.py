"""What the writer is given to write."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from arbstr.core.record import AttemptRow, LateCost, PriceRow, RequestRow


class Begin(msgspec.Struct, frozen=True):
    """A request goes up."""

    row: RequestRow


class Finish(msgspec.Struct, frozen=True):
    """A request has ended. `done` is called once that is written."""

    row: RequestRow
    attempts: tuple[AttemptRow, ...] = ()
    done: Callable[[], None] | None = None


class Late(msgspec.Struct, frozen=True):
    """The cost of an attempt came after its request's end."""

    cost: LateCost


class Prices(msgspec.Struct, frozen=True):
    """What a sync found."""

    rows: tuple[PriceRow, ...]


type Item = Begin | Finish | Late | Prices

"""The soak's upstream: any model may fail at any time, three attempts in ten."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tests.faults import bodies, cuts, good, heads, nothing, odd, statuses
from tests.faults.wire import Behaviour, Exchange, table

SHARE = 0.3


async def _status(x: Exchange, number: int) -> None:
    x.argument = str(number)
    await statuses.status(x)


async def _busy(x: Exchange) -> None:
    x.argument = "0"
    await statuses.busy(x)


async def _late(x: Exchange) -> None:
    x.argument = "2500"
    await heads.late(x)


async def _encoded(x: Exchange) -> None:
    x.argument = "gzip"
    await bodies.encoded(x)


def _fails(number: int) -> Behaviour:
    return lambda x: _status(x, number)


ANY: tuple[Behaviour, ...] = (
    _fails(500), _fails(502), _fails(503), _fails(520), _fails(408), _busy, _late, _encoded,
    heads.reset_before, heads.close_before, heads.reset_head, heads.head_reset, heads.garbage,
    bodies.ok_error, bodies.html, bodies.empty, bodies.broken_json, bodies.truncated,
    bodies.no_choices, bodies.lying_chunk, bodies.trailing, heads.idle_close,
)  # fmt: skip
STREAMED: tuple[Behaviour, ...] = (
    nothing.error_first, nothing.comments_only, nothing.done_first, nothing.role_only,
    nothing.role_reset, cuts.cut, cuts.cut_close, cuts.cut_reset, cuts.cut_in_event,
    cuts.error_mid, cuts.broken_mid, cuts.lying_chunk_mid, odd.no_done, odd.split_crlf,
    odd.usage_every, odd.no_usage,
)  # fmt: skip


async def chaos(x: Exchange) -> None:
    """A fault with a chance of `SHARE`, else the right answer. ``=SEED`` makes it repeatable."""
    mark = f"{x.argument} {x.nonce} {x.model} {len(x.upstream.tries_of(x.nonce))}"
    digest = hashlib.sha256(mark.encode()).digest()
    if int.from_bytes(digest[:4]) >= SHARE * 2**32:
        await good.ok(x)
        return
    faults = ANY + STREAMED if x.stream else ANY
    await faults[int.from_bytes(digest[4:8]) % len(faults)](x)


BEHAVIOURS: Mapping[str, Behaviour] = table(chaos)

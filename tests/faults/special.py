"""Cases that `cases.FAULTS` cannot say, and bodies that are never sent."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults import histories, rules
from tests.faults.model import Case, Expect, Saw
from tests.faults.ruletypes import GOOD

_REFUSED_BODIES: tuple[tuple[str, bytes], ...] = (
    ("an array", b'[{"model": "%m", "messages": [%u]}]'),
    ("a number as model", b'{"model": 5, "messages": [%u]}'),
    ("null as model", b'{"model": null, "messages": [%u]}'),
    ("no model", b'{"messages": [%u]}'),
    ("model twice", b'{"model": "%m", "messages": [%u], "model": "%m"}'),
    ("messages twice", b'{"messages": [], "model": "%m", "messages": [%u]}'),
    (
        "stream twice, escaped",
        b'{"model": "%m", "messages": [%u], "stream": false, "\\u0073tream": true}',
    ),
    ("broken JSON", b'{"model": "%m", "messages": [%u]'),
    ("a string", b'"%m nonce=%n"'),
    ("not UTF-8", b'{"model": "%m", "messages": [%u], "user": "\xff\xfe"}'),
    ("nothing", b""),
)
"""``%m`` the model, ``%u`` the user's message, ``%n`` the nonce."""


def refused() -> Iterator[Case]:
    """Bodies that are refused with a 400: nothing is sent."""
    saw = Saw("error", "BadRequestError", 400)
    for number, (name, raw) in enumerate(_REFUSED_BODIES):
        yield Case(
            id=f"r{number}",
            name=f"refused: a body that is {name}",
            group="main",
            candidates=(GOOD,),
            asks=(Expect(saw, (), "refused"),),
            stream=False,
            raw=raw,
        )


def special_rules() -> Iterator[Case]:
    """All of the above, plain and streamed."""
    everything = (
        *rules.BUSY, *rules.BUSY_AGAIN, *rules.WHO_IS_NEXT, *rules.LAST_WORD,
        *rules.SUBSTITUTES, *rules.PAID_ONCE,
        *histories.IDLE, *histories.BREAKER, *histories.LATE, *histories.OTHERS,
        *histories.MAIN_OVER_H2,
    )  # fmt: skip
    for number, special in enumerate(everything):
        for shape in special.shapes:
            yield Case(
                id=f"s{number}{shape[0]}",
                name=f"{special.name} · {shape}",
                group=special.group,
                candidates=special.candidates,
                asks=special.asks,
                stream=shape == "streamed",
                headers=special.headers,
                substitutes=special.substitutes,
            )

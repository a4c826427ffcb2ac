"""Cases with a history or a clock: idle connections, circuits, late answers; and HTTP/2."""

from __future__ import annotations

from tests.faults.cases import BOTH, CUT, NOBODY, PLAIN, STREAMED, error
from tests.faults.model import Attempt, Candidate, Expect, Saw
from tests.faults.ruletypes import BAD_500, Special, answered, bad, failed, up

IDLE: tuple[Special, ...] = (
    Special(
        "reused idle connection is reset",
        up("idle-reset", "ok"),
        (answered(by=0), answered(bad(0, None), by=0)),
    ),
    Special(
        "reused idle connection is reset, and the fresh one",
        up("idle-reset-twice", "ok"),
        (answered(by=0), answered(bad(0, None), bad(0, None), by=1)),
    ),
    Special(
        "reused idle connection is reset, and the fresh one, all bad",
        up("idle-reset-twice", "reset-before"),
        (answered(by=0), failed(NOBODY, bad(0, None), bad(0, None), bad(1, None))),
    ),
    Special(
        "idle connection was closed long ago",
        up("idle-close", "ok"),
        (answered(by=0), answered(by=0)),
    ),
)

BREAKER: tuple[Special, ...] = (
    Special(
        "circuit: three failures open it",
        up("status=500", "ok"),
        (*[answered(BAD_500, by=1)] * 3, *[answered(by=1)] * 2),
    ),
    Special(
        "circuit: open, but nobody else",
        up("status=503"),
        (failed(error(503), bad(0, 503)),) * 4,
    ),
    Special(
        "circuit: 401 opens nothing", up("status=401", "ok"), (answered(bad(0, 401), by=1),) * 5
    ),
    Special("circuit: 402 opens nothing", up("poor", "ok"), (answered(bad(0, 402), by=1),) * 5),
    Special(
        "circuit: 400 opens nothing", up("status=400", "ok"), (failed(error(400), bad(0, 400)),) * 4
    ),
)

LATE: tuple[Special, ...] = (
    Special(
        "the answer comes late and is billed, good follows",
        up("late=1500", "ok"),
        (answered(bad(0, code="first_token_timeout"), by=1),),
        group="clock",
    ),
    Special(
        "the answer comes late, and the last one too",
        up("late=1500", "late=1200"),
        (answered(bad(0, code="first_token_timeout"), by=1),),
        group="clock",
    ),
    Special(
        "crumbs past the time-out, good follows",
        up("trickle=1500", "ok"),
        (answered(bad(0, code="first_token_timeout"), by=1),),
        group="clock",
        shapes=PLAIN,
    ),
    Special(
        "crumbs, nobody else", up("trickle=1500"), (answered(by=0),), group="clock", shapes=PLAIN
    ),
)

INTERRUPTED = Expect(CUT, (Attempt(0, "interrupted", 200),), "interrupted")
ALL_500 = failed(error(500), BAD_500, bad(1, 500))
MAIN_OVER_H2: tuple[Special, ...] = tuple(
    Special(
        f"{name}{where}",
        tuple(Candidate(candidate.fault, provider) for candidate in candidates),
        asks,
        shapes,
        "h2",
    )
    for provider, where in (("up", ", h2 client"), ("secure", ", h2 both ways"))
    for name, candidates, asks, shapes in (
        ("good", up("ok"), (answered(by=0),) * 2, BOTH),
        ("500, good follows", up("status=500", "ok"), (answered(BAD_500, by=1),), BOTH),
        ("500, all bad", up(*["status=500"] * 2), (ALL_500,), BOTH),
        ("reset, good follows", up("reset-before", "ok"), (answered(bad(0, None), by=1),), BOTH),
        ("headers, then reset", up("head-reset", "ok"), (answered(bad(0), by=1),), BOTH),
        ("silence, good follows", up("silent", "ok"), (answered(bad(0, None), by=1),), BOTH),
        ("HTML, all bad", up("html", "html"), (failed(NOBODY, bad(0, 200), bad(1, 200)),), BOTH),
        ("cut cleanly", up("cut", "ok"), (INTERRUPTED,), STREAMED),
        ("cut by reset", up("cut-reset"), (INTERRUPTED,), STREAMED),
        ("stall", up("stall"), (INTERRUPTED,), STREAMED),
    )
)  # fmt: skip

ERROR_EVENT = Saw("cut", "APIError", None, None, "Provider disconnected")
OTHERS: tuple[Special, ...] = (
    Special(
        "an error event in mid-stream",
        up("error-mid", "ok"),
        (Expect(ERROR_EVENT, (Attempt(0, "interrupted", 200),), "interrupted"),),
        shapes=STREAMED,
    ),
)

"""Cases with rules of their own: second chances, and who may be next."""

from __future__ import annotations

from tests.faults.cases import CUT, NOBODY, STREAMED, error
from tests.faults.model import Attempt, Candidate, Expect
from tests.faults.ruletypes import (
    BAD_429,
    BAD_500,
    GOOD,
    Special,
    answered,
    bad,
    failed,
    up,
)

BUSY: tuple[Special, ...] = tuple(
    Special(
        f"429, retry-after {words}, then good",
        up(f"busy-once={value}", "ok"),
        (answered(BAD_429, by=0),),
    )
    for value, words in (("1", "1"), ("0", "0"), ("soon", "a date 1 s off"))
)
BUSY_AGAIN: tuple[Special, ...] = (
    Special(
        "429, retry-after 0, every time, good follows",
        up("busy=0", "ok"),
        (answered(BAD_429, BAD_429, by=1),),
    ),
    Special(
        "429, retry-after 0, every time, all bad",
        up("busy=0", "busy=0"),
        (failed(error(429), BAD_429, BAD_429, bad(1, 429), bad(1, 429)),),
    ),
    Special(
        "429, retry-after -7, good follows",
        up("busy=-7", "ok"),
        (answered(BAD_429, BAD_429, by=1),),
    ),
    Special(
        "429, retry-after 20, asked again while it rests",
        up("busy=20", "ok"),
        (answered(BAD_429, by=1), answered(by=1)),
    ),
    Special("429, retry-after 0, nobody else", up("busy-once=0"), (answered(BAD_429, by=0),)),
)

GOOD_SMALL = Candidate("ok", context=8000)
GOOD_LARGE = Candidate("ok", context=200_000)
BAD_413 = Candidate("status=413", context=8000)
POOR = Candidate("poor", "listed", max_cost_sats="1000")
GOOD_DEAR = Candidate("ok", "listed", max_cost_sats="2000")

WHO_IS_NEXT: tuple[Special, ...] = (
    Special(
        "404, asked again",
        up("status=404", "ok"),
        (answered(bad(0, 404), by=1), answered(by=1)),
    ),
    Special(
        "400 invalid_model, asked again",
        up("unknown-model", "ok"),
        (answered(bad(0, 400), by=1), answered(by=1)),
    ),
    Special(
        "400 context too long, a larger one follows",
        (Candidate("too-long", context=8000), GOOD_SMALL, GOOD_LARGE),
        (answered(bad(0, 400, "context_length_exceeded"), by=2),),
    ),
    Special(
        "400 context too long, all bad",
        (Candidate("too-long", context=8000), GOOD_SMALL, Candidate("too-long", context=200_000)),
        (failed(error(400), bad(0, 400), bad(2, 400)),),
    ),
    Special(
        "400 context too long, none larger",
        (Candidate("too-long", context=8000), GOOD_SMALL),
        (failed(error(400), bad(0, 400)),),
    ),
    Special(
        "413, a larger one follows",
        (BAD_413, GOOD_SMALL, GOOD_LARGE),
        (answered(bad(0, 413), by=2),),
    ),
    Special(
        "413, all bad",
        (BAD_413, GOOD_SMALL, Candidate("status=413", context=200_000)),
        (failed(error(413), bad(0, 413), bad(2, 413)),),
    ),
    Special(
        "402, a smaller reservation follows",
        (POOR, GOOD_DEAR, Candidate("ok", "listed", max_cost_sats="10")),
        (answered(bad(0, 402, "insufficient_balance"), by=2),),
    ),
    Special(
        "402, all bad",
        (POOR, GOOD_DEAR, Candidate("poor", "listed", max_cost_sats="10")),
        (failed(error(402), bad(0, 402), bad(2, 402)),),
    ),
    Special(
        "402, none smaller",
        (POOR, GOOD_DEAR),
        (failed(error(402), bad(0, 402)),),
    ),
    Special("402, nobody knows what is reserved", up("poor", "ok"), (answered(bad(0, 402), by=1),)),
    *(
        special
        for status in (401, 403)
        for special in (
            Special(
                f"{status} of the node, another provider follows",
                (Candidate(f"detail={status}"), GOOD, Candidate("ok", "other")),
                (answered(bad(0, status, "invalid_api_key"), by=2),),
            ),
            Special(
                f"{status} of the node, all bad",
                (Candidate(f"detail={status}"), GOOD, Candidate(f"detail={status}", "other")),
                (failed(error(status), bad(0, status), bad(2, status)),),
            ),
            Special(
                f"{status} of the node, nobody else",
                (Candidate(f"detail={status}"), GOOD),
                (failed(error(status), bad(0, status)),),
            ),
        )
    ),
)  # fmt: skip

LAST_WORD: tuple[Special, ...] = (
    Special(
        "503, then nothing but refusals: the last real error",
        (Candidate("status=503"), Candidate("ok", "refused")),
        (failed(error(503), bad(0, 503), Attempt(1, "error", None, seen=False)),),
    ),
    Special(
        "reset, then 500: the last real error",
        up("reset-before", "status=500"),
        (failed(error(500), bad(0), bad(1, 500)),),
    ),
    Special(
        "500, then cut in mid-stream",
        up("status=500", "cut-reset", "ok"),
        (Expect(CUT, (BAD_500, Attempt(1, "interrupted", 200)), "interrupted"),),
        shapes=STREAMED,
    ),
    Special(
        "five bad models, four attempts",
        up("status=500", "status=502", "head-reset", "status=503", "ok"),
        (failed(error(503), BAD_500, bad(1, 502), bad(2), bad(3, 503)),),
    ),
    Special(
        "three bad models, then a good one",
        up("empty", "status=502", "head-reset", "ok"),
        (answered(bad(0), bad(1, 502), bad(2), by=3),),
    ),
)

SUBSTITUTES: tuple[Special, ...] = (
    Special(
        "500, a substitute follows",
        up("status=500", "ok"),
        (answered(BAD_500, by=1),),
        substitutes=True,
    ),
    Special(
        "reset, all substitutes bad",
        up("reset-before", "html", "head-close"),
        (failed(NOBODY, bad(0), bad(1), bad(2)),),
        substitutes=True,
    ),
    Special(
        "500, and no substitutes",
        up("status=500"),
        (failed(error(500), BAD_500),),
        substitutes=True,
    ),
)

PAID_ONCE: tuple[Special, ...] = tuple(
    Special(f"paid by X-Cashu: {words}", up(fault, "ok"), (failed(saw, attempt),),
            headers={"x-cashu": "cashuAeyJ0b2tlbiI6W119"})
    for fault, words, saw, attempt in (
        ("status=500", "500", error(500), BAD_500),
        ("busy=0", "429, retry-after 0", error(429), BAD_429),
        ("status=404", "404", error(404), bad(0, 404)),
        ("reset-before", "reset", NOBODY, bad(0)),
    )
)  # fmt: skip

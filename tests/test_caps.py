"""Daily caps: what is promised counts before it is spent."""

import asyncio

from arbstr.core.caps import CapHit, Caps, Reservation, day_of
from arbstr.core.policy import Policies, Rule

DAY_MS = 86_400_000
NOON = 20_000 * DAY_MS + DAY_MS // 2  # 2024-10-04
CODE = Rule("code", max_msats_per_day=1_000)


def caps(*, over_all: int | None = None) -> Caps:
    return Caps(Policies((CODE, Rule("quick")), max_msats_per_day=over_all))


def held(caps: Caps, msats: float, policy: str | None = "code", now_ms: int = NOON) -> Reservation:
    reservation = caps.reserve(policy, msats, now_ms)
    assert isinstance(reservation, Reservation)
    return reservation


def spent(caps: Caps, now_ms: int = NOON) -> float:
    """What was spent under the policy, as long as nothing is reserved."""
    return 1_000 - caps.headroom_msats("code", now_ms)


def test_a_hundred_parallel_requests_do_not_race_past_a_cap_for_ten() -> None:
    ledger = caps()

    async def request() -> bool:
        reservation = ledger.reserve("code", 99.5, NOON)
        if isinstance(reservation, CapHit):
            return False
        await asyncio.sleep(0)
        ledger.settle(reservation, 100)
        return True

    async def everyone() -> list[bool]:
        return await asyncio.gather(*(request() for _ in range(100)))

    assert sum(asyncio.run(everyone())) == 10
    assert spent(ledger) == 1_000


def test_what_is_reserved_counts_until_it_is_settled() -> None:
    ledger = caps()
    reservation = held(ledger, 800)

    assert ledger.headroom_msats("code", NOON) == 200
    ledger.settle(reservation, 50)
    assert ledger.headroom_msats("code", NOON) == 950


def test_an_unknown_cost_counts_as_expected_and_a_failure_as_nothing() -> None:
    ledger = caps()
    ledger.settle(held(ledger, 300), None)
    ledger.settle(held(ledger, 300), 0)

    assert spent(ledger) == 300


def test_settling_twice_changes_nothing() -> None:
    ledger = caps()
    reservation = held(ledger, 300)
    ledger.settle(reservation, 300)
    ledger.settle(reservation, 300)

    assert ledger.headroom_msats("code", NOON) == 700


def test_a_hit_says_which_cap_how_far_and_until_when() -> None:
    ledger = caps()
    ledger.settle(held(ledger, 400), 400)
    held(ledger, 500)

    hit = ledger.check("code", 200, NOON)
    assert hit == CapHit(
        cap="policies.rules.code.max_sats_per_day",
        limit_msats=1_000,
        spent_msats=400,
        reserved_msats=500,
        expected_msats=200,
        resets_at="2024-10-05T00:00:00Z",
    )
    assert str(hit) == (
        "0.2 sats expected with 0.4 spent, 0.5 reserved: over "
        "policies.rules.code.max_sats_per_day = 1 sats, resets 2024-10-05T00:00:00Z"
    )


def test_the_cap_over_all_counts_every_policy_and_none() -> None:
    ledger = caps(over_all=500)
    held(ledger, 200)
    held(ledger, 200, "quick")
    held(ledger, 50, None)

    hit = ledger.check(None, 51, NOON)
    assert hit is not None
    assert hit.cap == "policies.max_sats_per_day"
    assert ledger.headroom_msats("quick", NOON) == 50


def test_without_a_cap_there_is_always_room() -> None:
    ledger = caps()

    assert ledger.headroom_msats("quick", NOON) == float("inf")
    assert ledger.check("quick", 10**12, NOON) is None


def test_a_new_utc_day_begins_with_nothing_spent() -> None:
    ledger = caps()
    late = held(ledger, 1_000, now_ms=NOON)
    tomorrow = NOON + DAY_MS

    assert ledger.headroom_msats("code", tomorrow) == 1_000
    ledger.settle(late, 1_000)  # it belongs to the day it began on
    assert spent(ledger, tomorrow) == 0


def test_the_ledger_tells_what_others_spent() -> None:
    ledger = caps()
    ledger.settle(held(ledger, 100), 100)
    ledger.set_spent("code", 700, day_of(NOON))

    assert ledger.headroom_msats("code", NOON) == 300


def test_a_ledger_that_lags_behind_is_not_believed() -> None:
    ledger = caps()
    ledger.settle(held(ledger, 400), 400)
    ledger.set_spent("code", 300, day_of(NOON))
    ledger.set_spent("code", 900, day_of(NOON) - 1)

    assert spent(ledger) == 400


def test_a_reloaded_config_changes_the_limits_not_the_spending() -> None:
    ledger = caps()
    ledger.settle(held(ledger, 400), 400)
    ledger.configure(Policies((Rule("code", max_msats_per_day=500),)))

    assert ledger.headroom_msats("code", NOON) == 100

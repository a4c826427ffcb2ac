"""The gate: opened by the ledger's thread, or by time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from arbstr.proxy import gate
from arbstr.proxy.gate import Gate

WAIT_S = 10.0


def test_what_lands_goes_on_and_nothing_else() -> None:
    async def talk() -> None:
        loop, found = asyncio.get_running_loop(), Gate()
        first, second, third = found.shut(), found.shut(), found.shut()

        def ledger() -> None:
            for landed in (third, first):
                found.land(landed, loop)

        thread = threading.Thread(target=ledger)
        thread.start()
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(first, third)
        thread.join()
        assert not second.done()

    asyncio.run(talk())


def test_nothing_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "COMMIT_WAIT_S", 0.05)

    async def talk() -> None:
        loop, found = asyncio.get_running_loop(), Gate()
        first = found.shut()
        await asyncio.sleep(0.02)
        second = found.shut()
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(first, second)
            third = found.shut()
            await third
        found.land(first, loop)  # too late, which does no harm
        await asyncio.sleep(0)

    asyncio.run(talk())


def test_an_answer_that_is_through_holds_up_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "COMMIT_WAIT_S", 0.05)

    async def talk() -> None:
        loop, found = asyncio.get_running_loop(), Gate()
        for _ in range(3):
            landed = found.shut()
            found.land(landed, loop)
            await landed
        async with asyncio.timeout(WAIT_S):
            await found.shut()

    asyncio.run(talk())

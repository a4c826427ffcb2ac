"""The fault suite as tests: every row of the table, and first the upstream by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from tests.faults import soak, suite
from tests.faults.answers import Rates, text_of
from tests.faults.check import client_problems
from tests.faults.client import Client
from tests.faults.model import Result, Saw, Seen
from tests.faults.stage import Stage

PLAN = suite.whole_plan()
LEAST_ROWS = 120


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with suite.opened(tmp_path) as stage:
        yield stage


async def ask_directly(stage: Stage, fault: str, *, stream: bool, provider: str = "up") -> Seen:
    """What the SDK makes of `fault` where no arbstr stands between."""
    model, nonce = f"{fault}@direct.0", "direct"
    stage.upstream.rates[model] = Rates(Decimal(1), Decimal(1))
    url = stage.upstream.urls[provider]
    context = stage.certificates.client_context() if url.startswith("https") else False
    async with Client(url, context=context, http2=provider == "secure", patience_s=2) as client:
        return await client.ask(
            model,
            f"nonce={nonce}",
            stream=stream,
            headers={},
            on_text=stage.upstream.seen(nonce).set,
        )


@pytest.mark.parametrize("provider", ["up", "secure"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_good_answer_is_right_and_billed(stage: Stage, stream: bool, provider: str) -> None:
    seen = await ask_directly(stage, "ok", stream=stream, provider=provider)
    assert client_problems(Saw("answer"), seen, "direct", stream=stream) == []
    (turn,) = stage.upstream.tries
    assert turn.billed_msats is not None
    assert turn.billed_msats > 0
    assert turn.notes == []


@pytest.mark.parametrize(
    "fault",
    [
        "encoded=gzip", "encoded=deflate", "encoded=br", "byte-by-byte", "split-utf8",
        "crlf", "split-crlf", "lone-cr", "one-piece", "comments-before", "comments-mid=100",
        "usage-every", "usage-no-cost", "no-usage", "big-event", "no-space", "after-done",
    ],
)  # fmt: skip
async def test_odd_clothes_are_no_fault(stage: Stage, fault: str) -> None:
    seen = await ask_directly(stage, fault, stream=True)
    assert (seen.kind, seen.text) == ("answer", text_of("direct"))


@pytest.mark.parametrize("fault", ["cut", "end-without-usage", "comments-only", "role-only"])
async def test_without_arbstr_a_clean_cut_goes_unnoticed(stage: Stage, fault: str) -> None:
    seen = await ask_directly(stage, fault, stream=True)
    assert seen.kind == "answer"
    assert b"[DONE]" not in seen.wire


@pytest.mark.parametrize(
    "fault", ["reset-before", "close-before", "reset-head", "close-head", "garbage"]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_broken_connection_breaks_the_client(
    stage: Stage, fault: str, stream: bool
) -> None:
    assert (await ask_directly(stage, fault, stream=stream)).kind == "broken"


@pytest.mark.parametrize("fault", ["cut-reset", "cut-close", "lying-chunk-mid", "bad-chunk-mid"])
@pytest.mark.parametrize("provider", ["up"])
async def test_a_cut_comes_after_the_client_has_text(
    stage: Stage, fault: str, provider: str
) -> None:
    seen = await ask_directly(stage, fault, stream=True, provider=provider)
    assert seen.kind == "broken"
    assert seen.text
    assert text_of("direct").startswith(seen.text)
    assert stage.upstream.tries[0].notes == []


async def test_an_http2_stream_can_be_reset_alone(stage: Stage) -> None:
    seen = await ask_directly(stage, "cut-reset", stream=True, provider="secure")
    assert seen.kind == "broken"
    assert seen.text


@pytest.mark.parametrize(
    "provider", ["refused", "no-host", "accept-close", "self-signed", "tls-noise"]
)
async def test_providers_without_an_upstream_behind_them(stage: Stage, provider: str) -> None:
    seen = await ask_directly(stage, "ok", stream=False, provider=provider)
    assert seen.kind == "broken"
    assert stage.upstream.tries == []


async def test_an_idle_connection_is_reset_at_its_second_request(stage: Stage) -> None:
    model = "idle-reset@direct.0"
    stage.upstream.rates[model] = Rates(Decimal(1), Decimal(1))
    async with Client(stage.upstream.urls["up"]) as client:
        kinds = [
            (
                await client.ask(model, "nonce=n", stream=False, headers={}, on_text=lambda: None)
            ).kind
            for _ in range(3)
        ]
    assert kinds == ["answer", "broken", "answer"]


def test_the_table_is_long_enough() -> None:
    names = PLAN.names()
    assert len(names) >= LEAST_ROWS
    assert len(set(names)) == len(names)


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Result]:
    """What came of every row that is to be tested in this session, played side by side."""
    wanted = {
        str(item.callspec.params.get("row"))
        for item in request.session.items
        if hasattr(item, "callspec")
    }
    plan = PLAN.only(wanted.__contains__)
    played = asyncio.run(suite.play(plan, tmp_path_factory.mktemp("faults")))
    return {result.name: result for result in played}


@pytest.mark.parametrize("row", PLAN.names())
def test_row(results: Mapping[str, Result], row: str) -> None:
    result = results[row]
    assert result.ok, "\n".join((*result.problems, result.wire))


def test_nothing_odd_is_left_behind(results: Mapping[str, Result]) -> None:
    rows = set(PLAN.names())
    assert [r for name, r in results.items() if name not in rows and not r.ok] == []


async def test_a_short_soak_loses_no_answer_and_no_msat(tmp_path: Path) -> None:
    report = await soak.play(2, clients=8, seed=1, folder=tmp_path)
    assert report.problems == []
    assert report.seen.total() > 0

"""Figures from the roll-ups are the figures of the rows, whatever happens to the rows."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbstr.core.record import AttemptRow, LateCost, RequestRow
from arbstr.ledger import rollup
from arbstr.ledger.items import Begin, Finish, Item, Late
from arbstr.ledger.queries import By, Filters, Totals
from arbstr.ledger.store import Store
from tests.ledger_kit import (
    DAY_MS,
    HOUR_MS,
    NOON_MS,
    begun,
    execute,
    finish,
    reading,
    row,
    tried,
    writing,
)

# --- the figures, straight from rows --------------------------------------------------------------


def passes(r: RequestRow, f: Filters) -> bool:
    return (
        (f.since_ms is None or r.started_at >= f.since_ms)
        and (f.until_ms is None or r.started_at < f.until_ms)
        and all(
            getattr(f, name) in (None, getattr(r, name))
            for name in ("model", "provider", "policy", "client", "outcome")
        )
        and (not f.failed or r.outcome in ("error", "refused", "interrupted"))
    )


def known(values: Iterable[int | None]) -> int:
    return sum(value for value in values if value is not None)


def over(r: RequestRow, tries: Sequence[AttemptRow]) -> int:
    """By how much the answering attempt was billed above its price."""
    if r.cost_msats is None or r.computed_msats is None or r.cost_msats <= r.computed_msats + 1:
        return 0
    billed: int | None = r.cost_msats
    source = r.cost_source
    for attempt in tries:
        if attempt.n == r.attempts:
            billed, source = attempt.cost_msats, attempt.cost_source
    if r.upstream_priced or source != "billed" or billed is None:
        return 0
    above = billed - r.computed_msats
    return above if above > 1 else 0


def percentile(values: Iterable[int | None], share: float) -> int | None:
    ranked = sorted(value for value in values if value is not None)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else None


def straight(rows: Sequence[RequestRow], tries: dict[int, Sequence[AttemptRow]]) -> Totals:
    """The totals of `rows`, times exact."""
    ended = [r for r in rows if r.outcome not in ("in_flight", "refused")]
    by = {s: [r for r in rows if r.cost_source == s] for s in ("billed", "computed")}
    overs = [over(r, tries.get(r.id, ())) for r in rows]
    return Totals(
        total=len(rows),
        **{str(outcome): n for outcome, n in Counter(r.outcome for r in rows).items()},
        streaming=sum(r.stream for r in rows),
        cost_msats=known(r.cost_msats for r in rows),
        **{str(source): n for source, n in Counter(r.cost_source for r in ended).items()},
        billed_msats=known(r.cost_msats for r in by["billed"]),
        computed_cost_msats=known(r.cost_msats for r in by["computed"]),
        expected_msats=known(r.computed_msats for r in by["billed"]),
        saved_msats=sum(
            r.baseline_msats - r.cost_msats
            for r in rows
            if r.baseline_msats is not None and r.cost_msats is not None
        ),
        overcharged=sum(o > 0 for o in overs),
        overcharge_msats=sum(overs),
        upstream_priced=sum(r.upstream_priced for r in rows),
        input_tokens=known(r.input_tokens for r in rows),
        cached_tokens=known(r.cached_tokens for r in rows),
        cache_write_tokens=known(r.cache_write_tokens for r in rows),
        output_tokens=known(r.output_tokens for r in rows),
        reasoning_tokens=known(r.reasoning_tokens for r in rows),
        attempts=sum(r.attempts for r in rows),
    )


TIMES = ("ttft_p50_ms", "ttft_p95_ms", "latency_p50_ms", "latency_p95_ms")


def assert_same(found: Totals, f: Filters, rows: Sequence[RequestRow], expected: Totals) -> None:
    """`found` is `expected`, and its times are those of `rows` within 5 %."""
    assert msgspec.structs.replace(found, **dict.fromkeys(TIMES)) == expected
    timed = rows if f.outcome or f.failed else [r for r in rows if r.outcome == "ok"]
    for name in TIMES:
        column, p, _ = name.split("_")
        exact = percentile((getattr(r, f"{column}_ms") for r in timed), int(p[1:]) / 100)
        value = getattr(found, name)
        assert value == (None if exact is None else pytest.approx(exact, rel=0.05))


# --- made-up traffic ------------------------------------------------------------------------------

MSATS = st.none() | st.integers(0, 5000)
TOKENS = st.none() | st.integers(0, 1 << 30)
DURATION = st.none() | st.integers(0, DAY_MS)
NAME = st.sampled_from(("a", "b", "c"))
MOMENT = st.one_of(
    st.integers(NOON_MS, NOON_MS + 3 * HOUR_MS),
    st.integers(0, 50).map(lambda hours: NOON_MS + hours * HOUR_MS),
    st.integers(-2, 2).map(lambda ms: NOON_MS + HOUR_MS + ms),
)
ROWS = st.builds(
    RequestRow,
    id=st.integers(1, 12),
    instance=st.sampled_from(("here", "there")),
    started_at=MOMENT,
    endpoint=st.just("/v1/chat/completions"),
    outcome=st.sampled_from(("ok", "error", "refused", "interrupted", "client_closed")),
    client=st.none() | NAME,
    policy=st.none() | NAME,
    model=st.none() | NAME,
    provider=st.none() | NAME,
    stream=st.booleans(),
    attempts=st.integers(0, 2),
    input_tokens=TOKENS,
    cached_tokens=TOKENS,
    cache_write_tokens=TOKENS,
    output_tokens=TOKENS,
    reasoning_tokens=TOKENS,
    cost_msats=MSATS,
    cost_source=st.sampled_from(("billed", "computed", "unknown")),
    computed_msats=MSATS,
    baseline_msats=MSATS,
    upstream_priced=st.booleans(),
    ttft_ms=DURATION,
    latency_ms=DURATION,
)


@st.composite
def finishes(draw: st.DrawFn) -> Finish:
    full = draw(ROWS)
    costs = [(draw(MSATS), draw(st.sampled_from(("billed", "computed")))) for _ in range(2)]
    tries = tuple(
        tried(full, n + 1, provider="a", model="b", cost_msats=cost, cost_source=source)
        for n, (cost, source) in enumerate(costs[: draw(st.integers(0, 2))])
    )
    return Finish(full, tries)


LATES = st.builds(
    LateCost,
    request_id=st.integers(1, 12),
    n=st.integers(1, 2),
    input_tokens=TOKENS,
    output_tokens=TOKENS,
    cost_msats=MSATS,
    cost_source=st.just("billed"),
)
ITEMS: st.SearchStrategy[Item] = st.one_of(
    finishes(), ROWS.map(lambda r: Begin(begun(r))), LATES.map(Late)
)
BATCHES = st.lists(st.lists(ITEMS, min_size=1, max_size=6), min_size=1, max_size=6)
EDGE = st.none() | MOMENT
FILTERS = st.builds(
    Filters,
    since_ms=EDGE,
    until_ms=EDGE,
    model=st.none() | st.sampled_from(("a", "b", "never")),
    provider=st.none() | NAME,
    policy=st.none() | NAME,
    client=st.none() | NAME,
    outcome=st.none() | st.sampled_from(("ok", "error", "in_flight")),
    failed=st.booleans(),
)


def group_of(r: RequestRow, by: By) -> str | None:
    if by in ("day", "hour"):
        moment = datetime.fromtimestamp(r.started_at / 1000, UTC)
        return f"{moment:%Y-%m-%d}" if by == "day" else f"{moment:%Y-%m-%d %H}:00"
    value = getattr(r, by)
    return None if value is None else str(value)


def kept(path: Path) -> tuple[list[RequestRow], dict[int, Sequence[AttemptRow]]]:
    """Every row in the file, one by one."""
    with reading(path) as reader:
        ids = [int(str(i)) for (i,) in execute(path, "SELECT id FROM request_rows")]
        found = [reader.request(i) for i in ids]
    pairs = [pair for pair in found if pair is not None]
    return [r for r, _ in pairs], {r.id: tries for r, tries in pairs}


@settings(max_examples=80, deadline=None)
@given(batches=BATCHES, filters=st.lists(FILTERS, min_size=1, max_size=4), ends=st.booleans())
def test_totals_are_those_of_the_rows(
    batches: list[list[Item]], filters: list[Filters], ends: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        store = Store(path, "here", NOON_MS)
        for batch in batches:
            store.write(batch)
        if ends:
            store.end(NOON_MS)
        store.close()
        rows, tries = kept(path)
        with reading(path) as reader:
            for f in (Filters(), *filters):
                mine = [r for r in rows if passes(r, f)]
                assert_same(reader.totals(f), f, mine, straight(mine, tries))
                assert reader.requests(f)[1] == len(mine)
                for by in ("model", "provider", "policy", "client", "day", "hour"):
                    found = dict(reader.groups(f, by))
                    assert found.keys() == {group_of(r, by) for r in mine}
                    for name, totals in found.items():
                        members = [r for r in mine if group_of(r, by) == name]
                        assert_same(totals, f, members, straight(members, tries))


def test_the_sums_stay_when_retention_deletes_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path) as writer:
        for n in range(1, 30):
            writer.finish(row(n, started_at=NOON_MS + n * HOUR_MS), (tried(row(n)),))
        finish(writer, row(30, started_at=NOON_MS + 30 * HOUR_MS))
    with reading(path) as reader:
        before = reader.totals(Filters())
        store = Store(path, "there", NOON_MS)
        deleted = 0
        while count := store.retain(NOON_MS + 20 * HOUR_MS, 7):
            assert count <= 7
            deleted += count
        store.close()
        assert deleted == 19
        assert reader.totals(Filters()) == before
        assert reader.requests(Filters())[0][-1].started_at == NOON_MS + 20 * HOUR_MS
    assert execute(path, "SELECT count(*) FROM attempts") == [(10,)]


def test_an_old_request_that_has_not_ended_is_not_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db", "here", NOON_MS)
    store.write([Begin(begun(row(1))), Finish(row(2))])
    assert store.retain(NOON_MS + DAY_MS, 10) == 1
    assert store.retain(NOON_MS + DAY_MS, 10) == 0
    store.close()


# --- overcharges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "over_msats"),
    [
        ({"cost_msats": 500, "computed_msats": 400}, 100),
        ({"cost_msats": 1, "computed_msats": 0}, 0),  # a free model: the node takes 1 msat
        ({"cost_msats": 500, "computed_msats": 400, "upstream_priced": True}, 0),
        ({"cost_msats": 500, "computed_msats": 400, "cost_source": "computed"}, 0),
        ({"cost_msats": 500, "computed_msats": None}, 0),
        ({"cost_msats": 300, "computed_msats": 400}, 0),
    ],
)
def test_what_is_an_overcharge(tmp_path: Path, changes: dict[str, object], over_msats: int) -> None:
    full = row(1, **changes)
    with writing(tmp_path / "a.db") as writer, reading(tmp_path / "a.db") as reader:
        finish(writer, full, tried(full))
        totals = reader.totals(Filters())
    assert (totals.overcharged, totals.overcharge_msats) == (over_msats > 0, over_msats)


def test_what_an_abandoned_attempt_cost_is_no_overcharge_of_the_answer(tmp_path: Path) -> None:
    full = row(attempts=2, cost_msats=900, computed_msats=400)
    tries = (tried(full, 1, cost_msats=500), tried(full, 2, cost_msats=400))
    with writing(tmp_path / "a.db") as writer, reading(tmp_path / "a.db") as reader:
        finish(writer, full, *tries)
        assert reader.totals(Filters()).overcharged == 0


# --- histograms -----------------------------------------------------------------------------------


def lows(tmp_path: Path) -> list[int]:
    Store(tmp_path / "a.db", "here", NOON_MS).close()
    found = execute(tmp_path / "a.db", "SELECT low, letter FROM buckets ORDER BY low")
    assert [letter for _, letter in found] == [chr(65 + i) for i in range(len(found))]
    return [int(str(low)) for low, _ in found]


def test_a_bucket_is_within_five_percent_of_its_middle(tmp_path: Path) -> None:
    edges = lows(tmp_path)
    assert edges[0] == 0
    assert edges[-1] >= DAY_MS
    assert len(edges) < 190  # letters of one page stay apart from those of the next
    for low, after in itertools.pairwise(edges):
        middle = math.sqrt(low * (after - 1))
        assert abs(middle - low) <= 0.05 * low
        assert abs(middle - (after - 1)) <= 0.05 * (after - 1)


COUNTS = st.dictionaries(st.integers(0, 180), st.integers(1, 300_000), max_size=20)


@given(counts=COUNTS)
def test_a_packed_histogram_counts_the_same(counts: dict[int, int]) -> None:
    assert rollup.count(rollup.pack(counts)) == counts


@given(one=COUNTS, other=COUNTS)
def test_histograms_add_by_concatenation(one: dict[int, int], other: dict[int, int]) -> None:
    both = rollup.count(rollup.pack(one) + rollup.pack(other))
    assert both == Counter(one) + Counter(other)


def test_a_count_that_is_owed_survives_packing() -> None:
    assert rollup.count(rollup.pack({3: -2}) + rollup.pack({3: 5})) == {3: 3}


def test_a_packed_histogram_is_short() -> None:
    assert len(rollup.pack(dict.fromkeys(range(60), 3000))) < 800


def test_the_writer_packs_what_has_grown_long(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    count = 5000
    with writing(path) as writer, reading(path) as reader:
        for n in range(1, count):
            writer.finish(row(n, started_at=NOON_MS, ttft_ms=n % 50), ())
        finish(writer, row(count, started_at=NOON_MS, ttft_ms=10_000))
        totals = reader.totals(Filters())
        ((length,),) = execute(path, "SELECT max(length(ttft), length(latency)) FROM rollups")
    assert int(str(length)) <= 512
    assert totals.ttft_p50_ms == pytest.approx(24, rel=0.05)
    assert (totals.total, totals.attempts) == (count, count)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 5.0), (0.9, 9.0), (0.91, 10.0), (1.0, 10.0)]
)
def test_percentiles_are_of_the_nearest_rank(share: float, expected: float) -> None:
    counts = dict.fromkeys(range(1, 11), 1)
    assert rollup.percentile(counts, range(12), share) == expected


def test_no_observations_have_no_percentile() -> None:
    assert rollup.percentile({4: 0}, range(12), 0.5) is None


def test_absurd_numbers_do_not_break_the_sums(tmp_path: Path) -> None:
    with writing(tmp_path / "a.db") as writer, reading(tmp_path / "a.db") as reader:
        for n in range(1, 1500):
            writer.finish(row(n, input_tokens=(1 << 53) - 1), ())
        finish(writer, row(1500, input_tokens=(1 << 53) - 1))
        assert reader.totals(Filters()).input_tokens == pytest.approx(1500 * 2**53, rel=1e-9)

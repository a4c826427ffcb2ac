"""``arbstr costs``: what was spent, on real ledgers."""

import csv
import importlib.util
import io
from pathlib import Path

import pytest

from arbstr.core.moments import day_start, iso_time, moment
from arbstr.ledger.queries import Reader
from arbstr.report import UNKNOWN
from arbstr.stats import stats_json
from tests.cli_helpers import Place, make_place, now_ms
from tests.ledger_helpers import DAY_MS, after_a_failure, answered


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Place:
    return make_place(tmp_path, capsys, monkeypatch)


def figures(lines: list[str]) -> dict[str, list[str]]:
    """The lines of a summary: name to the words of its columns."""
    start = len("cost billed / computed / unknown")
    return {line[:start].strip(): line[start:].split() for line in lines[2:]}


def test_without_arguments_it_shows_today_7_days_and_30_days(place: Place) -> None:
    now = now_ms()
    place.write(answered(now), answered(now - 3 * DAY_MS, n=1), answered(now - 20 * DAY_MS, n=2))

    lines = place.lines("costs")

    assert lines[0].split() == ["today", "7", "days", "30", "days"]
    shown = figures(lines)
    assert shown["spent, sats"] == ["0.412", "0.824", "1.236"]
    assert shown["saved, sats"] == [
        "1.236",
        "(75",
        "%)",
        "2.472",
        "(75",
        "%)",
        "3.708",
        "(75",
        "%)",
    ]
    assert shown["requests"] == ["1", "2", "3"]
    assert shown["answered whole"] == ["100", "%"] * 3
    assert shown["cost billed / computed / unknown"] == ["100", "/", "0", "/", "0", "%"] * 3
    assert shown["tokens in"] == ["1,200", "2,400", "3,600"]
    assert shown["of it from a cache"] == ["200", "400", "600"]
    assert shown["tokens out"] == ["300", "600", "900"]
    assert "failed" not in shown
    assert "OVERCHARGED, sats" not in shown


def test_costs_by_their_source_are_kept_apart_and_failures_are_counted(place: Place) -> None:
    now = now_ms()
    place.write(
        answered(now),
        answered(now, n=1, cost_source="computed"),
        answered(now, n=2, cost_msats=None, outcome="interrupted"),
        answered(now, n=3, cost_msats=None, outcome="error", status=502),
    )

    shown = figures(place.lines("costs", "--since", "1h"))

    assert shown["spent, sats"] == ["0.824"]
    assert shown["cost billed / computed / unknown"] == ["25", "/", "25", "/", "50", "%"]
    assert shown["answered whole"] == ["50", "%"]
    assert (shown["failed"], shown["cut short"]) == (["1"], ["1"])


def test_a_cost_that_nobody_knows_is_not_shown_as_zero(place: Place) -> None:
    place.write(answered(now_ms(), cost_msats=None))

    assert figures(place.lines("costs", "--since", "1h"))["spent, sats"] == [UNKNOWN]
    assert place.json("costs", "--since", "1h")[0]["cost_msats"] is None
    assert place.lines("costs", "--by", "model")[2].split()[4] == UNKNOWN


def test_an_overcharge_has_a_line_and_a_column_of_its_own(place: Place) -> None:
    place.write(answered(now_ms(), computed_msats=300))

    assert figures(place.lines("costs", "--since", "1h"))["OVERCHARGED, sats"] == [
        "0.112",
        "in",
        "1",
    ]
    heading, _, row, *_ = place.lines("costs", "--by", "model")
    assert "OVER" in heading.split()
    assert "0.112" in row.split()


def test_the_upstreams_own_price_is_no_overcharge_and_is_told_apart(place: Place) -> None:
    place.write(answered(now_ms(), computed_msats=300, upstream_priced=True))

    shown = figures(place.lines("costs", "--since", "1h"))

    assert shown["billed at the upstream's price"] == ["1"]
    assert "OVERCHARGED, sats" not in shown


@pytest.mark.parametrize("by", ["model", "provider", "policy", "client"])
def test_groups_have_a_row_each_the_dearest_first(place: Place, by: str) -> None:
    now = now_ms()
    place.write(
        answered(now, n=1, cost_msats=100, **{by: "cheap"}),
        answered(now, n=2, cost_msats=900, **{by: "dear"}),
        answered(now, n=3, cost_msats=100, **{by: "cheap"}),
    )

    lines = place.lines("costs", "--by", by)

    assert lines[0].split()[0] == by
    assert [line.split()[:5] for line in lines[2:4]] == [
        ["dear", "1", "100", "%", "0.900"],
        ["cheap", "2", "100", "%", "0.200"],
    ]
    assert max(map(len, lines)) <= 100


def test_days_are_local_days_in_their_order(place: Place) -> None:
    midnight = day_start(now_ms())
    place.write(answered(midnight), answered(midnight - 1), answered(midnight - DAY_MS // 2))

    rows = place.json("costs", "--by", "day")

    assert [row["total"] for row in rows] == [2, 1]
    assert rows[0]["day"] < rows[1]["day"]


def test_filters_and_ranges_narrow_it_down(place: Place) -> None:
    now = now_ms()
    place.write(
        answered(now, "gpt-4o", n=1, policy="quick"),
        answered(now, "gpt-4o", n=2),
        answered(now, "gpt-4o-mini", n=3),
        answered(now - 10 * DAY_MS, "gpt-4o", n=4),
    )

    def total(*arguments: str) -> object:
        return place.json("costs", "--since", "5d", *arguments)[0]["total"]

    assert total() == 3
    assert total("--model", "gpt-4o") == 2
    assert total("--model", "gpt-4o", "--policy", "quick") == 1
    assert total("--provider", "nobody") == 0
    assert place.json("costs", "--until", "5d")[0]["total"] == 1


def test_wide_groups_stay_within_the_terminal(place: Place) -> None:
    now = now_ms()
    long = "vendor/" + "very-" * 20 + "long-model"
    # A row of every kind: all the columns that there can be.
    place.write(
        answered(now, long, n=1, cost_msats=12_345_678, computed_msats=1, input_tokens=10**9),
        answered(now, long, n=2, cost_msats=None),
    )

    lines = place.lines("costs", "--by", "model")

    assert max(map(len, lines)) <= 100
    assert "12,345.678" in lines[2]
    assert place.json("costs", "--by", "model")[0]["model"] == long


def test_csv_and_json_have_every_figure_raw_and_markdown_is_a_table(place: Place) -> None:
    place.write(after_a_failure(answered(now_ms()), "gpt-4o", 500))

    assert place.run("costs", "--by", "policy", "--format", "csv") == 0
    (row,) = csv.DictReader(io.StringIO(place.out))
    assert (row["policy"], row["cost_msats"], row["attempts"]) == ("code", "412", "2")
    (found,) = place.json("costs", "--since", "2026-01-01")
    assert found["since"] == iso_time(moment("2026-01-01", 0))
    assert (found["saved_msats"], found["ok_share"], found["until"]) == (1236, 1.0, None)
    assert place.lines("costs", "--format", "markdown")[1].startswith("|:")
    assert place.lines("costs", "--by", "policy", "--format", "markdown")[0].startswith("| policy")


def test_it_shows_the_same_as_the_endpoint(place: Place) -> None:
    now = now_ms()
    place.write(*(answered(now - n * 1000, n=n, ttft_ms=100 * n + 1) for n in range(20)))

    (shown,) = place.json("costs", "--since", "7d")

    reader = Reader(place.ledger)
    told = stats_json(reader, {"range": "last_7d"}, now_ms())
    reader.close()
    counts, costs, times = told["counts"], told["costs"], told["performance"]
    assert isinstance(counts, dict)
    assert isinstance(costs, dict)
    assert isinstance(times, dict)
    assert (counts["total"], counts["success"]) == (shown["total"], shown["ok"]) == (20, 20)
    assert costs["total_cost_sats"] * 1000 == shown["cost_msats"] == 20 * 412
    assert costs["saved_sats"] * 1000 == shown["saved_msats"]
    assert times["ttft_p95_ms"] == round(shown["ttft_p95_ms"])


def test_an_empty_ledger_is_told_and_is_no_failure(place: Place) -> None:
    assert place.lines("costs") == [
        "no requests yet: start arbstr, point a client at it, and come back"
    ]
    assert place.lines("costs", "--model", "x", "--by", "day") == ["no requests like that"]
    assert place.json("costs", "--by", "model") == []
    place.write()
    assert place.lines("costs")[0].startswith("no requests yet")
    assert place.lines("costs", "--plot")[0].startswith("no requests like that since")


def test_a_bar_for_each_day_and_a_gap_for_a_day_without_requests(place: Place) -> None:
    noon = day_start(now_ms()) - DAY_MS // 2
    place.write(
        answered(noon, cost_msats=4000),
        answered(noon - 2 * DAY_MS, n=1, cost_msats=2000),
        answered(noon - 3 * DAY_MS, n=2, cost_msats=1),
    )

    lines = place.lines("costs", "--plot")

    assert [line.split()[1] for line in lines] == ["0.001", "2.000", "0.000", "4.000"]
    tiny, half, none, full = (line.split()[2:] for line in lines)
    assert (tiny, none) == (["▌"], [])
    assert 2 * len(half[0]) in (len(full[0]), len(full[0]) + 1)
    assert max(map(len, lines)) == 100


def test_a_picture_needs_matplotlib_and_says_so(place: Place) -> None:
    place.write(answered(now_ms()))
    code = place.run("costs", "--plot", "spend.png")
    if importlib.util.find_spec("matplotlib") is None:
        assert (code, place.out) == (1, "")
        assert "pip install 'arbstr[plot]'" in place.err
    else:
        assert code == 0
        assert Path("spend.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--since", "soon"], "--since: 'soon' is no time; allowed: 90m, 24h, 7d"),
        (["--since", "1h", "--until", "2h"], "--since comes after --until"),
        (["--plot", "--by", "model"], "--plot draws days; leave out --by model"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    place: Place, arguments: list[str], complaint: str
) -> None:
    assert place.run("costs", *arguments) == 2
    assert place.err.startswith(f"arbstr: {complaint}")
    assert place.err.count("\n") == 1


def test_keys_and_prices_of_the_config_do_not_matter(place: Place) -> None:
    place.write(answered(now_ms()))
    # The config needs a variable that is not set; whoever looks at the spend needs no key.
    assert place.run("costs") == 0


def test_the_ledger_of_mock_mode_is_shown_where_there_is_no_other(place: Place) -> None:
    ledger = place.ledger
    place.ledger = ledger.with_name("spend-mock.db")
    place.write(answered(now_ms(), "play-model"))

    assert "play-model" in place.lines("costs", "--by", "model")[2]
    assert place.err == (
        f"arbstr: no ledger at {ledger} yet; this is the one of mock mode, spend-mock.db\n"
    )
    place.ledger = ledger
    place.write(answered(now_ms(), "real-model"))
    assert "real-model" in place.lines("costs", "--by", "model")[2]
    assert "play-model" in place.lines("costs", "--mock", "--by", "model")[2]
    assert place.err == ""


def test_a_file_that_is_no_ledger_is_one_line(place: Place) -> None:
    place.ledger.write_text("this is not a database, but it is long enough to look like one" * 20)
    assert place.run("costs") == 1
    assert str(place.ledger) in place.err
    assert place.err.count("\n") == 1

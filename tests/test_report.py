"""How rows, amounts and times come out."""

import csv
import io
import json

import pytest

from arbstr.report import (
    UNKNOWN,
    Column,
    Row,
    clip,
    number_column,
    rate_column,
    render,
    share,
    show_age,
    show_count,
    show_sats,
    show_seconds,
    show_share,
    show_text,
    show_tokens,
    text_column,
    time_column,
)

AT = 1_795_000_000_123
COLUMNS = (
    text_column("model", "model"),
    number_column("cost_msats", "sats", show_sats),
    time_column("at", "at"),
)
ROWS: list[Row] = [
    {"model": "gpt-4o", "cost_msats": 1_234_567, "at": AT},
    {"model": "Würfel|4", "cost_msats": None, "at": None},
]


@pytest.fixture(autouse=True)
def _a_terminal_of_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize(
    ("msats", "shown"),
    [
        (0, "0.000"),
        (1, "0.001"),
        (412, "0.412"),
        (1000, "1.000"),
        (1_234_567, "1,234.567"),
        (-1, "-0.001"),
        (-467_622, "-467.622"),
        (2**53 + 1, "9,007,199,254,740.993"),
        (None, UNKNOWN),
    ],
)
def test_sats_are_exact_to_the_msat_and_unknown_is_not_zero(msats: int | None, shown: str) -> None:
    assert show_sats(msats) == shown


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (0, "0"),
        (9999, "9,999"),
        (10_000, "10.0k"),
        (99_949, "99.9k"),
        (123_456, "123k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (45_678_901, "45.7M"),
        (None, UNKNOWN),
    ],
)
def test_tokens_have_three_or_four_figures(tokens: int | None, shown: str) -> None:
    assert show_tokens(tokens) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 %"),
        (0.001, "<1 %"),
        (0.5, "50 %"),
        (0.999, ">99 %"),
        (1.0, "100 %"),
        (None, UNKNOWN),
    ],
)
def test_only_all_is_100_percent_and_only_nothing_is_0(value: float | None, shown: str) -> None:
    assert show_share(value) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0.000 s"),
        (4, "0.004 s"),
        (412, "0.41 s"),
        (12_345, "12.3 s"),
        (754_321, "754 s"),
        (None, UNKNOWN),
    ],
)
def test_times_have_about_three_figures(ms: int | None, shown: str) -> None:
    assert show_seconds(ms) == shown


def test_ages_counts_and_shares() -> None:
    ages = [show_age(s * 1000) for s in (0, 119, 120, 7199, 7200, 172_799, 172_800)]
    assert ages == ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]
    assert [show_count(1_234_567), show_count(None)] == ["1,234,567", UNKNOWN]
    assert [share(1, 4), share(0, 0), share(None, 4), share(1, None)] == [0.25, None, None, None]


def test_a_name_is_shown_and_never_obeyed_by_the_terminal() -> None:
    shown = show_text("\x1b[2J\nrm\u202egpj")
    assert shown == "\\x1b[2J\\nrm\\u202egpj"
    assert [show_text(v) for v in (None, True, False, "Würfel 🎲", 7)] == [
        UNKNOWN,
        "yes",
        "no",
        "Würfel 🎲",
        "7",
    ]


def test_clipping_keeps_both_ends() -> None:
    assert clip("abcdefghij", 7) == "abc…hij"
    assert clip("abcdefghij", 10) == "abcdefghij"


def test_a_table_has_numbers_on_the_right_and_unknown_as_a_dash() -> None:
    columns = COLUMNS[:2]
    assert render(ROWS, columns, "table").splitlines() == [
        "model          sats",
        "-------------------",
        "gpt-4o    1,234.567",
        f"Würfel|4          {UNKNOWN}",
    ]


def test_a_table_that_is_too_wide_loses_the_middle_of_its_longest_names() -> None:
    rows: list[Row] = [{"model": "a" * 60 + "z" * 60, "cost_msats": 1}, ROWS[0]]
    columns = (*COLUMNS[:2], number_column("tokens", "tokens", show_tokens))
    lines = render(rows, columns, "table").splitlines()
    assert max(map(len, lines)) == 100
    assert lines[2].startswith("aaa")
    assert "z  " in lines[2]


def test_numbers_are_never_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = [number_column(f"n{i}", f"n{i}", show_sats) for i in range(12)]
    text = render([{c.key: 1_234_567 for c in columns}], columns, "table")
    assert text.count("1,234.567") == 12


def test_markdown_is_a_table_whatever_the_cells_hold() -> None:
    lines = render(ROWS, COLUMNS[:2], "markdown").splitlines()
    assert lines[0].startswith("| model")
    assert lines[1].endswith("-:|")
    assert "Würfel\\|4" in lines[3]


def test_csv_has_raw_values_and_nothing_for_unknown() -> None:
    rows = list(csv.reader(io.StringIO(render(ROWS, COLUMNS, "csv"))))
    assert rows == [
        ["model", "cost_msats", "at"],
        ["gpt-4o", "1234567", "2026-11-18T11:06:40.123Z"],
        ["Würfel|4", "", ""],
    ]
    assert render([{"x": True}], [Column("x", "x")], "csv") == "x\n1\n"


def test_json_has_raw_values_and_null_for_unknown() -> None:
    assert json.loads(render(ROWS, COLUMNS, "json")) == [
        {"model": "gpt-4o", "cost_msats": 1_234_567, "at": "2026-11-18T11:06:40.123Z"},
        {"model": "Würfel|4", "cost_msats": None, "at": None},
    ]
    assert "Würfel" in render(ROWS, COLUMNS, "json")


def test_no_rows_are_a_heading_or_an_empty_list() -> None:
    assert json.loads(render([], COLUMNS, "json")) == []
    assert render([], COLUMNS, "csv") == "model,cost_msats,at\n"
    assert render([], COLUMNS, "table").splitlines()[0].split() == ["model", "sats", "at"]


def test_rates_of_a_column_have_the_same_decimals() -> None:
    rows: list[Row] = [{"r": 0.000375}, {"r": 2.5}, {"r": None}]
    assert [rate_column("r", "r", rows).show(row["r"]) for row in rows] == [
        "0.000375",
        "2.500000",
        UNKNOWN,
    ]
    assert rate_column("r", "r", [{"r": 10.0}]).show(10.0) == "10.00"

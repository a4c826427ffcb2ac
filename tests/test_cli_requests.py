"""``arbstr requests`` and ``arbstr export``: what was asked and how it went."""

import contextlib
import csv
import io
import json
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arbstr.core.record import RequestRow
from arbstr.report import UNKNOWN
from tests.cli_helpers import Place, make_place, now_ms
from tests.ledger_helpers import DAY_MS, HOUR_MS, Finished, after_a_failure, answered, running

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Place:
    return make_place(tmp_path, capsys, monkeypatch)


def refused(at_ms: int) -> Finished:
    """A request that was never sent."""
    row, _ = answered(
        at_ms,
        outcome="refused",
        status=402,
        error_code="cap_reached",
        attempts=0,
        cost_msats=None,
        model=None,
        provider=None,
        input_tokens=None,
        output_tokens=None,
    )
    return row, ()


def test_requests_come_newest_first_a_line_each(place: Place) -> None:
    now = now_ms()
    place.write(
        answered(now - 3000, "gpt-4o", n=654_321),
        after_a_failure(answered(now - 2000), "gpt-4o", 500),
        refused(now - 1000),
    )

    heading, _, first, second, third = place.lines("requests")

    assert heading.split() == ["id", "when", "outcome", "model", "sats", "in", "out", "took"]
    assert "refused 402  gpt-4o" in first
    assert first.split()[-5:] == [UNKNOWN, UNKNOWN, UNKNOWN, "2.30", "s"]
    assert "gpt-4o 500 > deepseek-chat" in second
    assert second.split()[-5:] == ["0.412", "1,200", "300", "2.30", "s"]
    assert third.split()[0] == str(((now - 3000) << 20) + 654_321)[-6:]
    assert max(map(len, (heading, first, second, third))) <= 100


def test_a_name_from_outside_does_not_reach_the_terminal_as_it_is(place: Place) -> None:
    place.write(answered(now_ms(), "\x1b[31mred\x07"))
    text = "\n".join(place.lines("requests"))
    assert "\\x1b[31mred\\x07" in text
    assert "\x1b" not in text


def test_limit_filters_and_failed(place: Place) -> None:
    now = now_ms()
    place.write(
        *(answered(now - 1000 * n, n=n) for n in range(30)),
        answered(now - 2 * DAY_MS, "gpt-4o", outcome="interrupted", cost_msats=None),
        refused(now - 3 * DAY_MS),
    )

    assert len(place.json("requests")) == 20
    assert "the newest 20 of 32; --limit 32" in (place.run("requests"), place.err)[1]
    assert len(place.json("requests", "--limit", "25")) == 25
    assert [r["outcome"] for r in place.json("requests", "--failed")] == ["interrupted", "refused"]
    assert [r["model"] for r in place.json("requests", "--model", "gpt-4o")] == ["gpt-4o"]
    assert place.json("requests", "--since", "1h", "--policy", "nobody") == []


def test_rows_for_programs_have_every_column(place: Place) -> None:
    at = now_ms()
    place.write(answered(at))
    (row,) = place.json("requests")
    assert tuple(row) == RequestRow.__struct_fields__
    assert (row["id"], row["cost_msats"], row["stream"]) == (str(at << 20), 412, False)
    assert row["started_at"].endswith("Z")
    assert place.run("requests", "--format", "csv") == 0
    (line,) = csv.DictReader(io.StringIO(place.out))
    assert (line["id"], line["stream"], line["reasoning_tokens"]) == (str(at << 20), "0", "")
    assert place.lines("requests", "--format", "markdown")[0].startswith("| id ")


def test_no_requests_are_a_line(place: Place) -> None:
    assert place.lines("requests")[0].startswith("no requests yet")
    assert place.lines("requests", "--failed") == ["no requests like that"]


# --- one of them ----------------------------------------------------------------------------------


def test_one_request_is_shown_in_full(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOT_SET_HERE", "sk-0123456789abcdef")
    now = now_ms()
    place.list_models()
    found = after_a_failure(answered(now, n=123_456, balance_msats=9_000_000), "gpt-4o", 500)
    place.write(found, *(answered(now - 60_000, n=n, policy="code") for n in range(3)))

    lines = place.lines("requests", str(found[0].id)[-6:])

    facts = {line[:10].strip(): line[11:] for line in lines if line[:1].strip()}
    assert facts["request"].startswith(str(found[0].id))
    assert facts["asked"] == "gpt-4o at /v1/chat/completions by OpenAI/Python 3.54.0"
    assert facts["policy"] == "code (by keyword)"
    assert facts["outcome"] == "ok 200, deepseek-chat at routstr"
    assert facts["tokens"] == "in 1,000, from a cache 200, out 300"
    assert facts["cost"] == "0.412 sats billed; expected 0.400; the requested model: 1.648"
    assert facts["time"] == "2.30 s, first token after 0.41 s"
    assert facts["balance"] == "9,000.000 sats were left"
    text = "\n".join(lines)
    assert "error 500 upstream_error" in text
    choice = text.partition("the choice, made again")[2]
    assert choice.index("deepseek-chat") < choice.index("gpt-4o")
    assert "output rate" in choice  # why gpt-4o is kept out: 10 sats are over 5
    assert max(map(len, lines)) <= 100
    told = place.json("requests", str(found[0].id))
    assert [a["n"] for a in told["attempts"]] == [1, 2]
    assert told["route"]["candidates"][0]["model"] == "deepseek-chat"


def test_the_choice_is_left_out_where_it_cannot_be_made_again(place: Place) -> None:
    found = answered(now_ms(), policy="gone")
    place.write(found)
    # The config's variable is not set: everything but the choice is shown all the same.
    lines = place.lines("requests", str(found[0].id))
    assert lines[-1] == "the choice cannot be made again: the config has errors: see `arbstr check`"
    place.config.write_text(place.config.read_text().replace('api_key = "${NOT_SET_HERE}"', ""))
    lines = place.lines("requests", str(found[0].id))
    assert lines[-1] == "the choice cannot be made again: there is no policy gone any more"


def test_an_overcharged_and_a_failed_one_say_so(place: Place) -> None:
    now = now_ms()
    over, failed = answered(now, n=1, computed_msats=300), refused(now - 1000)
    place.write(over, failed)
    assert any("by its prices 0.300" in x and "OVERCHARGED" in x for x in _shown(place, over))
    assert "cost       unknown; expected 0.400" in _shown(place, failed)
    assert "error      cap_reached" in _shown(place, failed)


def _shown(place: Place, found: Finished) -> list[str]:
    return place.lines("requests", str(found[0].id))


@pytest.mark.parametrize(
    ("id_", "code", "complaint"),
    [
        ("123456", 1, "no request 123456"),
        ("99999999999999999999", 2, "is no id"),
        ("abc", 2, "is no id"),
        ("12", 2, "too short"),
    ],
)
def test_an_id_that_is_none(place: Place, id_: str, code: int, complaint: str) -> None:
    place.write(answered(now_ms()))
    assert place.run("requests", id_) == code
    assert complaint in place.err


# --- as they come ---------------------------------------------------------------------------------


@contextlib.contextmanager
def following(place: Place, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``arbstr requests --follow`` as a process of its own; it is killed if nothing comes."""
    command = [sys.executable, "-m", "arbstr", "requests", "--follow", "--config"]
    process = subprocess.Popen(
        [*command, str(place.config), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    too_long = threading.Timer(30, process.kill)
    too_long.start()
    try:
        yield process
    finally:
        too_long.cancel()
        process.kill()
        process.communicate()


def test_following_shows_what_has_ended_then_each_as_it_ends(place: Place) -> None:
    now = now_ms()
    with running(place.ledger) as put:
        put(answered(now - HOUR_MS, "slow", n=1, outcome="in_flight", cost_msats=None))
        put(answered(now - 1000, "first"))
        with following(place) as follower:
            assert follower.stdout is not None
            assert "before all time" in follower.stdout.readline()
            assert "first" in follower.stdout.readline()

            put(answered(now, "second"))
            line = follower.stdout.readline()
            assert "second" in line
            assert line.split()[-5:] == ["0.412", "1,200", "300", "2.30", "s"]
            # One that began long before the others and ends after them.
            put(answered(now - HOUR_MS, "slow", n=1))
            assert "slow" in follower.stdout.readline()
            # One with an id a little below what was seen already.
            put(answered(now - 500, "late"))
            assert "late" in follower.stdout.readline()

            follower.send_signal(signal.SIGINT)
            out, err = follower.communicate()
            assert (out, err, follower.returncode) == ("", "", 130)


def test_following_begins_with_an_empty_ledger_and_heeds_the_filters(place: Place) -> None:
    with following(place, "--format", "json", "--failed") as follower:
        assert follower.stdout is not None
        with running(place.ledger) as put:
            put(answered(now_ms(), "good"))
            put(refused(now_ms()))
            row = json.loads(follower.stdout.readline())
            assert (row["outcome"], row["status"]) == ("refused", 402)
            assert tuple(row) == RequestRow.__struct_fields__


@pytest.mark.parametrize("arguments", [["--format", "markdown"], ["--until", "1h"]])
def test_what_cannot_be_followed_is_refused(place: Place, arguments: list[str]) -> None:
    assert place.run("requests", "--follow", *arguments) == 2
    assert place.err.startswith("arbstr: --follow")


# --- export ---------------------------------------------------------------------------------------


def test_an_export_is_all_rows_oldest_first(place: Place) -> None:
    now = now_ms()
    place.write(answered(now, "b"), answered(now - 1000, 'a,"\n', n=1), refused(now - 2000))

    assert place.run("export") == 0
    rows = list(csv.DictReader(io.StringIO(place.out)))
    assert [row["model"] for row in rows] == ["", 'a,"\n', "b"]
    assert tuple(rows[0]) == RequestRow.__struct_fields__
    assert place.run("export", "--format", "jsonl") == 0
    found = [json.loads(line) for line in place.out.splitlines()]
    assert [row["model"] for row in found] == [None, 'a,"\n', "b"]
    assert (found[2]["cost_msats"], found[0]["cost_msats"]) == (412, None)
    lines = place.lines("export", "--model", "b", "--since", "1d")
    assert len(lines) == 2
    assert ",b,routstr," in lines[1]


def test_an_exported_file_is_for_its_owner_alone_and_whole(place: Place) -> None:
    place.write(answered(now_ms()))
    target = place.ledger.with_name("out.jsonl")
    target.write_text("an older export")
    target.chmod(0o644)

    assert place.lines("export", "--format", "jsonl", "--output", str(target)) == [
        f"{target}: 1 requests"
    ]

    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(target.read_text().splitlines()) == 1
    assert not list(target.parent.glob(".out*"))
    assert place.run("export", "--output", str(target.parent / "nowhere" / "x.csv")) == 1
    assert "cannot be written: No such file or directory" in place.err


def test_an_empty_export_has_its_heading(place: Place) -> None:
    assert place.lines("export") == [",".join(RequestRow.__struct_fields__)]
    assert place.run("export", "--format", "jsonl") == 0
    assert place.out == ""

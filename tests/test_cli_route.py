"""``arbstr explain`` and ``arbstr simulate``: what would be chosen, and what it would have cost."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli_helpers import Place, make_place, now_ms
from tests.ledger_helpers import HOUR_MS, answered

TRACE = Path(__file__).parent / "data" / "trace"


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Place:
    place = make_place(tmp_path, capsys, monkeypatch)
    monkeypatch.setenv("NOT_SET_HERE", "sk-0123456789abcdef")
    place.list_models()
    return place


def body(text: str = "hello", **members: object) -> str:
    """Write a chat body into a file, and give its name."""
    message = {"role": "user", "content": text}
    Path("body.json").write_text(json.dumps({"model": "gpt-4o", "messages": [message], **members}))
    return "body.json"


# --- explain --------------------------------------------------------------------------------------


def test_explain_shows_the_policy_the_order_and_what_is_kept_out(place: Place) -> None:
    lines = place.lines("explain", body("please debug this", max_tokens=500, stream=True))

    assert lines[0].startswith("requested  gpt-4o, ")
    assert lines[0].endswith("at most 500 tokens out, stream")
    assert lines[1] == "policy     code (by keyword), lowest_cost"
    assert lines[5].split()[:3] == ["1", "deepseek-chat", "routstr"]
    text = "\n".join(lines)
    assert "kept out because" in text
    assert "not allowed by policy code: 1 other models" in text
    assert max(map(len, lines)) <= 100


def test_what_was_learned_changes_the_choice(place: Place) -> None:
    def first() -> str:
        name: str = place.json("explain", body())["candidates"][0]["model"]
        return name

    now = now_ms()
    assert first() == "gpt-4o-mini"
    # It is the cheaper one by its rates, and writes twenty times as much.
    place.write(
        *(
            answered(now - n, "gpt-4o-mini", n=n, policy="quick", output_tokens=6000)
            for n in range(9)
        ),
        *(answered(now - n, n=9 + n, policy="quick", output_tokens=300) for n in range(9)),
    )
    assert first() == "deepseek-chat"


def test_explain_takes_a_policy_and_standard_input(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Path(body()).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    told = place.json("explain", "-", "--policy", "code")
    assert (told["policy"], told["policy_source"]) == ("code", "header")
    assert [r["model"] for r in told["refusals"]] == ["gpt-4o"]


def test_explain_in_other_forms(place: Place) -> None:
    assert place.run("explain", body("debug"), "--format", "csv") == 0
    tried, kept_out = csv.DictReader(io.StringIO(place.out))
    assert (tried["n"], tried["model"], tried["reason"]) == ("1", "deepseek-chat", "")
    assert (kept_out["n"], kept_out["model"]) == ("", "gpt-4o")
    assert kept_out["reason"]
    assert place.lines("explain", body(), "--format", "markdown")[0].startswith("|   # | model")


def test_a_spent_daily_cap_is_said_with_its_figures(place: Place) -> None:
    text = place.config.read_text().replace(
        'default = "quick"', 'default = "quick"\nmax_sats_per_day = 1'
    )
    place.config.write_text(text)
    place.write(answered(now_ms(), cost_msats=1000))
    assert place.run("explain", body()) == 1
    assert "over policies.max_sats_per_day = 1 sats" in place.err
    assert "1 spent" in place.err


def test_nobody_left_is_exit_code_1_with_every_reason(place: Place) -> None:
    place.list_models((("gpt-4o", "2.5", "10"),))
    assert place.run("explain", body("debug")) == 1
    assert place.err.startswith("arbstr: no model under policy code fits: gpt-4o: ")
    assert "kept out because" in place.out
    assert place.run("explain", body("debug"), "--format", "json") == 1
    assert json.loads(place.out)["error"]["code"] == "no_model_fits"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[]", "body.json: the body is not a JSON object"),
        ("{", "body.json: the body is not valid JSON"),
        ("{}", "body.json: the body names no model"),
        ('{"model":"a","model":"b"}', "stands twice"),
    ],
)
def test_a_body_that_is_none_is_one_line(place: Place, content: str, complaint: str) -> None:
    Path("body.json").write_text(content)
    assert place.run("explain", "body.json") == 1
    assert complaint in place.err
    assert place.err.count("\n") == 1


def test_an_unknown_policy_or_file_is_one_line(place: Place) -> None:
    assert place.run("explain", body(), "--policy", "nix") == 2
    assert place.err == "arbstr: unknown policy 'nix'; known: quick, code\n"
    assert place.run("explain", "nowhere.json") == 1
    assert place.err == "arbstr: nowhere.json: No such file or directory\n"


# --- simulate -------------------------------------------------------------------------------------


def trace_arguments(*more: str) -> list[str]:
    return [
        *("--trace", str(TRACE / "azure_conv.csv"), str(TRACE / "azure_code.csv")),
        *("--prices", str(TRACE / "prices_usd.json"), "--workload", str(TRACE / "workload.json")),
        *more,
    ]


def test_a_trace_is_replayed_under_each_policy_of_the_workload(place: Place) -> None:
    rows = place.json("simulate", *trace_arguments())

    by_policy = {policy: [r for r in rows if r["policy"] == policy] for policy in ("quick", "code")}
    for found in by_policy.values():
        msats = {row["kind"]: row["msats"] for row in found if row["kind"] != "ranking"}
        assert found[0]["kind"] == "arbstr"
        assert msats["arbstr"] <= 1.03 * msats["known means"]
        assert msats["clairvoyant"] == min(row["msats"] for row in found)
        alone = [row["msats"] for row in found if row["kind"] == "alone"]
        assert alone == sorted(alone)
        assert {row["requests"] for row in found} == {1000 - found[0]["skipped"]}


def test_the_seed_makes_the_run(place: Place) -> None:
    def run(seed: str) -> object:
        return place.json("simulate", *trace_arguments("--policy", "quick", "--seed", seed))

    assert run("7") == run("7")
    assert run("7") != run("8")


def test_a_simulation_is_a_table_with_the_policy_and_the_seed(place: Place) -> None:
    lines = place.lines(
        "simulate", *trace_arguments("--policy", "quick", "--requested", "openai/gpt-4.1-nano")
    )
    assert lines[0] == "policy quick · 1,000 requests · seed 1"
    assert lines[2].split("  ")[0] == "router"
    assert lines[4].startswith("arbstr ")
    assert any(line.startswith("the requested model ") for line in lines)
    assert max(map(len, lines)) <= 100
    assert place.err == ""


def test_the_own_ledger_is_replayed(place: Place) -> None:
    now = now_ms()
    place.write(*(answered(now - n * HOUR_MS, n=n, policy="code") for n in range(5)))

    rows = place.json("simulate", "--since", "30d", "--policy", "code")

    assert {row["requests"] for row in rows} == {5}
    assert {row["kind"] for row in rows} >= {"arbstr", "requested", "alone"}
    assert {row["requests"] for row in place.json("simulate", "--since", "150m")} == {3}


def test_nothing_to_simulate_is_a_line(place: Place) -> None:
    assert place.run("simulate", "--since", "30d") == 0
    assert "nothing to simulate" in place.err


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--since", "soon"], 2, "--since: 'soon' is no time"),
        (["--trace", "no.csv"], 1, "no.csv: No such file or directory"),
        (["--trace", "bad.csv"], 1, "bad.csv: line 1: no column"),
        (["--trace", "good.csv", "--prices", "bad.csv"], 1, "bad.csv: "),
        (["--trace", "good.csv", "--policy", "nix"], 1, "no policy 'nix'"),
        (trace_arguments("--policy", "nix"), 1, "no policy 'nix' in the workload; known: quick"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(
    place: Place, arguments: list[str], code: int, complaint: str
) -> None:
    Path("bad.csv").write_text("a,b\n1,2\n")
    Path("good.csv").write_text("input_tokens,output_tokens\n1,2\n")
    assert place.run("simulate", *arguments) == code
    assert place.err.startswith(f"arbstr: {complaint}")
    assert place.err.count("\n") == 1


def test_a_trace_and_the_ledger_exclude_each_other(place: Place) -> None:
    assert place.run("simulate") == 2
    assert place.run("simulate", "--since", "1d", "--trace", "good.csv") == 2

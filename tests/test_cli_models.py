"""``arbstr models``, ``providers`` and ``check``: what is for sale, and is the config right."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from arbstr.config import load
from arbstr.report import UNKNOWN
from tests.cli_helpers import Place, make_place, now_ms
from tests.ledger_helpers import answered

CAPTURE = Path(__file__).parent / "captures" / "models" / "response.http"
KEY = "sk-0123456789abcdef"


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Place:
    place = make_place(tmp_path, capsys, monkeypatch)
    monkeypatch.setenv("NOT_SET_HERE", KEY)
    return place


class Node:
    """A server on loopback that answers GET with what stands in `answers`."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answers.get(self.path, (404, b"{}"))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.send_header("location", "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def node(place: Place) -> Iterator[Node]:
    """The provider of the config, with the model list of a real node."""
    node = Node()
    node.answers["/v1/models"] = (200, CAPTURE.read_bytes().partition(b"\r\n\r\n")[2])
    text = place.config.read_text()
    place.config.write_text(text.replace("127.0.0.1:9", node.address))
    thread = threading.Thread(target=node.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield node
    node.server.shutdown()
    node.server.server_close()
    thread.join()


# --- models ---------------------------------------------------------------------------------------


def test_models_have_their_prices_age_and_source_cheapest_first(place: Place) -> None:
    place.list_models()
    text = place.config.read_text() + (
        '\n[[models]]\nid = "local"\nprovider = "routstr"\ninput_rate = 0.000375\noutput_rate = 1\n'
    )
    place.config.write_text(text)

    heading, _, *lines = place.lines("models")

    assert heading.split() == [
        *("model", "provider", "in/1k", "cached/1k", "out/1k", "context", "source", "age")
    ]
    assert [line.split()[0] for line in lines] == [
        "gpt-4o-mini",
        "local",
        "deepseek-chat",
        "gpt-4o",
    ]
    assert lines[0].split()[2:8] == ["0.150000", UNKNOWN, "0.60", "128k", "synced", "0"]
    assert lines[1].split()[2:] == ["0.000375", UNKNOWN, "1.00", UNKNOWN, "static"]
    (first, *_) = place.json("models")
    assert (first["model"], first["input_rate"], first["tools"]) == ("gpt-4o-mini", 0.15, None)
    assert first["listed_at"].endswith("Z")


def test_models_of_a_policy_and_what_it_keeps_out(place: Place) -> None:
    place.list_models()
    assert [row["model"] for row in place.json("models", "--policy", "code")] == ["deepseek-chat"]
    assert "policy code keeps out gpt-4o: " in place.err
    assert place.run("models", "--policy", "nix") == 1
    assert "no policy 'nix'" in place.err
    assert "known: quick, code" in place.err


def test_no_models_are_a_line(place: Place) -> None:
    assert place.lines("models") == [
        "no models known yet: run `arbstr models --sync`, or start arbstr"
    ]
    assert place.lines("models", "--learned")[0].startswith("nothing learned yet")


def test_learned_shows_what_each_model_writes_and_how_far_off_it_was(place: Place) -> None:
    now = now_ms()
    place.write(
        *(
            answered(now - n, "terse", n=n, output_tokens=100, estimated_msats=824)
            for n in range(3)
        ),
        answered(now, "wordy", n=9, output_tokens=900, policy=None),
    )

    rows = {row["model"]: row for row in place.json("models", "--learned")}

    assert rows["terse"] == {
        "policy": "code",
        "model": "terse",
        "samples": 3,
        "mean_output": 100,
        "bytes_per_token": 4.0,
        "bias": 1.0,
        "error": 1.0,
    }
    assert (rows["wordy"]["policy"], rows["wordy"]["mean_output"]) == (None, 900)
    assert len(place.json("models", "--learned", "--policy", "code")) == 1
    assert "+100 %" in place.lines("models", "--learned", "--policy", "code")[2]


def test_a_sync_shows_the_list_and_keeps_it_in_the_ledger(place: Place, node: Node) -> None:
    assert place.run("models", "--sync") == 0
    told = place.err
    shown = place.json("models")
    assert told == f"arbstr: routstr: {len(shown)} models\n"
    assert {row["source"] for row in shown} == {"synced"}
    mini = next(row for row in shown if row["model"] == "gpt-4o")
    assert (mini["input_rate"], mini["cached_input_rate"], mini["output_rate"]) == (2.5, 1.25, 10.0)
    assert mini["context"] == 128_000

    node.answers["/v1/models"] = (200, b"<html>")
    assert place.run("models", "--sync", "--format", "json") == 1
    assert "routstr: not synced: not JSON" in place.err
    assert json.loads(place.out) == shown


def test_a_model_that_the_provider_has_no_more_is_gone_after_a_sync(place: Place) -> None:
    place.list_models()
    place.list_models((("gpt-4o", "2.5", "10"),))
    assert [row["model"] for row in place.json("models")] == ["gpt-4o"]


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"{}"), (302, b""), (200, b'{"data":[]}'), (200, b"\xff")]
)
def test_a_failed_sync_is_a_line_and_exit_code_1(
    place: Place, node: Node, status: int, body: bytes
) -> None:
    node.answers["/v1/models"] = (status, body)
    assert place.run("models", "--sync") == 1
    assert place.err.startswith("arbstr: routstr: not synced: ")
    assert place.err.count("\n") == 1


def test_a_provider_with_sync_off_is_not_asked(place: Place) -> None:
    text = place.config.read_text().replace("[policies]", 'sync = "off"\n\n[policies]')
    place.config.write_text(text.replace('"gpt-4o-mini", ', "").replace("[[providers]]", MODELS))
    assert place.run("models", "--sync") == 0
    assert place.err == 'arbstr: routstr: sync = "off"\n'


MODELS = """[[models]]
id = "deepseek-chat"
provider = "routstr"
input_rate = 1
output_rate = 2

[[providers]]"""


# --- write ----------------------------------------------------------------------------------------


def test_written_models_are_in_the_config_and_nothing_else_has_changed(place: Place) -> None:
    place.list_models()
    before = place.config.read_text()

    lines = place.lines("models", "--write", "gpt-4o", "deepseek-chat")

    assert [line.partition(": ")[2] for line in lines] == [
        "gpt-4o at routstr",
        "deepseek-chat at routstr",
    ]
    after = place.config.read_text()
    assert after.startswith(before)
    config = load(place.config, {"NOT_SET_HERE": KEY})
    assert [(m.id, m.context) for m in config.models] == [
        ("gpt-4o", 128_000),
        ("deepseek-chat", 128_000),
    ]
    assert [m.output_rate for m in config.models] == [10.0, 1.1]
    assert place.config.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in place.config.parent.glob(".config*")] == []


def test_a_model_that_is_there_gets_the_new_rates_and_keeps_its_comments(place: Place) -> None:
    place.list_models()
    text = place.config.read_text()
    mine = '\n[[models]]   # mine\nid = "gpt-4o"\nprovider = "routstr"\ninput_rate = 9  # old\n'
    place.config.write_text(f'{text}{mine}output_rate = 9\ntier = "frontier"\n# the end\n')
    assert place.run("models", "--write", "gpt-4o") == 0
    after = place.config.read_text()
    assert "input_rate = 2.5  # old\noutput_rate = 10\n" in after
    assert after.count("[[models]]") == 1
    assert after.startswith(text)
    assert after.endswith('tier = "frontier"\n# the end\n')


def test_windows_line_ends_stay(place: Place) -> None:
    place.list_models()
    place.config.write_bytes(place.config.read_bytes().replace(b"\n", b"\r\n"))
    before = place.config.read_bytes()
    assert place.run("models", "--write", "gpt-4o") == 0
    assert place.config.read_bytes().startswith(before)


def test_the_shipped_config_takes_a_model(place: Place) -> None:
    shipped = (Path(__file__).parent.parent / "config.toml").read_text()
    place.config.write_text(shipped)
    place.ledger = place.ledger.with_name("arbstr.db")
    place.list_models()
    assert place.run("models", "--write", "gpt-4o") == 0
    assert place.config.read_text().startswith(shipped)
    assert place.run("check") == 0


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("gpt-4u", "no provider lists 'gpt-4u'; near: gpt-4o"), ("zzz", "no provider lists 'zzz'")],
)
def test_an_unknown_model_is_not_written(place: Place, name: str, complaint: str) -> None:
    place.list_models()
    before = place.config.read_bytes()
    assert place.run("models", "--write", "gpt-4o", name) == 1
    assert complaint in place.err
    assert place.config.read_bytes() == before


def test_a_config_that_would_be_wrong_is_not_written(place: Place) -> None:
    place.list_models((("absurd", "1", "2000000"),))
    before = place.config.read_bytes()
    assert place.run("models", "--write", "absurd") == 1
    assert place.err.startswith(f"arbstr: {place.config}: models[0].output_rate: ")
    assert place.err.endswith("arbstr: nothing was written\n")
    assert place.config.read_bytes() == before
    assert [p.name for p in place.config.parent.glob(".config*")] == []


def test_mock_models_are_neither_synced_nor_written(place: Place) -> None:
    assert place.run("models", "--mock", "--sync") == 2
    assert place.run("models", "--mock", "--write", "x") == 2
    assert "not for --mock" in place.err


# --- providers ------------------------------------------------------------------------------------


def test_providers_show_no_key_and_what_is_known_without_a_running_arbstr(place: Place) -> None:
    place.list_models()
    port = place.config.read_text() + '\n[server]\nlisten = "127.0.0.1:9"\n'
    place.config.write_text(port)

    lines = place.lines("providers")

    assert lines[2].split()[:6] == [
        *("routstr", "http://127.0.0.1:9/v1", "sk-0…***", "10", "min", "3")
    ]
    assert lines[2].endswith(UNKNOWN)
    assert KEY not in place.out
    (row,) = place.json("providers")
    assert (row["key"], row["models"], row["state"], row["sync_s"]) == ("sk-0…***", 3, None, 600.0)


def test_providers_ask_a_running_arbstr_how_they_are(place: Place, node: Node) -> None:
    text = place.config.read_text()
    place.config.write_text(f'{text}\n[server]\nlisten = "{node.address}"\n')
    breaker = {"provider": "routstr", "model": "gpt-4o", "state": "open"}
    health: dict[str, object] = {
        "breakers": [breaker],
        "sync": {"routstr": {"last_ok_ms": 1, "error": None}},
        "ledger": {"path": str(place.ledger)},
    }
    node.answers["/health"] = (200, json.dumps(health).encode())

    (row,) = place.json("providers")
    assert row["state"] == "gpt-4o open"
    assert row["synced_at"] == "1970-01-01T00:00:00.001Z"

    health["breakers"] = []
    node.answers["/health"] = (200, json.dumps(health).encode())
    assert place.json("providers")[0]["state"] == "ok"

    health["ledger"] = {"path": str(place.ledger.with_name("spend-mock.db"))}
    node.answers["/health"] = (200, json.dumps(health).encode())
    assert place.json("providers")[0]["state"] is None


@pytest.mark.parametrize("body", [b"[]", b"\xff", b'{"status": "ok"}', b"9" * 10_000])
def test_something_else_on_that_port_is_not_believed(place: Place, node: Node, body: bytes) -> None:
    text = place.config.read_text()
    place.config.write_text(f'{text}\n[server]\nlisten = "{node.address}"\n')
    node.answers["/health"] = (200, body)
    assert place.json("providers")[0]["state"] is None


# --- check ----------------------------------------------------------------------------------------


def test_a_good_config_is_ok_with_a_summary(place: Place) -> None:
    lines = place.lines("check")
    assert lines[0] == f"{place.config}: ok"
    assert "  listens on  127.0.0.1:8080" in lines
    assert "  providers   routstr" in lines
    assert "  policies    quick, code; default: quick" in lines
    assert lines[-1].endswith("spend.db; rows stay for ever")
    assert place.err == ""


def test_everything_wrong_is_a_line_each_on_standard_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET_HERE")
    place.config.write_text(place.config.read_text().replace('default = "quick"', 'defualt = "x"'))
    assert place.run("check") == 1
    lines = place.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{place.config}: ") for line in lines)
    assert place.out == ""
    # Any other command that needs the config fails with the same lines.
    assert place.run("models") == 1
    assert place.err.splitlines() == [f"arbstr: {line}" for line in lines]


def test_warnings_are_no_failure_and_show_no_key(place: Place) -> None:
    place.config.write_text(place.config.read_text().replace("${NOT_SET_HERE}", KEY))
    place.config.chmod(0o644)
    assert place.run("check") == 0
    assert place.err.startswith("warning: ")
    assert KEY not in place.err + place.out


def test_a_missing_config_is_one_line(place: Place) -> None:
    place.config.unlink()
    for command in ("check", "costs", "models"):
        assert place.run(command) == 1
        assert "there is no such file" in place.err
        assert place.err.count("\n") == 1

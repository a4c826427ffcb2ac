"""The command ``arbstr`` itself: usage, exit codes, pipes, encodings, what it loads."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arbstr import __version__
from arbstr.cli import main, parser
from arbstr.commands.progress import Bar
from arbstr.commands.screen import Screen
from tests.cli_helpers import Place, make_place, now_ms
from tests.ledger_helpers import answered

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    *("serve", "check", "providers", "models", "costs", "requests", "export", "explain"),
    "simulate",
)


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Place:
    return make_place(tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_within_the_terminal_and_names_every_command(
    place: Place, arguments: list[str]
) -> None:
    del place  # sets the terminal's width
    text = parser().format_help()
    assert all(f"    {name} " in text for name in COMMANDS)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"arbstr {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nix"],
        ["costs", "--by", "color"],
        ["costs", "--format", "xml"],
        ["requests", "--limit", "0"],
        ["requests", "--limit", "x"],
        ["export", "--format", "table"],
        ["costs", "--sin", "1h"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_the_config_is_the_one_of_the_environment_unless_one_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write(answered(now_ms(), "mine"))
    monkeypatch.setenv("ARBSTR_CONFIG", str(place.config))
    assert main(["costs", "--by", "model"]) == 0
    assert "mine" in capsys.readouterr().out
    monkeypatch.setenv("ARBSTR_CONFIG", "/nowhere/config.toml")
    assert main(["costs"]) == 1
    assert "/nowhere/config.toml: there is no such file" in capsys.readouterr().err
    assert main(["costs", "--config", str(place.config)]) == 0


def test_a_listen_address_that_is_none_is_refused_before_anything_starts(place: Place) -> None:
    assert place.run("serve", "--listen", "8080") == 2
    assert place.err.startswith("arbstr: --listen: '8080' is no address")


def test_only_serve_loads_mitmproxy(place: Place) -> None:
    place.write(answered(now_ms()))
    Path("body.json").write_text('{"model": "gpt-4o", "messages": []}')
    place.config.write_text(place.config.read_text().replace('api_key = "${NOT_SET_HERE}"', ""))
    code = f"""
import sys
from arbstr.cli import main
config = ["--config", {str(place.config)!r}]
for command in (["check"], ["providers"], ["models"], ["models", "--learned"], ["costs"],
                ["requests"], ["export"], ["explain", {str(Path("body.json").resolve())!r}],
                ["simulate", "--since", "1d"]):
    main([*command, *config])
print(sorted({{"mitmproxy", "tornado", "asyncio"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_enough_ends_it_quietly(place: Place) -> None:
    now = now_ms()
    place.write(*(answered(now - n, n=n) for n in range(3000)))
    command = [sys.executable, "-m", "arbstr", "export", "--config", str(place.config)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("id,")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "W?rfel-??"), ("latin-1", "Würfel-??"), ("utf-8", "Würfel-模型")],
)
def test_a_terminal_that_lacks_a_character_gets_another(
    place: Place, encoding: str, shown: str
) -> None:
    place.write(answered(now_ms(), "Würfel-模型", cost_msats=None))
    done = subprocess.run(
        [sys.executable, "-m", "arbstr", "requests", "--config", str(place.config)],
        cwd=ROOT,
        capture_output=True,
        encoding=encoding,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    assert done.stderr == ""
    *_, row = done.stdout.splitlines()
    assert shown in row
    assert ("\N{EN DASH}" if encoding == "utf-8" else "-") in row.split()


def test_the_screen_paints_on_terminals_only_and_never_against_the_users_wish() -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    assert Screen(Terminal(), {}).paint("x", "bold") == "\x1b[1mx\x1b[0m"
    assert Screen(Terminal(), {"NO_COLOR": "1"}).paint("x", "bold") == "x"
    assert Screen(Terminal(), {"TERM": "dumb"}).paint("x", "bold") == "x"
    assert Screen(io.StringIO(), {}).paint("x", "bold") == "x"


def test_a_progress_bar_is_for_terminals_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = Bar("work")
    bar(1, 2)
    bar.clear()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = Bar("work")
    bar(1, 2)
    bar.clear()
    drawn = capsys.readouterr().err
    assert "work [###############...............]  50 %" in drawn
    assert drawn.endswith("\r\x1b[K")


def test_the_script_is_a_call_of_costs(place: Place) -> None:
    place.write(answered(now_ms(), "by-script"))
    script = [sys.executable, str(ROOT / "scripts" / "costs.py"), "--config", str(place.config)]
    done = subprocess.run([*script, "--by", "model"], capture_output=True, text=True, check=True)
    assert "by-script" in done.stdout


def test_the_script_says_what_to_do_where_nothing_is_installed(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "costs.py"
    script.write_bytes((ROOT / "scripts" / "costs.py").read_bytes())
    # -S: a Python without any packages.
    bare = [sys.executable, "-S", "-E", str(script), "--by", "model"]
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "scripts/run" in done.stderr
    # With an environment of the checkout's own it goes on there, with the same arguments.
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nshift\necho "own python: $*"\n')
    python.chmod(0o755)
    done = subprocess.run(bare, capture_output=True, text=True, check=True)
    assert done.stdout == "own python: --by model\n"

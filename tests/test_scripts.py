"""scripts/run, scripts/test and constraints.txt: what can be said of them without a network."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SHELL_SCRIPTS = ("scripts/run", "scripts/test", "scripts/setup", ".ci/run")
STARTED = ("scripts/run", "scripts/test", "scripts/constraints", ".ci/run")


def constraint_lines() -> list[str]:
    """The logical lines of constraints.txt: one requirement each, with all its hashes."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins(python: str) -> dict[str, str]:
    """The versions constraints.txt names for `python` ("3.12") on this platform, by package."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    wanted = [Requirement(line.split("--hash")[0].strip()) for line in constraint_lines()]
    chosen = [r for r in wanted if r.marker is None or r.marker.evaluate(environment)]
    found = {str(r.name): str(r.specifier).removeprefix("==") for r in chosen}
    assert len(found) == len(chosen), "a package is named twice"
    return found


@pytest.mark.parametrize("script", SHELL_SCRIPTS)
def test_a_shell_script_parses(script: str) -> None:
    subprocess.run(["sh", "-n", ROOT / script], check=True)


@pytest.mark.parametrize("script", STARTED)
def test_a_script_can_be_started(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_bytes().startswith(b"#!")


def test_constraints_name_no_host_and_no_path() -> None:
    for line in constraint_lines():
        assert not re.search(r"://|@|(^|\s)(/|-[a-z]|--(?!hash=))", line), line


def test_every_constraint_is_pinned_and_hashed() -> None:
    pattern = re.compile(r"[a-z0-9.-]+==[0-9][^ ;]*( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+ *")
    assert [line for line in constraint_lines() if not pattern.fullmatch(line)] == []


@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_the_constraints_of_a_python_fit_together(python: str) -> None:
    """Each package's own needs, as installed here, are met by what is pinned for `python`."""
    pinned = pins(python)
    assert pinned.keys() >= {"mitmproxy", "msgspec", "peewee", "tabulate", "tomlkit", "pytest"}
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    misfits = []
    for package in distributions():
        if pinned.get(canonicalize_name(package.name)) != package.version:
            continue
        for need in map(Requirement, package.requires or []):
            version = pinned.get(canonicalize_name(need.name))
            asked = need.marker is None or need.marker.evaluate(environment)
            if asked and (version is None or version not in need.specifier):
                misfits.append(f"{package.name} needs {need}, pinned is {version}")
    assert misfits == []


def fake_python(folder: Path, name: str, version: tuple[int, int]) -> None:
    """Put a program into `folder` that answers the finder as a Python of `version` would."""
    program = folder / name
    code = 0 if version >= (3, 12) else 1
    program.write_text(f"#!/bin/sh\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)


def find_python(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the finder of scripts/setup with nothing but `folder` on the PATH and as home.

    The usual full names are taken out: this machine may or may not have a Python there.
    """
    text = (ROOT / "scripts/setup").read_text(encoding="utf-8")
    function = re.search(r"^find_python\(\) \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    assert function
    code = re.sub(r" /(opt|usr)/\S+/python3\b", "", function[0]) + "find_python"
    shell = shutil.which("sh") or "/bin/sh"
    return subprocess.run(
        [shell, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": str(folder), "HOME": str(folder)},
    )


def test_the_finder_takes_the_first_python_that_is_new_enough(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", (3, 11))
    fake_python(tmp_path, "python3.12", (3, 12))
    assert find_python(tmp_path).stdout == "python3.12\n"
    fake_python(tmp_path, "python3.13", (3, 13))
    assert find_python(tmp_path).stdout == "python3.13\n"


def test_the_finder_looks_where_pyenv_keeps_its_versions(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", (3, 11))
    folder = tmp_path / ".pyenv/versions/3.13.0/bin"
    folder.mkdir(parents=True)
    fake_python(folder, "python", (3, 13))
    assert find_python(tmp_path).stdout == f"{folder}/python\n"


def test_the_finder_says_no_where_there_is_none(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", (3, 11))
    done = find_python(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")


def checkout(root: Path) -> Path:
    """Make a checkout whose .venv is fresh by its stamp, with programs that print their call."""
    (root / "scripts").mkdir(parents=True)
    for file in ("scripts/run", "scripts/setup", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, root / file)
    programs = root / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    for name in ("arbstr", "mitmweb"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    stamp = "{ pwd -P && cat constraints.txt pyproject.toml; } | cksum >.venv/arbstr-installed"
    subprocess.run(["sh", "-c", stamp], cwd=root, check=True)
    return root


@pytest.mark.parametrize(
    ("given", "started"),
    [
        ([], "arbstr serve"),
        (["--mock", "--config", "a b"], "arbstr serve --mock --config a b"),
        (["--web"], "mitmweb -s ROOT/arbstr_addon.py"),
        (["--mock", "--web"], "mitmweb -s ROOT/arbstr_addon.py --set arbstr_mock=true"),
        (
            ["--config", "a b", "--web", "-p", "1"],
            "mitmweb -s ROOT/arbstr_addon.py --set arbstr_config=a b -p 1",
        ),
        (["--web", "--config=c"], "mitmweb -s ROOT/arbstr_addon.py --set arbstr_config=c"),
    ],
)
def test_run_passes_its_arguments_on(tmp_path: Path, given: list[str], started: str) -> None:
    root = checkout(tmp_path / "a checkout")
    done = subprocess.run(
        [root / "scripts/run", *given], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == started.replace("ROOT", str(root)) + "\n"
    assert done.stderr.startswith("scripts/run: starting ")


def test_run_web_wants_a_file_after_config(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    done = subprocess.run(
        [root / "scripts/run", "--web", "--config"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "scripts/run: --config needs a file\n")

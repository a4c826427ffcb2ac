"""The rooms of arbstr: who may import whom. An arrow that points up fails here.

The table is the one of the design: `core` decides and knows nobody, `ledger`, `mock` and `config`
stand on it, `proxy` on all of these, the commands on top. A module without a room fails too, so a
new one has to be given its place.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Pure means: no network, no disk, no clock, no chance, no threads.
IMPURE = frozenset(
    {
        *("asyncio", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random"),
        *("secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl"),
        *("subprocess", "tempfile", "threading", "time"),
    }
)
STDLIB = sys.stdlib_module_names

CORE = frozenset({"msgspec", "arbstr.core"})
LEDGER = CORE | {"peewee", "playhouse", "arbstr.ledger"}
CONFIG = CORE | {"tomlkit", "arbstr.config"}
MOCK = CORE | {"tornado", "arbstr.mock"}
# mitmproxy brings these, and stands on them itself
BROUGHT = {"brotli", "h11", "tornado", "zstandard"}
SHARED = {"arbstr.market", "arbstr.stats"}  # what the proxy and the commands both stand on
PROXY = (
    CORE
    | BROUGHT
    | SHARED
    | {"mitmproxy", "arbstr.ledger", "arbstr.config", "arbstr.mock", "arbstr.proxy"}
)
REPORT = LEDGER | CONFIG | MOCK | {"tabulate", "arbstr.report"}
COMMANDS = REPORT | SHARED | {"arbstr.commands"}

# Room: the top-level packages and the rooms it may import. `arbstr` (the version) is open to all.
ROOMS = {
    "arbstr": STDLIB,
    "arbstr.core": CORE | STDLIB - IMPURE,
    "arbstr.ledger": LEDGER | STDLIB,
    "arbstr.config": CONFIG | STDLIB,
    "arbstr.mock": MOCK | STDLIB,
    "arbstr.proxy": PROXY | STDLIB,
    "arbstr.report": REPORT | STDLIB,
    "arbstr.commands": COMMANDS | STDLIB,
    # The one command that starts the proxy; cli finds it by name, nobody imports it.
    "arbstr.commands.serve": COMMANDS | PROXY | STDLIB,
    "arbstr.cli": COMMANDS | STDLIB | {"arbstr.cli"},
    "arbstr.__main__": STDLIB | {"arbstr.cli"},
    "arbstr.market": CONFIG | LEDGER | STDLIB | {"arbstr.market"},
    "arbstr.stats": LEDGER | STDLIB | {"arbstr.stats"},
    "arbstr_addon": frozenset({"arbstr.proxy"}),
}


def room_of(module: str) -> str | None:
    """The innermost room `module` lies in; None where the table knows none."""
    if module == "arbstr":
        return module
    inside = [room for room in ROOMS if f"{module}.".startswith(f"{room}.") and room != "arbstr"]
    return max(inside, key=len, default=None)


def modules(root: Path) -> dict[str, Path]:
    """Every module of the project under `root`, by its dotted name."""
    files = [*root.glob("arbstr/**/*.py"), *root.glob("arbstr_addon.py")]
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


def imports(module: str, path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and name of every import of one file, also for types only and in functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(up if node.level else []), *([node.module] if node.module else [])])
            # `from arbstr import proxy` names a module, `from arbstr import __version__` does not.
            inside = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in known else base for name in inside]
        else:
            continue
        yield from ((node.lineno, name) for name in names)


def arrows_up(root: Path) -> list[str]:
    """Every import under `root` that its room does not allow, as `file:line: what`."""
    known = modules(root)
    found = []
    for module, path in sorted(known.items()):
        file = path.relative_to(root).as_posix()
        name = room_of(module)
        if name is None:
            found.append(f"{file}:1: {module} has no room")
            continue
        for line, target in sorted(imports(module, path, known)):
            top = target.partition(".")[0]
            needed = room_of(target) if top in {"arbstr", "arbstr_addon"} else top
            if needed not in ROOMS[name] | {"arbstr"}:
                found.append(f"{file}:{line}: {module} imports {target}")
    return found


def test_no_arrow_points_up() -> None:
    assert modules(ROOT).keys() >= {"arbstr", "arbstr.core", "arbstr.proxy"}
    assert arrows_up(ROOT) == []


def plant(root: Path, file: str, source: str) -> None:
    """Write a made-up tree: the packages of arbstr, empty, and one file with `source`."""
    for folder in ("arbstr", "arbstr/core", "arbstr/ledger", "arbstr/proxy", "arbstr/mock"):
        (root / folder).mkdir()
        (root / folder / "__init__.py").touch()
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(source, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("arbstr/core/a.py", "import mitmproxy.http", "arbstr.core.a imports mitmproxy.http"),
        ("arbstr/core/a.py", "import time", "arbstr.core.a imports time"),
        ("arbstr/core/a.py", "from arbstr import proxy", "arbstr.core.a imports arbstr.proxy"),
        ("arbstr/core/a.py", "from ..ledger import x", "arbstr.core.a imports arbstr.ledger"),
        ("arbstr/core/a.py", "from .. import mock", "arbstr.core.a imports arbstr.mock"),
        ("arbstr/core/d/a.py", "import peewee", "arbstr.core.d.a imports peewee"),
        ("arbstr/core/__init__.py", "from ..mock import x", "arbstr.core imports arbstr.mock"),
        ("arbstr/ledger/a.py", "import arbstr.config", "arbstr.ledger.a imports arbstr.config"),
        ("arbstr/mock/a.py", "import peewee", "arbstr.mock.a imports peewee"),
        ("arbstr/config.py", "import arbstr.ledger", "arbstr.config imports arbstr.ledger"),
        ("arbstr/proxy/a.py", "import arbstr.cli", "arbstr.proxy.a imports arbstr.cli"),
        ("arbstr/proxy/a.py", "import httpx", "arbstr.proxy.a imports httpx"),
        ("arbstr/report.py", "import arbstr.proxy", "arbstr.report imports arbstr.proxy"),
        ("arbstr/report.py", "import arbstr.commands", "arbstr.report imports arbstr.commands"),
        ("arbstr/commands/a.py", "import arbstr.cli", "arbstr.commands.a imports arbstr.cli"),
        ("arbstr/commands/a.py", "import arbstr.proxy", "arbstr.commands.a imports arbstr.proxy"),
        (
            "arbstr/cli.py",
            "import arbstr.commands.serve",
            "arbstr.cli imports arbstr.commands.serve",
        ),
        ("arbstr/__init__.py", "import arbstr.core", "arbstr imports arbstr.core"),
        ("arbstr/util.py", "", "arbstr.util has no room"),
        ("arbstr_addon.py", "import arbstr.core", "arbstr_addon imports arbstr.core"),
    ],
)
def test_an_arrow_up_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    plant(tmp_path, file, source)
    assert arrows_up(tmp_path) == [f"{file}:1: {complaint}"]


def test_an_arrow_up_is_found_inside_a_function_and_for_types_only(tmp_path: Path) -> None:
    source = (
        "import typing\ndef f():\n  import peewee\nif typing.TYPE_CHECKING:\n  import tornado\n"
    )
    plant(tmp_path, "arbstr/core/a.py", source)
    assert arrows_up(tmp_path) == [
        "arbstr/core/a.py:3: arbstr.core.a imports peewee",
        "arbstr/core/a.py:5: arbstr.core.a imports tornado",
    ]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("arbstr/core/a.py", "import msgspec, re\nfrom arbstr.core import x\nfrom . import y"),
        ("arbstr/core/a.py", "from arbstr import __version__"),
        ("arbstr/ledger/a.py", "import peewee, threading, arbstr.core.price"),
        ("arbstr/config.py", "import tomllib, tomlkit\nfrom arbstr.core import price"),
        ("arbstr/mock/a.py", "import tornado.web, asyncio\nfrom arbstr.core import sse"),
        ("arbstr/proxy/a.py", "import mitmproxy.http, arbstr.ledger, arbstr.config, arbstr.mock"),
        ("arbstr/cli.py", "import argparse, arbstr.report, arbstr.commands.check"),
        ("arbstr/commands/serve.py", "import mitmproxy.master\nfrom arbstr.proxy import addon"),
        ("arbstr_addon.py", "from arbstr.proxy.addon import Arbstr"),
    ],
)
def test_an_arrow_down_is_fine(tmp_path: Path, file: str, source: str) -> None:
    plant(tmp_path, file, source)
    assert arrows_up(tmp_path) == []


def test_the_commands_start_without_mitmproxy() -> None:
    code = "import arbstr.cli, sys; print(sorted({'mitmproxy', 'tornado'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"

"""Variables that are not set, and files that are no config at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbstr.config import ConfigError, load
from tests.config_text import PROVIDER, problems

ADDRESS = 'is no address; allowed: "host:port" such as "127.0.0.1:8080" or "[::1]:8080"'
KEY = 'allowed: a key in quotes, best as "${VARIABLE}"'

# --- variables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${A}${B}", ["needs the environment variable A, which is not set",
                      "needs the environment variable B, which is not set"]),
        ("x${", ['has a "${" that names no variable; allowed: "${NAME}"']),
        ("${}", ['has a "${" that names no variable; allowed: "${NAME}"']),
        ("${A B}", ['has a "${" that names no variable; allowed: "${NAME}"']),
    ],
)  # fmt: skip
def test_variables(tmp_path: Path, value: str, expected: list[str]) -> None:
    text = f'server.allowed_hosts = ["ok", "{value}"]\n{PROVIDER}'
    assert problems(tmp_path, text) == tuple(f"server.allowed_hosts[1]: {e}" for e in expected)


def test_a_wrong_value_is_shown_as_written_and_not_as_expanded(tmp_path: Path) -> None:
    text = f'server.listen = "${{SECRET}}"\n{PROVIDER}'
    assert problems(tmp_path, text, {"SECRET": "hunter2"}) == (
        f'server.listen: "${{SECRET}}" {ADDRESS}',
    )


def test_a_wrong_key_from_the_environment_names_its_variable(tmp_path: Path) -> None:
    assert problems(tmp_path, PROVIDER, {"ARBSTR_A_API_KEY": "two words"}) == (
        (
            "providers[0].api_key: the value of ARBSTR_A_API_KEY has characters that no key has; "
            f"{KEY}"
        ),
    )


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = 1\nb = \n", "line 2, column 5: Invalid value"),
        (b"[a\n", "line 1, column 3: Expected ']' at the end of a table declaration"),
        (b"a = 'x", 'end of document: Expected "\'"'),
        (b"a = 1\na = 2\n", "line 2, column 6: Cannot overwrite a value"),
        (b"\xff\xfea\x00", "is not UTF-8 (byte 0); save it as UTF-8"),
        (b"a = " + b"[" * 9999, "is nested too deeply to be a config"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, expected: str) -> None:
    assert problems(tmp_path, content) == (expected,)


def test_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f"a = {'9' * 5000}")
    assert found.startswith("cannot be read: Exceeds the limit")


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf" + PROVIDER.encode())
    assert load(path, {}).providers[0].name == "a"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "missing.toml",
            "there is no such file; copy the config.toml that came with arbstr, or name another",
        ),
        ("", "cannot be read: Is a directory"),
        ("a/" * 3000, "cannot be read: File name too long"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name, {})
    assert caught.value.problems == (f"{tmp_path / name}: {expected}",)


def test_a_mock_url_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(ConfigError, match="mock mode: url: has a query"):
        load(tmp_path / "config.toml", {}, mock_url="http://127.0.0.1:1/v1?x")

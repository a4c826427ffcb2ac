"""Where keys come from, what mock mode replaces, and what the user is warned of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from arbstr.config import Config, Provider, load
from arbstr.core.secret import Secret
from tests.config_text import KEY, PROVIDER, load_text

MOCK_URL = "http://127.0.0.1:4321/v1"

type Load = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """Load a text as config.toml; `env` and `mock_url` as for load."""
    return functools.partial(load_text, tmp_path)


# --- variables and keys ---------------------------------------------------------------------------


def test_variables_are_put_into_any_text(read: Load) -> None:
    text = '[[providers]]\nname = "${N}"\nurl = "${S}://${H}/v1"\nmodels = ["${M}-x"]\n'
    config = read(text, {"N": "n", "S": "https", "H": "h.example", "M": "m"})
    assert (config.providers[0].name, config.providers[0].url) == ("n", "https://h.example/v1")
    assert config.models[0].id == "m-x"


def test_what_a_variable_holds_is_not_expanded_again(read: Load) -> None:
    config = read(f'{PROVIDER}models = ["${{A}}", "$A"]', {"A": "${B}"})
    assert [m.id for m in config.models] == ["${B}", "$A"]


def test_a_key_in_the_file_comes_before_the_variable_of_the_name(read: Load) -> None:
    env = {"K": "sk-from-the-file-key", "ARBSTR_A_API_KEY": KEY}
    assert read(f'{PROVIDER}api_key = "${{K}}"', env).providers[0].api_key == Secret(env["K"])
    assert read(PROVIDER, env).providers[0].api_key == Secret(KEY)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("routstr", "ARBSTR_ROUTSTR_API_KEY"),
        ("my-node.v2", "ARBSTR_MY_NODE_V2_API_KEY"),
        ("A_b", "ARBSTR_A_B_API_KEY"),
    ],
)
def test_the_key_is_found_by_the_name(read: Load, name: str, variable: str) -> None:
    text = f'[[providers]]\nname = "{name}"\nurl = "https://a.example"'
    assert read(text, {variable: f" {KEY}\n"}).providers[0].api_key == Secret(KEY)


@pytest.mark.parametrize("env", [{}, {"ARBSTR_A_API_KEY": ""}, {"ARBSTR_A_API_KEY": " "}])
def test_without_a_key_the_clients_passes_through(read: Load, env: dict[str, str]) -> None:
    assert read(PROVIDER, env).providers[0].api_key is None


# --- mock mode ------------------------------------------------------------------------------------


def test_mock_mode_replaces_providers_before_variables_are_looked_at(
    read: Load, tmp_path: Path
) -> None:
    text = """
        providers = [{ name = "${A}", url = "${B}", unknown = 1 }]
        models = [{ id = "m", provider = "gone", input_rate = 1, output_rate = 1 }]
        database.path = "l.sqlite"
        policies.default = "p"
        policies.rules = [{ name = "p", allowed_models = ["gpt-4o"] }]
    """
    config = read(text, mock_url=MOCK_URL)
    assert config.providers == (
        Provider(
            "mock", MOCK_URL, "http", "127.0.0.1", 4321, "/v1",
            api_key=Secret("sk-mock-0000000000000000"), sync_s=600.0,
        ),
    )  # fmt: skip
    assert config.models == ()
    assert config.database.path == tmp_path / "l-mock.db"
    assert config.policies.default == "p"
    assert config.warnings == ()


# --- warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            f'{PROVIDER}api_key = "{KEY}"',
            [
                (
                    "providers[0].api_key: holds the key itself; better: leave it out and set the "
                    "variable ARBSTR_A_API_KEY"
                )
            ],
        ),
        (
            f'server.auth_token = "{KEY}"\n{PROVIDER}api_key = "${{K}}"',
            ['server.auth_token: holds the key itself; better: auth_token = "${ARBSTR_TOKEN}"'],
        ),
        (
            f'server.auth_token = "${{K}}"\n{PROVIDER}',
            [
                (
                    "providers[0].api_key: is not set, and server.auth_token is: for a clients "
                    "must send the token as x-arbstr-token and a key of their own as usual"
                )
            ],
        ),
        (
            '[[providers]]\nname = "a"\nurl = "http://a.example"\napi_key = "${K}"',
            ["providers[0].url: sends your key over plain http, for all to read"],
        ),
        ('[[providers]]\nname = "a"\nurl = "http://127.0.0.1:1"\napi_key = "${K}"', []),
        ('[[providers]]\nname = "a"\nurl = "http://a.example"', []),
        (
            f"server.rate_limit_rps = 5\n{PROVIDER}[routing]\nx = 1\n[vault]\nurl = 2\n[logging]\n",
            [
                "server.rate_limit_rps: is ignored: arbstr bounds requests by limits.concurrent",
                (
                    "logging: is ignored: how much is logged is set on the command line, "
                    "requests go to the ledger"
                ),
                "routing: is ignored: models are chosen by their price and by policies.rules",
                "vault: is ignored: nobody is billed through arbstr",
            ],
        ),
    ],
)
def test_warnings(read: Load, tmp_path: Path, text: str, warnings: list[str]) -> None:
    config = read(text, {"K": KEY})
    assert [w.removeprefix(f"{tmp_path}/config.toml: ") for w in config.warnings] == warnings
    assert KEY not in str(config)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_with_a_key_that_others_read_is_a_warning(
    tmp_path: Path, mode: int, warned: bool
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'{PROVIDER}api_key = "{KEY}"')
    path.chmod(mode)
    warnings = load(path, {}).warnings
    warning = f"{path}: holds a key and others can read it; do: chmod 600 {path}"
    assert (warning in warnings) is warned


def test_a_file_without_a_key_may_be_read_by_all(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'{PROVIDER}api_key = "${{K}}"')
    path.chmod(0o644)
    assert load(path, {"K": KEY}).warnings == ()

"""Whatever a file holds, loading it gives a config or a ConfigError of printable lines."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from arbstr.config import ConfigError, load

EXAMPLES = 100

KEYS = st.sampled_from(
    [
        *[
            "server",
            "database",
            "providers",
            "models",
            "policies",
            "fallback",
            "limits",
            "clients",
            "logging",
        ],
        *[
            "name",
            "url",
            "api_key",
            "sync",
            "id",
            "provider",
            "input_rate",
            "output_rate",
            "base_fee",
            "rules",
        ],
        *[
            "allowed_models",
            "strategy",
            "keywords",
            "max_sats_per_day",
            "default",
            "listen",
            "path",
        ],
        *[
            "retention_days",
            "max_attempts",
            "idle_timeout",
            "body_bytes",
            "context",
            "latency",
            "tier",
        ],
    ]
) | st.text(max_size=5)
WORDS = st.sampled_from(
    [
        *[
            "off",
            "10m",
            "1h30m",
            "32MB",
            "a",
            "r",
            "none",
            "auto",
            "lowest_cost",
            "local",
            "127.0.0.1:0",
            "0.0.0.0:1",
        ],
        *[
            "https://a.example/v1",
            "http://[::1]:1",
            "${A}",
            "${",
            "${UNSET}",
            "$",
            "~",
            "~x",
            ":memory:",
            "..",
            "/",
        ],
    ]
) | st.text(max_size=10)
NUMBERS = st.integers() | st.integers(0, 10) | st.floats() | st.booleans()
VALUES = st.recursive(
    WORDS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
TOML_LIKE = st.text(
    alphabet=st.sampled_from(string.ascii_lowercase + "[]{}\"'=.#\n ,-+_0123456789einf$\\\0é"),
    max_size=200,
)


def load_anything(path: Path, text: str) -> None:
    """Either a config or a ConfigError of printable lines: anything else fails the test."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path, {"A": "https://x\n\udcff"})
        return
    except ConfigError as error:
        lines = error.problems
    assert lines
    assert all(line.isprintable() for line in lines)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples: hypothesis runs them one after another."""
    return tmp_path_factory.mktemp("config") / "config.toml"


@settings(max_examples=EXAMPLES, deadline=None)
@given(document=st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_toml_is_a_config_or_a_config_error(scratch: Path, document: dict[str, object]) -> None:
    load_anything(scratch, tomlkit.dumps(document))


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=TOML_LIKE)
def test_any_text_is_a_config_or_a_config_error(scratch: Path, text: str) -> None:
    load_anything(scratch, text)


def section(name: str) -> st.SearchStrategy[dict[str, object]]:
    """A table of the known keys of a section with values of all kinds."""
    keys = {
        "providers": ["name", "url", "api_key", "sync", "models", "input_rate", "output_rate"],
        "models": ["id", "provider", "input_rate", "output_rate", "context", "tier", "latency"],
        "rules": ["name", "allowed_models", "strategy", "max_sats_per_request", "keywords"],
    }[name]
    return st.dictionaries(st.sampled_from(keys), VALUES, max_size=7)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    providers=st.lists(section("providers"), max_size=3),
    models=st.lists(section("models"), max_size=3),
    rules=st.lists(section("rules"), max_size=3),
    clients=st.dictionaries(KEYS, WORDS, max_size=3),
)
def test_any_sections_are_a_config_or_a_config_error(
    scratch: Path,
    providers: list[dict[str, object]],
    models: list[dict[str, object]],
    rules: list[dict[str, object]],
    clients: dict[str, str],
) -> None:
    document = {
        "providers": providers,
        "models": models,
        "policies": {"rules": rules},
        "clients": clients,
    }
    load_anything(scratch, tomlkit.dumps(document))

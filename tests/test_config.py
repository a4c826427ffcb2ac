"""What a good config file becomes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from arbstr.config import (
    Config,
    Database,
    Fallback,
    Limits,
    Provider,
    Server,
    default_path,
    is_loopback,
    load,
)
from arbstr.core.policy import ClientRule, Policies, Rule, Selector
from arbstr.core.price import Price
from arbstr.core.secret import Secret
from tests.config_text import KEY, PROVIDER, load_text

SHIPPED = Path(__file__).parents[1] / "config.toml"
RUST = Path(__file__).parent / "data" / "rust-arbstr.toml"
MOCK_URL = "http://127.0.0.1:4321/v1"

type Load = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """Load a text as config.toml; `env` and `mock_url` as for load."""
    return functools.partial(load_text, tmp_path)


# --- the files that must load ---------------------------------------------------------------------


def test_the_shipped_file_loads_without_warnings() -> None:
    config = load(SHIPPED, {})
    assert config.warnings == ()
    assert config.server == Server()
    assert config.database == Database(SHIPPED.parent / "arbstr.db", 0)
    assert [p.name for p in config.providers] == ["routstr"]
    assert config.providers[0].url == "https://api.routstr.com/v1"
    assert config.models == ()
    assert [rule.name for rule in config.policies.rules] == ["quick", "code", "frontier"]
    assert config.policies.default == "quick"
    assert config.policies.substitutes == {"gpt-4o": ("claude-sonnet-4.5",)}
    assert config.fallback == Fallback()
    assert config.limits == Limits()


def test_the_shipped_file_loads_in_mock_mode() -> None:
    config = load(SHIPPED, {}, mock_url=MOCK_URL)
    assert config.warnings == ()
    assert [p.url for p in config.providers] == [MOCK_URL]


def test_every_commented_example_of_the_shipped_file_is_a_known_key(read: Load) -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    example = re.compile(r'# (?=(?:[a-z0-9_]+|"[^"]+") = |\[)')
    text = "\n".join(example.sub("", line) if example.match(line) else line for line in lines)
    config = read(text, {"ARBSTR_TOKEN": KEY, "ROUTSTR_API_KEY": KEY})
    assert config.models[-1].max_output == 16_384
    assert config.policies.clients == (ClientRule("claude-cli*", "code"),)
    assert config.policies.rules[1].max_msats_per_request == 200_000
    assert config.limits == Limits()
    assert config.fallback == Fallback()
    assert config.providers[0].cache_ttl_s == 300


def test_a_file_of_the_rust_arbstr_loads_unchanged() -> None:
    env = {"FIRST_NODE_KEY": KEY, "ARBSTR_SECOND_NODE_API_KEY": "sk-second-node-key"}
    config = load(RUST, env)
    first, second = config.providers
    assert (first.name, first.host) == ("first-node", "first.example.com")
    assert first.api_key == Secret(KEY)
    assert second.api_key == Secret("sk-second-node-key")
    assert [(m.provider, m.id) for m in config.models] == [
        ("first-node", "gpt-4o"),
        ("first-node", "gpt-4o-mini"),
        ("first-node", "claude-3.5-sonnet"),
        ("second-node", "gpt-4o"),
        ("second-node", "claude-3.5-sonnet"),
        ("second-node", "claude-3-haiku"),
    ]
    assert config.models[0].price == Price(Decimal(10), Decimal(30), base_fee_msats=Decimal(1000))
    assert config.policies.default_strategy == "lowest_cost"
    assert config.policies.default is None
    code, quick, analysis = config.policies.rules
    assert code.max_msats_per_1k_output == 50_000
    assert quick.strategy == "lowest_latency"
    assert analysis.keywords == ()
    (warning,) = config.warnings
    assert warning.startswith(f"{RUST}: logging: is ignored")


# --- sections -------------------------------------------------------------------------------------


def test_the_least_file_has_every_default(read: Load, tmp_path: Path) -> None:
    config = read(PROVIDER)
    assert config == Config(
        path=tmp_path / "config.toml",
        server=Server(),
        database=Database(tmp_path / "arbstr.db"),
        providers=(
            Provider(
                "a", "https://a.example/v1", "https", "a.example", 443, "/v1", None, 600.0, 300.0
            ),
        ),
        models=(),
        policies=Policies(),
        fallback=Fallback(),
        limits=Limits(),
    )


def test_server(read: Load) -> None:
    text = """
        [server]
        listen = "[::1]:0"
        auth_token = "${TOKEN}"
        allowed_origins = ["https://App.example", "vscode-webview://abc", "http://[::1]:3000"]
        allowed_hosts = ["Tunnel.example"]
    """
    server = read(text + PROVIDER, {"TOKEN": KEY, "ARBSTR_A_API_KEY": KEY}).server
    assert server == Server(
        listen_host="::1",
        listen_port=0,
        auth_token=Secret(KEY),
        allowed_origins=("https://app.example", "vscode-webview://abc", "http://[::1]:3000"),
        allowed_hosts=("tunnel.example",),
    )


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("127.0.0.2:8080", "127.0.0.2", 8080),
        ("localhost:65535", "localhost", 65535),
        ("LOCALHOST:1", "localhost", 1),
    ],
)
def test_loopback_needs_no_token(read: Load, listen: str, host: str, port: int) -> None:
    config = read(f'server.listen = "{listen}"\n{PROVIDER}')
    assert (config.server.listen_host, config.server.listen_port) == (host, port)
    assert config.warnings == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.5", "example.com"])
def test_other_machines_are_let_in_by_a_token(read: Load, host: str) -> None:
    text = f'[server]\nlisten = "{host}:80"\nauth_token = "${{T}}"\n{PROVIDER}'
    assert read(text, {"T": KEY, "ARBSTR_A_API_KEY": KEY}).warnings == ()


def test_other_machines_are_let_in_without_a_token_by_an_explicit_word(
    read: Load, tmp_path: Path
) -> None:
    text = f'[server]\nlisten = "0.0.0.0:80"\nallow_lan_without_token = true\n{PROVIDER}'
    assert read(text).warnings == (
        (
            f'{tmp_path}/config.toml: server.listen: "0.0.0.0" lets other machines in, '
            "without a token: each can spend your sats"
        ),
    )


def test_database_path_starts_at_the_folder_of_the_file(read: Load, tmp_path: Path) -> None:
    config = read(f'[database]\npath = "x/../l.db"\nretention_days = 30\n{PROVIDER}')
    assert config.database == Database(tmp_path / "x/../l.db", 30)


def test_database_path_may_be_absolute_or_at_home(
    read: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read(f'database.path = "/var/l.db"\n{PROVIDER}').database.path == Path("/var/l.db")
    assert read(f'database.path = "~/l.db"\n{PROVIDER}').database.path == tmp_path / "home/l.db"


def test_a_relative_config_path_becomes_absolute(
    read: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(PROVIDER)
    monkeypatch.chdir(tmp_path)
    config = load(Path("config.toml"), {})
    assert config.path == tmp_path / "config.toml"
    assert config.database.path == tmp_path / "arbstr.db"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.example/v1/", ("https://h.example/v1", "https", "h.example", 443, "/v1")),
        ("http://H.example", ("http://H.example", "http", "h.example", 80, "")),
        ("http://127.0.0.1:8000/", ("http://127.0.0.1:8000", "http", "127.0.0.1", 8000, "")),
        ("https://[::1]:9/a/b.c", ("https://[::1]:9/a/b.c", "https", "::1", 9, "/a/b.c")),
    ],
)
def test_provider_url(read: Load, url: str, expected: tuple[str, str, str, int, str]) -> None:
    provider = read(f'[[providers]]\nname = "a"\nurl = "{url}"').providers[0]
    url_parts = (provider.url, provider.scheme, provider.host, provider.port, provider.base_path)
    assert url_parts == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ('"10m"', 600.0),
        ('"60s"', 60.0),
        ('"1h30m"', 5400.0),
        ('"500ms"', 0.5),
        ('"1.5h"', 5400.0),
        ('"1d"', 86_400.0),
        ("90", 90.0),
        ("0.25", 0.25),
        ('"off"', None),
        ('"${SYNC}"', 5.0),
    ],
)
def test_durations(read: Load, value: str, seconds: float | None) -> None:
    config = read(f"{PROVIDER}sync = {value}", {"SYNC": "5s"})
    assert config.providers[0].sync_s == seconds


def test_fallback(read: Load) -> None:
    text = """
        [fallback]
        max_attempts = 2
        first_token_timeout = "5s"
        idle_timeout = 6
        total_timeout = "1m"
        shutdown_grace = 0
        models = { "gpt-4o" = ["b", "c"], "d" = [] }
    """
    config = read(text + PROVIDER)
    assert config.fallback == Fallback(2, 5.0, 6.0, 60.0, 0.0)
    assert config.policies.substitutes == {"gpt-4o": ("b", "c"), "d": ()}


def test_limits(read: Load) -> None:
    text = """
        [limits]
        header_bytes = "16KiB"
        body_bytes = "32MB"
        json_depth = 10
        messages = 20
        concurrent = 30
        request_seconds = "500ms"
        event_bytes = 1024
        answer_bytes = "1 GiB"
    """
    assert read(text + PROVIDER).limits == Limits(
        16_384, 32_000_000, 10, 20, 30, 0.5, 1024, 1_073_741_824
    )


def test_static_models(read: Load) -> None:
    text = """
        [[models]]
        id = "big"
        provider = "a"
        input_rate = 0.15
        output_rate = 0.6
        base_fee = 0.5
        cached_input_rate = 0.075
        cache_write_rate = 1e-1
        context = 128_000
        max_output = 16_384
        tools = true
        vision = false
        json = true
        tier = "frontier"
        latency = "800ms"
        aliases = ["large", "vendor/big"]

        [[models]]
        id = "plain"
    """
    big, plain = read(PROVIDER + text).models
    assert big.price == Price(
        Decimal("0.15"), Decimal("0.6"), Decimal("0.075"), Decimal("0.1"), Decimal(500)
    )
    assert (big.context, big.max_output, big.latency_ms) == (128_000, 16_384, 800)
    assert (big.tools, big.vision, big.json, big.tier) == (True, False, True, "frontier")
    assert (big.aliases, big.source) == (("large", "vendor/big"), "static")
    # What nobody said is None, and the only provider need not be named.
    assert (plain.provider, plain.price, plain.context, plain.tools) == ("a", None, None, None)


def test_models_of_a_provider_share_its_price_and_tier(read: Load) -> None:
    text = 'models = ["m", "n"]\ninput_rate = 1\noutput_rate = 2.5\ntier = "local"\n'
    m, n = read(PROVIDER + text).models
    assert m.price == n.price == Price(Decimal(1), Decimal("2.5"))
    assert (m.id, n.id, m.tier) == ("m", "n", "local")


def test_policies(read: Load) -> None:
    text = """
        [policies]
        default = "one"
        default_strategy = "round_robin"
        max_sats_per_day = 5000

        [[policies.rules]]
        name = "one"

        [[policies.rules]]
        name = "Two.2_-"
        allowed_models = ["gpt-4o", "x*"]
        strategy = "cheapest"
        max_sats_per_1k_output = 0.5
        max_sats_per_request = 0.001
        max_sats_per_day = 2_100_000_000_000_000
        lower_max_tokens = true
        min_tier = "standard"
        fallback = false
        keywords = ["fix bug"]

        [clients]
        "claude-cli*" = "Two.2_-"
        "sk-*" = "one"
    """
    policies = read(text + PROVIDER).policies
    assert policies == Policies(
        rules=(
            Rule("one", strategy="round_robin"),
            Rule(
                name="Two.2_-",
                allowed_models=("gpt-4o", "x*"),
                strategy="lowest_cost",
                max_msats_per_1k_output=500,
                max_msats_per_request=1,
                max_msats_per_day=2_100_000_000_000_000_000,
                lower_max_tokens=True,
                min_tier="standard",
                fallback=False,
                keywords=("fix bug",),
            ),
        ),
        default="one",
        default_strategy="round_robin",
        clients=(ClientRule("claude-cli*", "Two.2_-"), ClientRule("sk-*", "one")),
        max_msats_per_day=5_000_000,
    )
    Selector(policies)  # every name it looks up is there


# --- helpers of others ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "/x/config.toml"),
        ({"ARBSTR_CONFIG": ""}, "/x/config.toml"),
        ({"ARBSTR_CONFIG": "/y/my.toml"}, "/y/my.toml"),
    ],
)
def test_default_path(env: dict[str, str], expected: str) -> None:
    assert default_path(env, Path("/x")) == Path(expected)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("localhost.example", False),
    ],
)
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected

"""What is wrong with a config file: one line each with file, key path and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbstr.config import load
from tests.config_text import PROVIDER, problems

RULE = '[[policies.rules]]\nname = "r"\n'
MODEL = '[[models]]\nid = "m"\n'
TIME = 'allowed: a time such as "500ms", "60s", "1h30m", or seconds, more than 0 to 366 days'
TIME_OR_0 = TIME.replace("more than 0", "0")
RATE = "allowed: sats per 1,000 tokens, a number from 0 to 1,000,000"
CAP = "allowed: sats, a number from 0 to 2,100,000,000,000,000 with at most three decimals"
TEXT = "allowed: a text in quotes, not empty, on one line"
NAME = "allowed: 1 to 64 letters, digits, dots, dashes and underscores"
LIST = 'allowed: a list such as ["a", "b"]'
ADDRESS = 'is no address; allowed: "host:port" such as "127.0.0.1:8080" or "[::1]:8080"'
ORIGIN = 'is no origin; allowed: "scheme://host" or "scheme://host:port", no path, no "*"'
HOST = 'is no host name; allowed: a name such as "arbstr.example", without scheme and port'
URL = 'allowed: http or https, a host, a path, such as "https://api.routstr.com/v1"'
SIZE = 'is no size; allowed: bytes from 1 to 1,099,511,627,776, or such as "64KiB", "32MB"'
KEY = 'allowed: a key in quotes, best as "${VARIABLE}"'
PATH = "is no path of a file; allowed: the ledger's path"
TIERS = "allowed: local, standard, frontier"
STRATEGIES = "allowed: lowest_cost, lowest_latency, round_robin, cheapest"
RULE_KEYS = (
    "allowed: name, allowed_models, strategy, max_sats_per_1k_output, max_sats_per_request, "
    "max_sats_per_day, lower_max_tokens, min_tier, fallback, keywords"
)
PROVIDER_KEYS = (
    "allowed: name, url, api_key, sync, cache_ttl, input_rate, output_rate, base_fee, tier, models"
)
MODEL_KEYS = (
    "allowed: id, provider, input_rate, output_rate, base_fee, cached_input_rate, "
    "cache_write_rate, context, max_output, tools, vision, json, tier, latency, aliases"
)


SERVER = [
    ("listen = 1979-05-27", f"listen: a date or time {ADDRESS}"),
    (f"listen = 1{'0' * 99}", f"listen: a huge number {ADDRESS}"),
    ("listen = {}", f"listen: a table {ADDRESS}"),
    ("listen = 8080", f"listen: 8080 {ADDRESS}"),
    ('listen = "8080"', f'listen: "8080" {ADDRESS}'),
    ('listen = ":8080"', f'listen: ":8080" {ADDRESS}'),
    ('listen = "*:8080"', f'listen: "*:8080" {ADDRESS}'),
    ('listen = "::1:8080"', f'listen: "::1:8080" {ADDRESS}'),
    ('listen = "127.0.0.1:65536"', f'listen: "127.0.0.1:65536" {ADDRESS}'),
    ('listen = "127.0.0.999:80"', f'listen: "127.0.0.999:80" {ADDRESS}'),
    ('listen = "127.0.0.1:8o"', f'listen: "127.0.0.1:8o" {ADDRESS}'),
    (
        'listen = "0.0.0.0:80"',
        (
            'listen: "0.0.0.0" lets other machines in and there is no token; set '
            'server.auth_token = "${ARBSTR_TOKEN}" and that variable to a long random '
            "text, or listen on 127.0.0.1, or say server.allow_lan_without_token = true"
        ),
    ),
    ("auth_token = 5", f"auth_token: the value is no text; {KEY}"),
    ('auth_token = ""', f"auth_token: the value is empty; {KEY}"),
    ('auth_token = "${EMPTY}"', f"auth_token: the value is empty; {KEY}"),
    ('auth_token = "a b"', f"auth_token: the value has characters that no key has; {KEY}"),
    ('allowed_origins = "https://a"', f'allowed_origins: "https://a" is no list; {LIST}'),
    ('allowed_origins = ["https://a", "*"]', f'allowed_origins[1]: "*" {ORIGIN}'),
    ('allowed_origins = ["https://a/"]', f'allowed_origins[0]: "https://a/" {ORIGIN}'),
    ('allowed_origins = ["null"]', f'allowed_origins[0]: "null" {ORIGIN}'),
    ('allowed_hosts = ["a:80"]', f'allowed_hosts[0]: "a:80" {HOST}'),
    ('allowed_hosts = ["*.a"]', f'allowed_hosts[0]: "*.a" {HOST}'),
    ("allowed_hosts = [1]", f"allowed_hosts[0]: 1 {HOST}"),
    (
        "allow_lan_without_token = 1",
        "allow_lan_without_token: 1 is neither true nor false; allowed: true, false",
    ),
    (
        "lisen = 1",
        (
            'lisen: unknown key, did you mean "listen"? allowed: listen, auth_token, '
            "allowed_origins, allowed_hosts, allow_lan_without_token, rate_limit_rps"
        ),
    ),
]


@pytest.mark.parametrize(("line", "expected"), SERVER)
def test_server(tmp_path: Path, line: str, expected: str) -> None:
    text = f"[server]\n{line}\n{PROVIDER}"
    assert problems(tmp_path, text, {"EMPTY": ""}) == (f"server.{expected}",)


PROVIDERS = [
    ("name = true", f"name: true is no name; {NAME}"),
    ('name = "a b"', f'name: "a b" is no name; {NAME}'),
    ('name = ""', f'name: "" is no name; {NAME}'),
    ('url = "a.example/v1"', f"url: the value is no URL of http or https; {URL}"),
    ('url = "ftp://a.example"', f"url: the value is no URL of http or https; {URL}"),
    ('url = "https://"', f"url: the value is no URL of a host and a plain path; {URL}"),
    ('url = "https://a:99999"', f"url: the value is no URL; {URL}"),
    ('url = "https://a:"', f"url: the value is no URL of a host and a plain path; {URL}"),
    ('url = "https://[::1"', f"url: the value is no URL; {URL}"),
    ('url = "https://a/../b"', f"url: the value is no URL of a host and a plain path; {URL}"),
    ('url = "https://a//b"', f"url: the value is no URL of a host and a plain path; {URL}"),
    ('url = "https://a?b=1"', f"url: the value has a query or a fragment; {URL}"),
    ('url = "https://a#b"', f"url: the value has a query or a fragment; {URL}"),
    (
        'url = "https://u:p@a"',
        f"url: the value has a user or password in it; keys belong in api_key; {URL}",
    ),
    (
        'url = "https://a\\tb"',
        f"url: the value has characters that do not belong in a URL; {URL}",
    ),
    ("url = 1", f"url: the value is no URL; {URL}"),
    ("api_key = 1", f"api_key: the value is no text; {KEY}"),
    ('api_key = "a\\u0001"', f"api_key: the value has characters that no key has; {KEY}"),
    ('api_key = "${NOPE}"', "api_key: needs the environment variable NOPE, which is not set"),
    ('sync = "never"', f'sync: "never" is no time; {TIME}; or "off"'),
    ("sync = 0", f'sync: 0 does not fit; {TIME}; or "off"'),
    ("sync = -1", f'sync: -1 does not fit; {TIME}; or "off"'),
    ("sync = inf", f'sync: Infinity is no time; {TIME}; or "off"'),
    ("sync = true", f'sync: true is no time; {TIME}; or "off"'),
    ('cache_ttl = "5 m"', f'cache_ttl: "5 m" is no time; {TIME_OR_0}'),
    ('cache_ttl = "400d"', f'cache_ttl: "400d" does not fit; {TIME_OR_0}'),
    ('models = "gpt-4o"', f'models: "gpt-4o" is no list; {LIST}'),
    ('models = ["a", 1]', f"models[1]: 1 is no text; {TEXT}"),
    ('models = ["a", " "]', f'models[1]: " " is empty; {TEXT}'),
    (
        'models = ["a", "b", "a"]',
        'models[2]: "a at a" is there twice, first as providers[0].models[0]',
    ),
    (
        "input_rate = 1",
        "output_rate: is missing; allowed: sats per 1,000 tokens, beside input_rate",
    ),
    (
        "output_rate = 1",
        "input_rate: is missing; allowed: sats per 1,000 tokens, beside output_rate",
    ),
    ("input_rate = -1\noutput_rate = 1", f"input_rate: -1 is no rate; {RATE}"),
    ("input_rate = nan\noutput_rate = 1", f"input_rate: NaN is no rate; {RATE}"),
    ("input_rate = 1\noutput_rate = inf", f"output_rate: Infinity is no rate; {RATE}"),
    (
        "input_rate = 1\noutput_rate = 1e99999999999999999999",
        f"output_rate: Infinity is no rate; {RATE}",
    ),
    ("input_rate = 1\noutput_rate = 1e999", f"output_rate: 1E+999 is no rate; {RATE}"),
    ('input_rate = 1\noutput_rate = "1"', f'output_rate: "1" is no rate; {RATE}'),
    ("input_rate = true\noutput_rate = 1", f"input_rate: true is no rate; {RATE}"),
    (
        "input_rate = 1\noutput_rate = 1\nbase_fee = -0.1",
        "base_fee: -0.1 is no fee; allowed: sats a request, a number from 0 to 1,000,000",
    ),
    ('tier = "best"', f'tier: "best" is not known; {TIERS}'),
    ('colour = "x"', f"colour: unknown key; {PROVIDER_KEYS}"),
    ('api_kee = "x"', f'api_kee: unknown key, did you mean "api_key"? {PROVIDER_KEYS}'),
]


@pytest.mark.parametrize(("lines", "expected"), PROVIDERS)
def test_providers(tmp_path: Path, lines: str, expected: str) -> None:
    given = {line.partition(" = ")[0] for line in lines.splitlines()}
    rest = [line for line in PROVIDER.splitlines()[1:] if line.partition(" = ")[0] not in given]
    text = "\n".join(["[[providers]]", lines, *rest])
    assert problems(tmp_path, text) == (f"providers[0].{expected}",)


MODELS = [
    ("id = 1", f"id: 1 is no text; {TEXT}"),
    (
        'provider = "b"',
        'provider: "b" is no provider; allowed: a',
    ),
    ("provider = 1", f"provider: 1 is no text; {TEXT}"),
    ("context = 0", "context: 0 does not fit; allowed: a whole number from 1 to 1,000,000,000"),
    (
        "max_output = 1.0",
        "max_output: 1.0 does not fit; allowed: a whole number from 1 to 1,000,000,000",
    ),
    (
        "context = true",
        "context: true does not fit; allowed: a whole number from 1 to 1,000,000,000",
    ),
    ('tools = "yes"', 'tools: "yes" is neither true nor false; allowed: true, false'),
    ('tier = "Local"', f'tier: "Local" is not known, did you mean "local"? {TIERS}'),
    ('latency = "fast"', f'latency: "fast" is no time; {TIME_OR_0}'),
    ('aliases = "x"', f'aliases: "x" is no list; {LIST}'),
    (
        "cached_input_rate = 1",
        "input_rate: is missing; allowed: sats per 1,000 tokens, beside cached_input_rate",
    ),
    (
        "cache_write_rate = -1\ninput_rate = 1\noutput_rate = 1",
        f"cache_write_rate: -1 is no rate; {RATE}",
    ),
    ("created = 1979-05-27", f"created: unknown key; {MODEL_KEYS}"),
    ("max_outputs = 1", f'max_outputs: unknown key, did you mean "max_output"? {MODEL_KEYS}'),
]


@pytest.mark.parametrize(("lines", "expected"), MODELS)
def test_models(tmp_path: Path, lines: str, expected: str) -> None:
    head = "[[models]]" if lines.startswith("id") else MODEL
    found = problems(tmp_path, f"{PROVIDER}{head}\n{lines}")
    assert found[0] == f"models[0].{expected}"
    assert len(found) == 1 + lines.startswith("cached")


POLICIES = [
    (
        f'[policies]\ndefault = "code"\n{RULE}',
        'policies.default: "code" is no policy; allowed: r',
    ),
    (
        '[policies]\ndefault = "cheapest"',
        'policies.default: "cheapest" is no policy; allowed: none, there are no [[policies.rules]]',
    ),
    (
        '[policies]\ndefault_strategy = "lowest_price"',
        (
            'policies.default_strategy: "lowest_price" is not known, did you mean "lowest_cost"? '
            f"{STRATEGIES}"
        ),
    ),
    (
        "[policies]\nmax_sats_per_day = -5",
        f"policies.max_sats_per_day: -5 is no cap; {CAP}",
    ),
    (
        "[policies]\nrule = []",
        (
            'policies.rule: unknown key, did you mean "rules"? allowed: default, default_strategy, '
            "max_sats_per_day, rules"
        ),
    ),
    (
        '[policies.rules]\nname = "r"',
        (
            "policies.rules: a table is no list of tables; "
            "allowed: [[policies.rules]], in double brackets, once for each"
        ),
    ),
    (
        "[[policies.rules]]",
        "policies.rules[0].name: is missing; allowed: a text, the name of the policy",
    ),
    (
        f"{RULE}{RULE}",
        'policies.rules[1].name: "r" is there twice, first as policies.rules[0].name',
    ),
    (
        '[[policies.rules]]\nname = "none"',
        'policies.rules[0].name: "none" means something else; allowed: any name but none and auto',
    ),
    (
        '[[policies.rules]]\nname = "auto"',
        'policies.rules[0].name: "auto" means something else; allowed: any name but none and auto',
    ),
    ('[[policies.rules]]\nname = "a/b"', f'policies.rules[0].name: "a/b" is no name; {NAME}'),
    (
        f'{RULE}strategy = "fastest"',
        f'policies.rules[0].strategy: "fastest" is not known; {STRATEGIES}',
    ),
    (f"{RULE}strategy = 1", f"policies.rules[0].strategy: 1 is not known; {STRATEGIES}"),
    (
        f'{RULE}allowed_models = ["a", ""]',
        f'policies.rules[0].allowed_models[1]: "" is empty; {TEXT}',
    ),
    (f"{RULE}keywords = [true]", f"policies.rules[0].keywords[0]: true is no text; {TEXT}"),
    (
        f"{RULE}max_sats_per_1k_output = nan",
        f"policies.rules[0].max_sats_per_1k_output: NaN is no cap; {CAP}",
    ),
    (
        f"{RULE}max_sats_per_request = 0.0001",
        f"policies.rules[0].max_sats_per_request: 0.0001 is not a whole number of msats; {CAP}",
    ),
    (
        f"{RULE}max_sats_per_request = 1e-999999999",
        (
            "policies.rules[0].max_sats_per_request: 1E-999999999 is not a whole number of msats; "
            f"{CAP}"
        ),
    ),
    (
        f"{RULE}max_sats_per_day = 2_100_000_000_000_001",
        f"policies.rules[0].max_sats_per_day: 2100000000000001 is no cap; {CAP}",
    ),
    (
        f'{RULE}min_tier = "frontir"',
        f'policies.rules[0].min_tier: "frontir" is not known, did you mean "frontier"? {TIERS}',
    ),
    (
        f'{RULE}fallback = "no"',
        'policies.rules[0].fallback: "no" is neither true nor false; allowed: true, false',
    ),
    (
        f"{RULE}max_sats_per_1k_outputs = 1",
        (
            "policies.rules[0].max_sats_per_1k_outputs: unknown key, "
            f'did you mean "max_sats_per_1k_output"? {RULE_KEYS}'
        ),
    ),
    (
        f'{RULE}[clients]\n"x*" = "rr"',
        'clients."x*": "rr" is no policy, did you mean "r"? allowed: r',
    ),
    (f'{RULE}[clients]\n"x*" = "none"', 'clients."x*": "none" is no policy; allowed: r'),
    (f'{RULE}[clients]\n"x*" = 1', f'clients."x*": 1 is no text; {TEXT}'),
    (
        f'{RULE}[clients]\n"x*" = "r"\n"X*" = "r"',
        'clients."X*": "x*" is there twice, first as clients."x*"',
    ),
]


@pytest.mark.parametrize(("text", "expected"), POLICIES)
def test_policies_and_clients(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, f"{PROVIDER}{text}") == (expected,)


OTHERS = [
    ("[database]\npath = 1", f"database.path: 1 is no text; {TEXT}"),
    ('[database]\npath = ":memory:"', f'database.path: ":memory:" {PATH}'),
    ('[database]\npath = "."', f'database.path: "." {PATH}'),
    (
        '[database]\npath = "~nobody-has-this-name/l.db"',
        f'database.path: "~nobody-has-this-name/l.db" {PATH}',
    ),
    (
        '[database]\npath = "a\\u0000b"',
        f'database.path: "a\\u0000b" has characters that do not print; {TEXT}',
    ),
    (
        "[database]\nretention_days = -1",
        "database.retention_days: -1 does not fit; allowed: a whole number from 0 to 36,500",
    ),
    (
        "[fallback]\nmax_attempts = 0",
        "fallback.max_attempts: 0 does not fit; allowed: a whole number from 1 to 100",
    ),
    (
        "[fallback]\nfirst_token_timeout = 0",
        f"fallback.first_token_timeout: 0 does not fit; {TIME}",
    ),
    ('[fallback]\nidle_timeout = "1 hour"', f'fallback.idle_timeout: "1 hour" is no time; {TIME}'),
    ('[fallback]\ntotal_timeout = "10"', f'fallback.total_timeout: "10" is no time; {TIME}'),
    ("[fallback]\nshutdown_grace = -1", f"fallback.shutdown_grace: -1 does not fit; {TIME_OR_0}"),
    (
        "[fallback]\ntotal_timeot = 1",
        (
            'fallback.total_timeot: unknown key, did you mean "total_timeout"? allowed: '
            "max_attempts, first_token_timeout, idle_timeout, total_timeout, shutdown_grace, models"
        ),
    ),
    ('[fallback.models]\n"a.b" = "c"', f'fallback.models."a.b": "c" is no list; {LIST}'),
    ("[fallback.models]\na = [1]", f"fallback.models.a[0]: 1 is no text; {TEXT}"),
    (
        "[fallback]\nmodels = []",
        "fallback.models: a list is no table; allowed: [fallback.models] and its keys",
    ),
    ('[limits]\nbody_bytes = "32 apples"', f'limits.body_bytes: "32 apples" {SIZE}'),
    ("[limits]\nevent_bytes = 0", f"limits.event_bytes: 0 {SIZE}"),
    ("[limits]\nheader_bytes = 1.5", f"limits.header_bytes: 1.5 {SIZE}"),
    (
        "[limits]\njson_depth = 1001",
        "limits.json_depth: 1001 does not fit; allowed: a whole number from 1 to 1,000",
    ),
    (
        "[limits]\nconcurrent = -1",
        "limits.concurrent: -1 does not fit; allowed: a whole number from 1 to 10,000,000",
    ),
    ("[limits]\nrequest_seconds = 0", f"limits.request_seconds: 0 does not fit; {TIME}"),
    (
        '[limits]\n"messages\\n" = 1',
        (
            'limits."messages\\n": unknown key, did you mean "messages"? allowed: header_bytes, '
            "body_bytes, json_depth, messages, concurrent, request_seconds, event_bytes, "
            "answer_bytes"
        ),
    ),
    (
        "[provider]",
        (
            'provider: unknown key, did you mean "providers"? allowed: server, database, fallback, '
            "limits, providers, models, policies, clients, logging, routing, vault"
        ),
    ),
]


@pytest.mark.parametrize(("text", "expected"), OTHERS)
def test_other_sections(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, f"{PROVIDER}{text}") == (expected,)


WHOLE_FILES = [
    ("", ["providers: is missing; allowed: at least one [[providers]] with name and url"]),
    (
        "providers = []",
        ["providers: is missing; allowed: at least one [[providers]] with name and url"],
    ),
    (
        '[providers]\nname = "a"',
        [
            (
                "providers: a table is no list of tables; "
                "allowed: [[providers]], in double brackets, once for each"
            )
        ],
    ),
    (
        "[[providers]]",
        [
            "providers[0].name: is missing; allowed: a text, your name for the provider",
            'providers[0].url: is missing; allowed: "https://host/v1"',
        ],
    ),
    (f"server = 5\n{PROVIDER}", ["server: 5 is no table; allowed: [server] and its keys"]),
    (
        PROVIDER + PROVIDER,
        ['providers[1].name: "a" is there twice, first as providers[0].name'],
    ),
    (
        PROVIDER.replace('"a"', '"a-b"') + PROVIDER.replace('"a"', '"a_b"'),
        [
            (
                'providers[1].name: "a_b" would read its key from ARBSTR_A_B_API_KEY, as "a-b" '
                "does; allowed: names that differ in letters or digits"
            )
        ],
    ),
    (
        f"{PROVIDER}{PROVIDER.replace('"a"', '"b"')}{MODEL}",
        ["models[0].provider: is missing; allowed: a, b"],
    ),
    (
        f"{PROVIDER}{MODEL}{MODEL}provider = 'a'",
        ['models[1].id: "m at a" is there twice, first as models[0].id'],
    ),
    (
        f'{PROVIDER}models = ["m"]\n{MODEL}',
        ['models[0].id: "m at a" is there twice, first as providers[0].models[0]'],
    ),
]


@pytest.mark.parametrize(("text", "expected"), WHOLE_FILES)
def test_whole_files(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert problems(tmp_path, text) == tuple(expected)


def test_a_rule_that_matches_nothing_is_an_error_where_nothing_is_synced(tmp_path: Path) -> None:
    text = f"""{PROVIDER}sync = "off"\nmodels = ["claude-3.5-sonnet", "gpt-4o"]
        [[policies.rules]]
        name = "folded"
        allowed_models = ["nothing", "anthropic/Claude-3-5-*"]
        [[policies.rules]]
        name = "any"
        [[policies.rules]]
        name = "empty"
        allowed_models = ["gpt-5*"]
    """
    expected = (
        "policies.rules[2].allowed_models: no model of the file matches, and every provider has "
        'sync = "off"; allowed: claude-3.5-sonnet, gpt-4o'
    )
    assert problems(tmp_path, text) == (expected,)
    (tmp_path / "config.toml").write_text(text.replace('"off"', '"10m"'))
    assert load(tmp_path / "config.toml", {}).warnings == ()


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = """
        [server]
        listen = "here"
        [[providers]]
        name = "a"
        url = "nowhere"
        api_key = "${KEY_ONE}"
        [[models]]
        id = "m"
        input_rate = -1
        output_rate = nan
        [[policies.rules]]
        name = "code"
        strategy = "fastest"
        [policies]
        default = "cod"
        [limit]
    """
    text = text.replace("[policies]\n        default", "[policies.x]\n        default")
    paths = [line.partition(": ")[0] for line in problems(tmp_path, text)]
    assert paths == [
        "server.listen",
        "providers[0].url",
        "providers[0].api_key",
        "models[0].input_rate",
        "models[0].output_rate",
        "policies.x",
        "policies.rules[0].strategy",
        "limit",
    ]

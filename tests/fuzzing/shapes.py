"""Strategies: almost right bodies, events, model lists, configs, query strings, HTTP heads."""

from __future__ import annotations

import json
import string

from hypothesis import strategies as st

type Made = st.SearchStrategy[bytes]

PRICED = (
    *("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses"),
    *("/v1/embeddings", "/v1/completions", "/chat/completions"),
)
OWN = (
    "/health",
    "/providers",
    "/v1/models",
    "/v1/stats",
    "/v1/requests",
    "/v1/cost",
    "/models",
    "/",
)
MODELS = (
    *("gpt-4o-mini", "gpt-4o", "arbstr/quick", "arbstr/auto", "auto", "deepseek-chat", "nobody"),
    *(
        "mock-fail-500",
        "mock-fail-429",
        "mock-fail-401",
        "mock-fail-404",
        "mock-html",
        "mock-empty",
    ),
    *(
        "mock-cut",
        "mock-cut-reset",
        "mock-drop",
        "mock-reset",
        "mock-error-event",
        "mock-error-mid",
    ),
    *("mock-no-done", "mock-no-usage", "mock-broken-json", "mock-200-error", "arbstr/none", ""),
)
"""None of them stalls."""

TEXT = st.text(max_size=40)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT,
    st.sampled_from([2**63, -(2**63), 10**30, 1e308, -0.0, "\x00", "\u2028", "data: [DONE]\n\n"]),
)  # fmt: skip
JSON = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)


def sometimes(good: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """The right kind of value, four times of five."""
    return st.integers(0, 4).flatmap(lambda n: JSON if n == 0 else good)


PART = st.one_of(
    st.builds(lambda t: {"type": "text", "text": t}, TEXT),
    st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
    st.builds(lambda t: {"type": "input_text", "text": t}, TEXT),
    JSON,
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": sometimes(st.sampled_from(["user", "assistant", "system", "tool", "developer"])),
        "content": sometimes(st.one_of(TEXT, st.lists(PART, max_size=3), st.none())),
    },
    optional={"tool_calls": JSON, "name": SCALAR, "cache_control": JSON, "refusal": st.none()},
)
MESSAGES = sometimes(st.lists(MESSAGE, max_size=5))
ASKED = st.fixed_dictionaries(
    {"model": sometimes(st.sampled_from(MODELS)), "messages": MESSAGES},
    optional={
        "input": sometimes(st.one_of(TEXT, st.lists(MESSAGE, max_size=3))),
        "prompt": sometimes(TEXT),
        "system": JSON,
        "instructions": TEXT,
        "stream": sometimes(st.booleans()),
        "stream_options": sometimes(st.just({"include_usage": True})),
        "max_tokens": sometimes(st.integers(-1, 5_000)),
        "max_completion_tokens": sometimes(st.integers(0, 5_000)),
        "max_output_tokens": sometimes(st.integers(0, 5_000)),
        "n": sometimes(st.integers(0, 3)),
        "tools": sometimes(st.just([{"type": "function", "function": {"name": "f"}}])),
        "response_format": sometimes(st.just({"type": "json_object"})),
        "temperature": SCALAR,
        "metadata": JSON,
        "encoding_format": SCALAR,
        "previous_response_id": SCALAR,
    },
)


@st.composite
def mangled(draw: st.DrawFn, whole: Made) -> bytes:
    """Bytes that were right once: cut, doubled, flipped, with something put in."""
    data = draw(whole)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 4]))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(len(data), at + 20)))
        put = draw(
            st.sampled_from(
                [b"", data[at:to] * 2, b"\xff", b"\x00", b'"', b"{", b"[" * 200, b"\\", b"\r\n",
                 b"\n\n", b",", b"\xed\xa0\x80", b"1e999", b"\\ud800", b"\xef\xbb\xbf", b":"]
            )
        )  # fmt: skip
        data = data[:at] + put + data[to:]
    return data


def encoded(value: object) -> bytes:
    """JSON as clients write it. Floats that are no JSON are left to `mangled`."""
    return json.dumps(value, allow_nan=False).encode("utf-8", "surrogatepass")


BODIES: Made = mangled(st.one_of(ASKED.map(encoded), JSON.map(encoded)))

# --- events ---------------------------------------------------------------------------------------

_DELTA = st.one_of(
    st.builds(lambda t: {"choices": [{"index": 0, "delta": {"content": t}}]}, TEXT),
    st.just({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    st.builds(lambda u: {"choices": [], "usage": u}, JSON),
    st.builds(lambda e: {"error": e}, JSON),
    st.builds(lambda t: {"type": "content_block_delta", "delta": {"text": t}}, TEXT),
    st.builds(lambda t: {"type": "response.output_text.delta", "delta": t}, TEXT),
    st.builds(lambda u: {"type": "response.completed", "response": {"usage": u}}, JSON),
    st.builds(lambda u: {"type": "message_delta", "usage": u}, JSON),
    st.sampled_from([{"type": "message_stop"}, {"type": "message_start"}, {"type": "error"}]),
    st.builds(lambda c: {"choices": [], "cost": c, "usage": {"cost": c}}, JSON),
    JSON,
)
_END = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b"\n\r\n", b""])
_EVENT = st.one_of(
    st.builds(lambda d, end: b"data: " + encoded(d) + end, _DELTA, _END),
    st.builds(lambda d, end: b"event: error\ndata: " + encoded(d) + end, _DELTA, _END),
    st.sampled_from([b"data: [DONE]\n\n", b": comment\n\n", b"data:\n\n", b"id: 1\n\n", b"\n\n"]),
    st.binary(max_size=12),
)
STREAMS: Made = mangled(st.lists(_EVENT, max_size=8).map(b"".join))
PLAIN: Made = mangled(
    st.one_of(
        st.builds(
            lambda c, u: encoded({"choices": c, "usage": u, "output": c, "content": c}), JSON, JSON
        ),
        JSON.map(encoded),
    )
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"content-type", b"retry-after", b"x-routstr-cost-msats", b"content-length"]
        ),
        st.one_of(
            st.sampled_from([b"text/event-stream", b"application/json; x", b"-1", b"1e9", b"10"]),
            st.binary(max_size=8),
        ),
    ),
    max_size=4,
).map(tuple)

# --- model lists ----------------------------------------------------------------------------------

_RATE = st.one_of(
    st.floats(0, 1e-3),
    st.integers(-1, 5),
    st.sampled_from(["0.1", "-1", "x", "1e400", 1e400]),
    JSON,
)
_MODEL = st.fixed_dictionaries(
    {"id": sometimes(TEXT)},
    optional={
        "sats_pricing": sometimes(
            st.dictionaries(
                st.sampled_from(
                    ["prompt", "completion", "request", "input_cache_read", "max_cost",
                     "input_cache_write"]
                ),
                _RATE,
            )
        ),
        "context_length": SCALAR,
        "top_provider": JSON,
        "architecture": sometimes(st.just({"input_modalities": ["text", "image"]})),
        "supported_parameters": sometimes(st.just(["tools"])),
        "alias_ids": JSON,
        "enabled": SCALAR,
    },
)  # fmt: skip
LISTINGS: Made = mangled(
    st.builds(
        lambda rows: json.dumps({"data": rows}).encode(), sometimes(st.lists(_MODEL, max_size=4))
    )
)

# --- configs, queries -----------------------------------------------------------------------------

_LINE = st.one_of(
    st.sampled_from(
        ["[server]", "[database]", "[[providers]]", "[[models]]", "[policies]", "[fallback]",
         "[limits]", "[[policies.rules]]", "[fallback.models]", "[clients]", "[server.x]"]
    ),
    st.builds(
        lambda k, v: f"{k} = {v}",
        st.sampled_from(
            ["listen", "auth_token", "allowed_origins", "allowed_hosts", "path", "name", "url",
             "api_key", "sync", "models", "input_rate", "output_rate", "base_fee", "id", "provider",
             "default", "strategy", "keywords", "allowed_models", "max_attempts", "idle_timeout",
             "body_bytes", "concurrent", "tier", "context", '"gpt-4o"', "retention_days"]
        ),
        st.one_of(
            st.sampled_from(
                ['"127.0.0.1:1"', '"http://a.example/v1"', '["*"]', '"${X}"', '"10m"', "1", "-1",
                 "1.5", "1e999", "inf", "true", '"node"', "[]", "{}", "2026-01-01", '"""', "0x_1",
                 '"32 MB"', '["a", 1]', '"lowest_cost"']
            ),
            TEXT.map(json.dumps),
        ),
    ),
)  # fmt: skip
CONFIGS: Made = mangled(st.lists(_LINE, max_size=14).map(lambda lines: "\n".join(lines).encode()))

_VALUE = st.one_of(
    st.sampled_from(
        ["last_24h", "last_1h", "never", "model", "day", "-1", "0", "1", "101", "1e9", "9" * 30,
         "2026-01-01T00:00:00Z", "2026-13-99", "cost_msats", "desc", "id", "' OR 1=1 --", "%", "*"]
    ),
    st.text(string.printable, max_size=12),
    TEXT,
)  # fmt: skip
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(
            ["range", "since", "until", "model", "provider", "policy", "group_by", "page",
             "per_page", "sort", "order", "outcome", "x", ""]
        ),
        _VALUE,
    ),
    max_size=5,
)  # fmt: skip

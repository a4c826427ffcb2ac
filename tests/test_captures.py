"""Every captured exchange, played again: what the row says, and what the client gets."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import pytest

from arbstr.core.body import BadBodyError
from arbstr.core.catalog import Model
from arbstr.core.receipt import attempt_row, final_row
from arbstr.core.route import NoModelError
from tests import replay
from tests.running import Running, running

CONFIG = """\
[database]
path = "ledger.db"
[[providers]]
name = "node"
url = "{url}"
sync = "1h"
"""
ODD = """\
[[models]]
id = "{id}"
provider = "node"
input_rate = 1
output_rate = 4
cached_input_rate = 0.1
"""


@dataclass(frozen=True)
class Expect:
    """The row of a capture; tokens as fresh input, cached, cache write, output, reasoning.

    `source`: who says what it cost. `msats`: where the capture does not say what was charged.
    """

    outcome: str
    status: int
    source: str = "unknown"
    tokens: tuple[int | None, ...] = (None,) * 5
    code: str | None = None
    msats: int | None = None


def ok(
    *tokens: int | None,
    msats: int | None = None,
    cached: int | None = None,
    write: int | None = None,
) -> Expect:
    """A whole answer, billed. `tokens`: input, output, reasoning."""
    fresh, output, reasoning = (*tokens, None)[:3]
    return Expect("ok", 200, "billed", (fresh, cached, write, output, reasoning), msats=msats)


def error(status: int, code: str) -> Expect:
    """Nobody was left: the upstream's error went down."""
    return Expect("error", status, code=code)


def refused(status: int, code: str) -> Expect:
    """Nothing was sent."""
    return Expect("refused", status, "computed", code=code, msats=0)


CUT = Expect("interrupted", 200, code="stream_interrupted")

EXPECTED: Mapping[str, Expect] = {
    "bearer_cashu_token": ok(11, 9, msats=47),
    "chat_after_refund": error(402, "insufficient_balance"),
    "chat_ok": ok(11, 9),
    "chat_ok_no_v1_prefix": ok(11, 9),
    "chat_ok_with_origin": ok(11, 9),
    "chat_on_anthropic_provider": ok(11, 9),
    "chat_reasoning": ok(30, 25),
    "chat_stream_include_usage": ok(11, 9),
    "chat_stream_include_usage_false": ok(11, 9),
    "chat_stream_no_include_usage": ok(11, 9),
    "chat_stream_reasoning": ok(30, 25),
    "chat_stream_tool": ok(50, 18),
    "chat_tool": ok(50, 18),
    "client_headers_seen_upstream": ok(11, 9),
    "concurrent_1": ok(20, 14, msats=76),
    "concurrent_2": ok(20, 14, msats=76),
    "cost_big": ok(12_345, 6_789),
    "cost_fraction_cheap": ok(11, 9),
    "cost_free_model": ok(11, 9),
    "cost_free_model_stream": ok(11, 9),
    "cost_one_token_cheap": ok(1, 1),
    "cost_overrun_beyond_balance": ok(12_345, 6_789),
    "cost_overrun_of_reservation": ok(12_345, 6_789),
    "cost_pricey": ok(11, 9),
    "cost_request_fee_model": ok(11, 9),
    "cost_usd_reported_by_upstream": ok(100, 50),
    "cost_zero_usage": ok(0, 0),
    "embeddings": ok(0, 0),
    "err_402_insufficient": error(402, "insufficient_balance"),
    "err_402_insufficient_stream": error(402, "insufficient_balance"),
    "err_402_max_completion_tokens_ignored": error(402, "insufficient_balance"),
    "err_402_messages": error(402, "insufficient_balance"),
    "err_bad_key": error(401, "invalid_api_key"),
    "err_bad_key_and_unknown_model": refused(404, "model_not_found"),
    "err_bad_key_short": error(401, "invalid_api_key"),
    "err_bad_key_stream": error(401, "invalid_api_key"),
    "err_basic_auth": error(401, "missing_api_key"),
    "err_empty_bearer": error(401, "missing_api_key"),
    "err_empty_body": refused(400, "invalid_json"),
    "err_garbage_cashu_bearer": error(400, "invalid_cashu_token"),
    "err_invalid_json": refused(400, "invalid_json"),
    "err_json_array": refused(400, "invalid_body"),
    "err_max_tokens_string": error(400, "http_400"),
    "err_messages_missing": error(400, "invalid_request_error"),
    "err_messages_string": error(400, "invalid_request_error"),
    "err_missing_model": refused(400, "missing_model"),
    "err_model_number": refused(400, "invalid_model_type"),
    "err_no_auth": error(401, "http_401"),
    "err_unknown_model": refused(404, "model_not_found"),
    "err_unknown_model_stream": refused(404, "model_not_found"),
    "err_x_api_key_only": error(401, "http_401"),
    "legacy_completions": error(404, "not_found"),
    "messages_litellm": ok(11, 9, cached=0, write=0),
    "messages_litellm_429": error(429, "UPSTREAM_RATE_LIMIT"),
    "messages_litellm_500": error(500, "500"),
    "messages_litellm_500_stream": error(500, "500"),
    # Free, but the answer does not say so: not known is not 0.
    "messages_litellm_count_tokens": Expect("ok", 200),
    # litellm makes a whole answer of what its upstream had cut.
    "messages_litellm_disconnect_stream": ok(10, 4, cached=0, write=0),
    "messages_litellm_stream": ok(11, 9, cached=0, write=0),
    "messages_missing_max_tokens": error(502, "502"),
    "messages_x_api_key": error(401, "http_401"),
    "model_id_alias": ok(11, 9),
    "model_id_date_suffix": ok(11, 9),
    "model_id_uppercase": ok(11, 9),
    "model_id_upstream_prefix": ok(11, 9),
    "model_id_with_vendor_prefix": ok(11, 9),
    "model_id_without_vendor_prefix": ok(11, 9),
    "negative_max_tokens": ok(11, 9),
    "odd_cached": ok(40, 10, cached=60),
    "odd_cached_stream": ok(40, 10, cached=60),
    "odd_error_event": Expect("error", 502, "billed", code="upstream_error"),
    "odd_error_event_nodone_stream": Expect(
        "interrupted", 200, "billed", (0, None, None, 0, None), "stream_interrupted"
    ),
    "odd_error_event_stream": Expect(
        "interrupted", 200, "billed", (0, None, None, 0, None), "stream_interrupted"
    ),
    "odd_no_done_stream": ok(100, 10),
    "odd_no_usage": ok(None, None),
    "odd_no_usage_stream": ok(0, 0),
    "odd_ok": ok(100, 10),
    "odd_usage_in_last_content_stream": ok(100, 10),
    "ok_poor_key_with_max_tokens": ok(11, 9),
    "responses_429": error(429, "UPSTREAM_RATE_LIMIT"),
    "responses_500": error(500, "500"),
    # No text before the cut: nothing was committed, and here is nobody else to ask.
    "responses_disconnect_stream": error(502, "upstream_error"),
    "responses_list_input": ok(11, 9, cached=0, write=0),
    "responses_ok": ok(11, 9, cached=0, write=0),
    # The node billed nothing, with standard usage.
    "responses_stream": ok(11, 9),
    "responses_unknown_model": refused(404, "model_not_found"),
    "stream_client_disconnects": CUT,
    "stream_disconnected_by_upstream": CUT,
    "stream_slow": ok(20, 14),
    "stream_truncated_by_upstream": error(502, "502"),
    "upstream_400": error(400, "invalid_value"),
    "upstream_400_stream": error(400, "invalid_value"),
    "upstream_401": error(401, "invalid_api_key"),
    "upstream_401_stream": error(401, "invalid_api_key"),
    "upstream_429": error(429, "UPSTREAM_RATE_LIMIT"),
    "upstream_429_full": error(429, "UPSTREAM_RATE_LIMIT"),
    "upstream_429_stream": error(429, "UPSTREAM_RATE_LIMIT"),
    "upstream_500": error(500, "500"),
    "upstream_500_stream": error(500, "500"),
    "upstream_503": error(503, "503"),
    "upstream_503_stream": error(503, "503"),
    "upstream_dead": error(502, "502"),
    "upstream_dead_stream": error(502, "502"),
    "upstream_drop": error(502, "502"),
    "upstream_malformed": error(500, "500"),
    "upstream_malformed_stream": error(500, "500"),
    "xcashu_and_bearer": ok(11, 9, msats=47),
    "xcashu_empty": error(401, "http_401"),
    "xcashu_garbage": error(401, "http_401"),
    "xcashu_insufficient": error(402, "minimum_balance_required"),
    "xcashu_insufficient_token_still_good": ok(11, 9, msats=47),
    "xcashu_ok": ok(11, 9, msats=47),
    "xcashu_replay_spent_token": error(400, "cashu_token_already_spent"),
    "xcashu_small_token_small_max_tokens": ok(11, 9, msats=47),
    "xcashu_stream": ok(11, 9, msats=47),
    "xcashu_unknown_model": refused(404, "model_not_found"),
}

NOT_BY_LIST = {
    "cost_free_model": "a free model costs 1 msat",
    "cost_free_model_stream": "the same",
    "cost_overrun_beyond_balance": "no more was on the key",
    "cost_usd_reported_by_upstream": "the upstream's own price wins",
    "odd_no_usage": "nobody knows the usage",
    "responses_stream": "billed 0",
}
"""Answers that did not cost what the price list says for their usage, and why."""
ANSWERED = [name for name, expect in EXPECTED.items() if expect.outcome == "ok"]


@cache
def models() -> tuple[Model, ...]:
    return replay.listed_models()


def cost(name: str) -> int | None:
    """What the node charged for it, where its answer says so."""
    expect = EXPECTED[name]
    if expect.source == "unknown" or expect.msats is not None:
        return expect.msats
    return replay.load(name).charged_msats


def test_the_table_names_every_capture() -> None:
    assert list(EXPECTED) == replay.names()


# --- through the core -----------------------------------------------------------------------------


def splits(name: str) -> Iterator[list[bytes]]:
    """The answer as it came, byte by byte, and all at once."""
    capture = replay.load(name)
    yield capture.pieces()
    yield [bytes((byte,)) for byte in capture.answer]
    yield [capture.answer]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_core_makes_the_row(name: str) -> None:
    expect, capture = EXPECTED[name], replay.load(name)
    if expect.outcome == "refused":
        try:
            replay.play(capture, (), models())
        except (BadBodyError, NoModelError) as error:
            assert (error.status, error.code) == (expect.status, expect.code)  # noqa: PT017
            return
        pytest.fail("it was not refused")
    for pieces in splits(name):
        played = replay.play(capture, pieces, models())
        row = final_row(played.exchange)
        assert (row.outcome, row.status, row.error_code) == (
            expect.outcome,
            expect.status,
            expect.code,
        )
        assert (row.cost_msats, row.cost_source) == (cost(name), expect.source)
        assert (
            row.input_tokens,
            row.cached_tokens,
            row.cache_write_tokens,
            row.output_tokens,
            row.reasoning_tokens,
        ) == expect.tokens
        (attempt,) = played.exchange.attempts
        made = attempt_row(attempt)
        assert (made.cost_msats, made.cost_source) == (row.cost_msats, row.cost_source)
        if row.error_code != "upstream_error":  # a 200 that is no answer has no error to tell
            assert made.error_code == row.error_code


@pytest.mark.parametrize("name", ANSWERED)
def test_the_price_list_explains_what_was_charged(name: str) -> None:
    capture = replay.load(name)
    row = final_row(replay.play(capture, capture.pieces(), models()).exchange)
    if name in NOT_BY_LIST or row.cost_source == "unknown":
        assert row.computed_msats != row.cost_msats or row.computed_msats is None
    else:
        assert row.computed_msats == row.cost_msats
    assert row.upstream_priced == (name == "cost_usd_reported_by_upstream")


@pytest.mark.parametrize("name", [n for n in EXPECTED if replay.load(n).chunks])
def test_a_stream_goes_down_byte_for_byte(name: str) -> None:
    capture = replay.load(name)
    if EXPECTED[name].outcome not in ("ok", "interrupted"):
        return
    down = replay.play(capture, capture.pieces(), models()).down
    assert down == b"".join(wanted_events(capture))


def wanted_events(capture: replay.Capture) -> Iterator[bytes]:
    """The captured events, but the usage that nobody asked for; then what we say of a cut."""
    asked = json.loads(capture.body).get("stream_options", {}).get("include_usage", False)
    for event in capture.answer.strip().split(b"\n\n"):
        if b'"choices": []' in event and not asked:
            continue
        yield event + b"\n\n"
        if b'"error"' in event:
            return
    if not EXPECTED[capture.name].code and b"[DONE]" not in capture.answer:
        yield capture.dialect.end_event
    if EXPECTED[capture.name].code:
        message = {
            "stream_client_disconnects": "the connection broke: the connection was reset",
            "stream_disconnected_by_upstream": "the stream was cut: its end is missing",
        }[capture.name]
        parts = {"message": message, "type": "upstream_error", "code": "stream_interrupted"}
        yield b"data: %b\n\n" % json.dumps({"error": parts}, separators=(",", ":")).encode()


# --- over sockets ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node() -> Iterator[replay.Upstream]:
    listing = replay.load("models_no_v1").answer
    with replay.upstream(replay.as_captured, listing) as served:
        yield served


@pytest.fixture(scope="module")
def arbstr(node: replay.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    odd = "".join(ODD.format(id=name) for name in replay.ODD_MODELS)
    folder = tmp_path_factory.mktemp("captures")
    with running(folder, CONFIG.format(url=node.url) + odd) as started:
        yield started


def send(arbstr: Running, capture: replay.Capture) -> tuple[http.client.HTTPResponse, bytes]:
    """Send the captured request, with a header that tells the upstream which it is."""
    host = arbstr.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest("POST", capture.path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("host", host)
    connection.putheader("x-capture", capture.name)
    for name, value in capture.fields:
        # A web page's `origin` is the guard's business, not an answer's.
        if name.lower() not in (b"host", b"origin", b"connection"):
            connection.putheader(name.decode(), value.decode("latin-1"))
    connection.endheaders(capture.body)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize("name", EXPECTED)
def test_a_captured_exchange_has_its_row(name: str, arbstr: Running) -> None:
    expect, capture = EXPECTED[name], replay.load(name)
    response, body = send(arbstr, capture)

    assert response.status == expect.status
    row = arbstr.request(response.getheader("x-arbstr-request-id"))
    assert (row["outcome"], row["status"], row["error_code"]) == (
        expect.outcome,
        expect.status,
        expect.code,
    )
    assert (row["cost_msats"], row["cost_source"]) == (cost(name), expect.source)
    assert (
        row["input_tokens"],
        row["cached_tokens"],
        row["cache_write_tokens"],
        row["output_tokens"],
        row["reasoning_tokens"],
    ) == expect.tokens
    if expect.outcome == "refused":
        assert arbstr.attempts(row["id"]) == []
    else:
        (attempt,) = arbstr.attempts(row["id"])
        assert (attempt["cost_msats"], attempt["outcome"]) == (cost(name), expect.outcome)
    paid_once = any(name.lower() == b"x-cashu" for name, _ in capture.fields)
    if not capture.chunks and (expect.outcome == "ok" or (paid_once and row["attempts"])):
        assert body == capture.answer
    elif expect.outcome in ("error", "refused"):
        assert json.loads(body)["error"]["message"]

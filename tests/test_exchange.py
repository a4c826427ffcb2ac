"""One request from its first attempt to its last byte: event sent, commands made."""

from __future__ import annotations

import json

import pytest

from arbstr.core.exchange import COST_WAIT_S, Timing
from arbstr.core.tryout import Limits
from tests.talk import (
    APIS,
    CHAT,
    HTML,
    JSON,
    MESSAGES,
    RESPONSES,
    Api,
    Talk,
    candidate,
    event,
)

each_api = pytest.mark.parametrize("api", APIS, ids=lambda api: api.dialect.name)
COMMIT = ["head 1", "data"]


def last_error(talk: Talk) -> dict[str, object]:
    """The error in the last event that went down."""
    data = talk.went_down.strip().split(b"\n\n")[-1].partition(b"data: ")[2]
    found: dict[str, object] = json.loads(data)["error"]
    return found


# --- good answers ---------------------------------------------------------------------------------


@each_api
def test_a_stream_is_held_back_until_its_first_token_and_its_end_until_the_row(api: Api) -> None:
    talk = Talk("a", "b", api=api, stream_options={"include_usage": True})
    assert talk.start() == ["try 1: a"]
    assert talk.head(1) == []
    assert talk.data(1, api.opening, 0.1) == []
    assert talk.data(1, api.text, 0.25) == COMMIT
    assert talk.data(1, api.usage, 0.5) == (["data"] if api.usage else [])
    assert talk.data(1, api.end, 0.5) == ([] if api.bill else ["settle"])
    if api.bill:
        assert talk.data(1, api.bill, 0.5) == ["settle"]
    assert talk.end(1, 0.5) == []
    assert talk.went_down == api.opening + api.text + api.usage
    assert talk.settled() == ["finish"]

    assert talk.went_down == api.stream + api.bill
    row = talk.row
    assert (row.outcome, row.status, row.model, row.attempts) == ("ok", 200, "a", 1)
    assert (row.input_tokens, row.output_tokens) == (11, 9)
    assert (row.cost_msats, row.cost_source, row.computed_msats) == (47, "billed", 47)
    assert (row.ttft_ms, row.latency_ms, row.error_code) == (250, 500, None)


@each_api
def test_a_plain_answer_goes_down_whole(api: Api) -> None:
    talk = Talk("a", api=api, stream=False)
    talk.start()
    assert talk.head(1, 200, fields=JSON) == []
    assert talk.data(1, api.plain[:9]) == []
    assert talk.data(1, api.plain[9:]) == []
    assert talk.end(1, 0.5) == ["settle"]
    assert talk.settled() == ["answer 200 of 1"]
    assert talk.went_down == api.plain
    assert (talk.row.outcome, talk.row.cost_msats) == ("ok", 47)


def test_the_usage_event_that_nobody_asked_for_stays_here() -> None:
    talk = Talk("a")
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.stream)
    talk.settled()
    assert b"usage" not in talk.went_down
    assert talk.went_down.endswith(CHAT.end)
    assert talk.row.output_tokens == 9


@each_api
def test_what_comes_after_the_end_marker_is_dropped(api: Api) -> None:
    talk = Talk("a", api=api)
    talk.start()
    talk.head(1)
    talk.data(1, api.stream + api.bill + api.text + api.error + b"rubbish")
    talk.end(1)
    talk.settled()
    assert talk.went_down.endswith(api.end + api.bill)
    assert talk.row.outcome == "ok"


def test_a_finished_chat_with_usage_is_whole_without_its_end_marker() -> None:
    talk = Talk("a")
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.text + CHAT.usage)
    assert talk.end(1) == ["settle"]
    talk.settled()
    assert talk.went_down.endswith(b"data: [DONE]\n\n")
    assert talk.row.outcome == "ok"


def test_an_end_marker_without_its_blank_line_is_one() -> None:
    talk = Talk("a")
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.stream.rstrip(b"\n"))
    assert talk.end(1) == ["settle"]
    talk.settled()
    assert talk.went_down.endswith(b"data: [DONE]\n\n")
    assert talk.row.outcome == "ok"


def test_a_chat_for_two_answers_is_whole_when_both_have_ended() -> None:
    def ended(index: int) -> bytes:
        return event({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})

    usage = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    for parts, outcome in ((ended(0) + usage, "interrupted"), (ended(0) + ended(1) + usage, "ok")):
        talk = Talk("a", n=2)
        talk.start()
        talk.head(1)
        talk.data(1, CHAT.text + parts)
        talk.end(1)
        assert talk.row.outcome == outcome


# --- the bill after the end -----------------------------------------------------------------------


def billed_late() -> Talk:
    """A message that is whole, but for the node's word on its cost."""
    talk = Talk("a", api=MESSAGES)
    talk.start()
    talk.head(1)
    assert talk.data(1, MESSAGES.stream, 1.0) == COMMIT
    return talk


def test_a_message_waits_a_while_for_its_bill() -> None:
    talk = billed_late()
    assert talk.exchange.deadline_s() == 1.0 + COST_WAIT_S
    assert talk.tick(0.9 + COST_WAIT_S) == []
    assert talk.tick(1.0 + COST_WAIT_S) == ["settle"]
    assert talk.settled() == ["finish"]
    assert (talk.row.outcome, talk.row.cost_msats, talk.row.cost_source) == ("ok", 47, "computed")


def test_a_bill_that_comes_later_still_reaches_the_ledger() -> None:
    talk = billed_late()
    talk.tick(5.0)
    talk.settled()
    assert talk.data(1, MESSAGES.bill, 6.0) == []
    assert talk.end(1, 6.0) == ["late 1"]
    assert talk.cost(1) == (47, "billed")
    assert talk.went_down == MESSAGES.stream


def test_rubbish_in_place_of_the_bill_is_not_waited_for() -> None:
    talk = Talk("a", api=MESSAGES, limits=Limits(event_bytes=500))
    talk.start()
    talk.head(1)
    talk.data(1, MESSAGES.stream)
    assert talk.data(1, b"x" * 600) == ["settle"]
    assert talk.row.outcome == "ok"


@pytest.mark.parametrize("how", ["end", "reset", "shut_down"])
def test_a_message_is_whole_without_its_bill(how: str) -> None:
    talk = billed_late()
    told = talk.shut_down(1.5) if how == "shut_down" else getattr(talk, how)(1, 1.5)
    assert told == ["settle"]
    talk.settled()
    assert talk.went_down.endswith(MESSAGES.end)
    assert talk.row.outcome == "ok"


def test_a_whole_message_is_not_broken_by_the_total_clock() -> None:
    talk = Talk("a", api=MESSAGES, timing=Timing(total_s=2.0))
    talk.start()
    talk.head(1)
    talk.data(1, MESSAGES.stream, 1.5)
    assert talk.tick(2.1) == ["settle"]
    assert talk.row.outcome == "ok"


# --- after the commit -----------------------------------------------------------------------------


@each_api
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_cut_after_the_first_token_is_told_and_no_second_model_is_asked(
    api: Api, how: str
) -> None:
    talk = Talk("a", "b", api=api)
    talk.start()
    talk.head(1)
    assert talk.data(1, api.opening + api.text) == COMMIT
    assert getattr(talk, how)(1, 1.0) == ["settle"]
    assert talk.settled() == ["finish"]
    error = last_error(talk)
    assert error["code"] == "stream_interrupted"
    assert talk.went_down.count(b"[DONE]") == 0
    assert (talk.row.outcome, talk.row.status) == ("interrupted", 200)
    assert (talk.row.error_code, talk.row.cost_source) == ("stream_interrupted", "unknown")


def test_one_of_finish_reason_and_usage_is_not_enough() -> None:
    finish, usage = CHAT.usage[: CHAT.usage.index(b"data", 9)], CHAT.usage
    usage = usage[usage.index(b"data", 9) :]
    for part in (finish, usage):
        talk = Talk("a")
        talk.start()
        talk.head(1)
        talk.data(1, CHAT.text + part)
        talk.end(1)
        assert talk.row.outcome == "interrupted"
        assert talk.cost(1)[0] == (47 if part == usage else None)


@each_api
def test_silence_after_the_first_token_ends_it(api: Api) -> None:
    talk = Talk("a", "b", api=api, timing=Timing(idle_s=10.0))
    talk.start()
    talk.head(1)
    talk.data(1, api.text, 1.0)
    assert talk.data(1, b": still here\n\n", 10.0) == ["data"]
    assert talk.tick(19.0) == []
    assert talk.tick(20.0) == ["settle"]
    talk.settled()
    assert last_error(talk)["message"] == "no byte for 10 s"
    assert talk.row.outcome == "interrupted"
    assert talk.attempt(1).error_code == "idle_timeout"


@each_api
def test_what_an_interrupted_stream_cost_comes_late(api: Api) -> None:
    talk = Talk("a", api=api, timing=Timing(idle_s=10.0))
    talk.start()
    talk.head(1)
    talk.data(1, api.text)
    talk.tick(10.0)
    talk.settled()
    assert talk.cost(1) == (None, "unknown")
    talk.data(1, api.usage + api.end + api.bill, 30.0)
    assert talk.end(1, 30.0) == ["late 1"]
    assert talk.cost(1) == (47, "billed")
    assert api.end not in talk.went_down


@each_api
def test_an_interrupted_stream_that_goes_on_is_still_an_interrupted_one(api: Api) -> None:
    talk = Talk("a", api=api, timing=Timing(idle_s=10.0))
    talk.start()
    talk.head(1)
    talk.data(1, api.text)
    talk.tick(10.0)
    talk.data(1, api.text + api.usage + api.end + api.bill, 10.1)  # the row is not yet written
    talk.end(1, 10.1)
    assert talk.settled() == ["finish"]
    assert talk.went_down.count(api.text) == 1
    assert api.end not in talk.went_down
    assert last_error(talk)["code"] == "stream_interrupted"


def test_an_interrupted_stream_that_goes_on_without_a_bill_is_priced_by_its_usage() -> None:
    talk = Talk("a", timing=Timing(idle_s=10.0))
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.text)
    talk.tick(10.0)
    talk.data(1, CHAT.usage.replace(b"total_msats", b"no_msats") + CHAT.end, 20.0)
    talk.end(1, 20.0)
    assert talk.cost(1) == (47, "computed")


def test_a_slow_client_is_no_silent_upstream() -> None:
    talk = Talk("a", timing=Timing(idle_s=10.0))
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.text)
    assert talk.tick(15.0, backlog=True) == []
    assert talk.tick(24.0) == []
    assert talk.tick(25.0) == ["settle"]


def test_the_total_clock_runs_whatever_comes() -> None:
    talk = Talk("a", timing=Timing(idle_s=10.0, total_s=20.0))
    talk.start()
    talk.head(1)
    for at in range(0, 20, 5):
        assert "settle" not in talk.data(1, CHAT.text, float(at))
    assert talk.tick(20.0) == ["settle"]
    assert talk.row.outcome == "interrupted"
    assert talk.attempt(1).error_code == "total_timeout"


@each_api
def test_an_error_event_of_the_upstreams_goes_down_and_nothing_after_it(api: Api) -> None:
    talk = Talk("a", "b", api=api)
    talk.start()
    talk.head(1)
    talk.data(1, api.text)
    assert talk.data(1, api.error + api.text, 1.0) == []
    assert talk.tick(1.0 + COST_WAIT_S) == ["settle"]
    talk.settled()
    assert talk.went_down == api.text + api.error
    assert (talk.row.outcome, talk.row.error_message) == ("interrupted", "out of order")


@pytest.mark.parametrize(
    ("api", "quiet"),
    [
        (MESSAGES, event({"type": "error", "error": {"message": "out of order"}})),
        (MESSAGES, event({"error": {"message": "out of order"}})),
        (RESPONSES, event({"type": "error", "message": "out of order"}, "error")),
    ],
)
def test_an_error_event_that_the_sdks_pass_over_is_said_again(api: Api, quiet: bytes) -> None:
    talk = Talk("a", api=api)
    talk.start()
    talk.head(1)
    talk.data(1, api.text + quiet)
    talk.end(1)
    talk.settled()
    assert quiet not in talk.went_down
    assert b"\n\nevent: error\n" in talk.went_down
    assert last_error(talk)["message"] == "out of order"


def test_the_bill_of_a_stream_that_failed_is_still_read() -> None:
    talk = Talk("a")
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.text + CHAT.error)
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "cost": {"total_msats": 0}}
    assert talk.data(1, event({"choices": [], "usage": zero})) == ["settle"]
    assert (talk.row.outcome, talk.row.cost_msats, talk.row.cost_source) == (
        "interrupted",
        0,
        "billed",
    )


@each_api
@pytest.mark.parametrize("bad", [event("{broken"), event("[]"), event("x" * 100)])
def test_an_event_that_is_none_ends_it(api: Api, bad: bytes) -> None:
    talk = Talk("a", api=api, limits=Limits(event_bytes=600))
    talk.start()
    talk.head(1)
    talk.data(1, api.text)
    talk.data(1, bad if b"x" not in bad else bad * 7 and b"data: " + b"x" * 700)
    talk.settled()
    assert last_error(talk)["code"] == "stream_interrupted"
    assert b"broken" not in talk.went_down
    assert talk.row.outcome == "interrupted"


def test_an_answer_over_the_limit_ends_it() -> None:
    talk = Talk("a", limits=Limits(answer_bytes=1000))
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.text)
    assert talk.data(1, CHAT.text * 20) == ["settle"]
    assert talk.row.outcome == "interrupted"


@each_api
@pytest.mark.parametrize("how", ["end", "reset"])
def test_wherever_it_is_cut_half_an_answer_never_looks_whole(api: Api, how: str) -> None:
    whole = api.stream + api.bill
    for cut in range(len(whole)):
        talk = Talk("a", api=api, stream_options={"include_usage": True})
        talk.start()
        talk.head(1)
        talk.data(1, whole[:cut])
        getattr(talk, how)(1)
        talk.settled()
        outcome, down = talk.row.outcome, talk.went_down
        if outcome == "ok":
            assert api.text + api.usage + api.end in down
            assert b'"error"' not in down
        elif outcome == "interrupted":
            assert last_error(talk)["code"] == "stream_interrupted"
            assert api.end not in down
            assert down.startswith(api.opening + api.text[:1])
        else:
            assert outcome == "error"
            assert json.loads(down)["error"]["attempts"]


# --- what passes through --------------------------------------------------------------------------


def test_what_passes_through_goes_down_as_it_comes() -> None:
    talk = Talk("a", "b", passes_through=True)
    talk.start()
    assert talk.exchange.body_for(candidate("a")) is None
    assert talk.head(1, 404, fields=HTML) == ["head 1"]
    assert talk.data(1, b"<h1>") == ["data"]
    assert talk.data(1, b"Not found") == ["data"]
    assert talk.end(1) == ["settle"]
    assert talk.settled() == ["finish"]
    assert talk.went_down == b"<h1>Not found"
    assert (talk.row.outcome, talk.row.status) == ("error", 404)
    assert (talk.row.cost_msats, talk.row.cost_source) == (None, "unknown")
    assert talk.breakers.failures("p", "a") == 0


def test_what_passes_through_is_billed_where_it_says_so() -> None:
    talk = Talk("a", passes_through=True)
    talk.start()
    talk.head(1, fields=JSON)
    talk.data(1, b'{"cost": {"total_msats": 47}}')
    talk.end(1)
    assert (talk.row.outcome, talk.row.cost_msats, talk.row.cost_source) == ("ok", 47, "billed")


def test_what_passes_through_and_is_cut_breaks_the_connection() -> None:
    talk = Talk("a", passes_through=True)
    talk.start()
    talk.head(1, fields=JSON)
    talk.data(1, b'{"half": ')
    assert talk.reset(1) == ["settle"]
    assert talk.settled() == ["abort"]
    assert talk.row.outcome == "interrupted"


# --- the client leaves ----------------------------------------------------------------------------


@each_api
def test_a_client_that_leaves_in_mid_stream_pays_the_true_cost(api: Api) -> None:
    talk = Talk("a", "b", api=api)
    talk.start()
    talk.head(1)
    talk.data(1, api.text)
    assert talk.leave() == []
    assert talk.data(1, api.usage + api.end + api.bill) == ["settle"]
    assert talk.settled() == []
    assert (talk.row.outcome, talk.row.cost_msats) == ("client_closed", 47)
    assert talk.went_down == api.text


def test_a_client_that_leaves_before_the_first_token_costs_no_second_model() -> None:
    talk = Talk("a", "b")
    talk.start()
    talk.leave()
    assert talk.tick(100.0) == []  # no first-token clock: nothing would come of it
    assert talk.answer(1, 500, b"{}") == ["settle"]
    assert talk.settled() == []
    assert (talk.row.outcome, talk.row.attempts) == ("client_closed", 1)


def test_a_client_that_left_before_the_first_token_still_has_its_answer_billed() -> None:
    talk = Talk("a", "b", stream=False)
    talk.start()
    talk.leave()
    assert talk.answer(1, 200, CHAT.plain) == ["settle"]
    assert (talk.row.outcome, talk.row.cost_msats) == ("client_closed", 47)


def test_nobody_waits_for_ever_for_an_answer_that_nobody_waits_for() -> None:
    talk = Talk("a", "b", timing=Timing(total_s=20.0))
    talk.start()
    talk.leave()
    assert talk.tick(20.0) == ["settle"]
    assert talk.settled() == []
    assert (talk.row.outcome, talk.attempt(1).error_code) == ("client_closed", "total_timeout")


def test_a_client_that_leaves_during_a_pause_is_not_waited_for() -> None:
    talk = Talk("a", "b")
    talk.start()
    talk.head(1, 429, fields=((b"retry-after", b"1"), *JSON))
    assert talk.end(1) == ["pause 1.25"]
    assert talk.leave() == []
    assert talk.resume(1.25) == ["settle"]
    assert talk.row.outcome == "client_closed"


# --- shutdown -------------------------------------------------------------------------------------


def test_a_shutdown_interrupts_a_stream() -> None:
    talk = Talk("a", "b")
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.text)
    assert talk.shut_down(1.0) == ["settle"]
    assert talk.settled() == ["finish"]
    assert last_error(talk)["message"] == "the proxy was shut down"
    assert talk.row.outcome == "interrupted"
    assert talk.shut_down(2.0) == []


def test_a_shutdown_before_the_first_token_is_an_error() -> None:
    talk = Talk("a", "b")
    talk.start()
    assert talk.shut_down(1.0) == ["cancel 1", "settle"]
    assert talk.settled() == ["answer 503"]
    assert (talk.row.outcome, talk.attempt(1).outcome) == ("error", "interrupted")


def test_clocks_stand_still_once_all_is_said() -> None:
    talk = Talk("a")
    assert talk.exchange.deadline_s() is None
    talk.start()
    talk.head(1)
    talk.data(1, CHAT.stream)
    assert talk.exchange.deadline_s() is None
    assert talk.tick(1e9) == []
    assert talk.reset(1) == []

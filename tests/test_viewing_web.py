"""What mitmweb shows of arbstr: the list, replays, commands, what leaves the list."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mitmweb import Flow, Mitmweb, mitmweb

CONFIG = """
[[providers]]
name = "node"
url = "https://node.example/v1"
[policies]
[[policies.rules]]
name = "shaky"
allowed_models = ["mock-fail-500", "gpt-4o-mini"]
[[policies.rules]]
name = "cheap"
allowed_models = ["gpt-4o-mini", "deepseek-chat"]
[[policies.rules]]
name = "capped"
allowed_models = ["gpt-4o"]
max_sats_per_request = 0.001
"""
FALLBACK, CUT, REFUSED, OVERCHARGED, ATTEMPT, FAILED = "🔀", "✂", "⛔", "💸", "❌", "💥"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmweb]:
    with mitmweb(tmp_path_factory.mktemp("web"), CONFIG) as running:
        yield running


def new(web: Mitmweb, model: str, comment: str) -> Flow:
    web.chat(model)
    return web.flow(comment)


def matching(web: Mitmweb, expression: str) -> set[str]:
    """Comments of the flows that a filter finds."""
    dump = web.web(f"/flows/dump?filter={expression}")
    return {flow["comment"] for flow in web.flows() if flow["id"].encode() in dump}


def test_a_fallback_is_told_in_comment_and_marker(web: Mitmweb) -> None:
    flow = new(web, "arbstr/shaky", "arbstr/shaky → gpt-4o-mini")
    assert flow["marked"] == FALLBACK
    assert "msat · 2 tries" in flow["comment"]
    assert flow["response"]["status_code"] == 200


def test_a_failed_attempt_is_a_flow_of_its_own(web: Mitmweb) -> None:
    new(web, "arbstr/shaky", "arbstr/shaky → gpt-4o-mini")
    flow = web.flow("try 1 of arbstr/shaky → mock-fail-500")
    assert (flow["marked"], flow["is_replay"]) == (ATTEMPT, "request")
    assert flow["response"]["status_code"] == 500
    name, text = web.view(flow, "request", "arbstr")
    assert name == "arbstr"
    assert "THIS TRY" in text


def test_an_attempt_that_never_answered_has_an_error(web: Mitmweb) -> None:
    web.post("/v1/chat/completions", {"model": "mock-drop", "messages": []})
    assert web.flow("mock-drop · failed")["marked"] == FAILED
    attempt = web.flow("try 1 of mock-drop → mock-drop")
    assert "response" not in attempt
    assert attempt["error"]["msg"]


def test_a_cut_stream_is_marked(web: Mitmweb) -> None:
    flow = new(web, "mock-cut", "mock-cut")
    assert flow["marked"] == CUT
    assert "interrupted" in flow["comment"]
    assert "this is not the whole answer" in web.view(flow, "response")[1]


def test_a_refusal_is_marked_and_says_why(web: Mitmweb) -> None:
    flow = new(web, "arbstr/capped", "arbstr/capped · refused: cap_reached")
    assert flow["marked"] == REFUSED
    receipt = web.view(flow, "response", "arbstr")[1]
    assert "refused by arbstr, nothing was sent" in receipt
    assert "gpt-4o @ mock" in receipt


def test_what_the_guard_turns_away_is_marked(web: Mitmweb) -> None:
    web.post("/v1/chat/completions", {"model": "gpt-4o"}, Origin="https://evil.example")
    flow = web.flow("refused: origin_not_allowed")
    assert flow["marked"] == REFUSED


def test_an_overcharge_is_marked(web: Mitmweb) -> None:
    flow = new(web, "mock-overcharge", "mock-overcharge")
    assert flow["marked"] == OVERCHARGED
    assert "msat too much" in flow["comment"]
    assert "overcharge" in web.view(flow, "response", "arbstr")[1]


def test_filters_find_by_comment_marker_and_metadata(web: Mitmweb) -> None:
    new(web, "arbstr/shaky", "arbstr/shaky → gpt-4o-mini")
    new(web, "gpt-4o", "gpt-4o · ")
    attempts = matching(web, "~marker%20:x:")
    assert attempts
    assert all(comment.startswith("try ") for comment in attempts)
    assert all("shaky" in comment for comment in matching(web, "~comment%20shaky"))
    assert any(comment.startswith("gpt-4o · ") for comment in matching(web, "~meta%20arbstr"))


def test_a_streamed_answer_is_kept_and_put_together(web: Mitmweb) -> None:
    flow = new(web, "gpt-4o", "gpt-4o · ")
    assert flow["response"]["contentLength"] > 0
    name, text = web.view(flow, "response")
    assert name == "LLM answer"
    assert "I am gpt-4o" in text
    assert "tokens  input" in text
    raw = web.view(flow, "response", "raw")[1]
    assert raw.startswith("data: {")
    assert "data: [DONE]" in raw


def test_a_request_is_shown_as_a_conversation(web: Mitmweb) -> None:
    name, text = web.view(new(web, "gpt-4o", "gpt-4o · "), "request")
    assert name == "LLM request"
    assert "── user" in text
    assert text.endswith("hello")


def test_a_replay_from_the_page_is_routed_anew_and_recorded_as_one(web: Mitmweb) -> None:
    flow = new(web, "arbstr/shaky", "arbstr/shaky → gpt-4o-mini")
    before = web.view(flow, "response", "arbstr")[1].splitlines()[0]
    web.web(f"/flows/{flow['id']}/replay", {})
    again = web.until(lambda flows: any(f["comment"].startswith("↻ arbstr/shaky") for f in flows))
    (again_flow,) = [f for f in again if f["id"] == flow["id"]]
    assert again_flow["comment"].startswith("↻ arbstr/shaky → gpt-4o-mini · ")
    receipt = web.view(again_flow, "response", "arbstr")[1]
    assert "replayed request" in receipt
    assert receipt.splitlines()[0] != before
    rows = json.loads(web.get("/v1/requests?per_page=100")[1])["data"]
    assert any(str(row["client"]).startswith("replay of Python-urllib") for row in rows)


def test_a_failed_attempt_is_replayed_as_the_request_it_belongs_to(web: Mitmweb) -> None:
    new(web, "arbstr/shaky", "arbstr/shaky → gpt-4o-mini")
    attempt = web.flow("try 1 of arbstr/shaky → mock-fail-500")
    web.web(f"/flows/{attempt['id']}/replay", {})
    web.until(lambda flows: any(f["id"] == attempt["id"] and "↻" in f["comment"] for f in flows))
    (again,) = [f for f in web.flows() if f["id"] == attempt["id"]]
    assert again["comment"].startswith("↻ arbstr/shaky → gpt-4o-mini")


def test_the_same_request_goes_to_another_model(web: Mitmweb) -> None:
    flow = new(web, "arbstr/cheap", "arbstr/cheap → ")
    web.command("arbstr.replay", f"@{flow['id']}", "gpt-4o")
    again = web.flow("↻ gpt-4o · ")
    assert again["id"] != flow["id"]
    assert "policy      none" in web.view(again, "response", "arbstr")[1]


def test_the_same_request_goes_under_another_policy(web: Mitmweb) -> None:
    flow = new(web, "gpt-4o", "gpt-4o · ")
    web.command("arbstr.policy", f"@{flow['id']}", "cheap")
    again = web.flow("↻ gpt-4o → ")
    assert "policy      cheap" in web.view(again, "response", "arbstr")[1]
    with pytest.raises(AssertionError, match="no policy 'nosuch'; known: shaky, cheap, capped"):
        web.command("arbstr.policy", f"@{flow['id']}", "nosuch")


def test_focus_is_the_flow_that_the_page_shows(web: Mitmweb) -> None:
    new(web, "gpt-4o", "gpt-4o · ")
    flow = new(web, "arbstr/cheap", "arbstr/cheap → ")
    web.view(flow, "response")
    told = web.command("arbstr.explain", "@focus")
    assert told[0].startswith("policy      cheap")
    assert any("deepseek-chat @ mock" in line for line in told)


def test_costs_are_those_of_the_ledger(web: Mitmweb) -> None:
    new(web, "gpt-4o", "gpt-4o · ")
    told = web.command("arbstr.costs")
    spent = json.loads(web.get("/v1/stats?range=last_24h")[1])["costs"]["total_cost_sats"]
    assert told[-1].split()[-2] == f"{spent:,.3f}"
    assert any(line.startswith("gpt-4o ") for line in told)


def test_prices_and_config_are_fetched_on_command(web: Mitmweb) -> None:
    before = json.loads(web.get("/health")[1])
    web.command("arbstr.sync")
    web.command("arbstr.reload")

    def done(_flows: object) -> bool:
        now = json.loads(web.get("/health")[1])
        loaded = now["config"]["loaded_ms"] > before["config"]["loaded_ms"]
        synced = now["sync"]["mock"]["last_ok_ms"] > before["sync"]["mock"]["last_ok_ms"]
        return bool(loaded and synced)

    web.until(done)


def test_the_list_stays_short_but_keeps_what_people_need(tmp_path: Path) -> None:
    with mitmweb(tmp_path, CONFIG, "arbstr_keep_flows=3") as web:
        for n in range(3):
            web.chat("gpt-4o", f"first {n}")
        first = web.until(lambda flows: sum("msat" in f["comment"] for f in flows) >= 3)
        marked, seen, old = first[-3:]
        web.command("flow.mark", f"@{marked['id']}", ":star:")
        web.view(seen, "request")
        for n in range(5):
            web.chat("gpt-4o", f"second {n}")
        left = web.until(lambda flows: len(flows) <= 3 and old["id"] not in map(_id, flows))
        assert {marked["id"], seen["id"]} <= set(map(_id, left))


def _id(flow: Flow) -> str:
    found: str = flow["id"]
    return found

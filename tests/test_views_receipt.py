"""The receipt: every figure of a story, aligned, no wider than mitmweb's pane."""

import msgspec
import pytest
from mitmproxy import contentviews, http
from mitmproxy.test import tflow

from arbstr.core.record import AttemptRow, RequestRow
from arbstr.proxy import story
from arbstr.proxy.masks import Masks
from arbstr.proxy.story import No, Offer, Story
from arbstr.proxy.views import AnswerView, ReceiptView, RequestView
from arbstr.proxy.views_receipt import WIDTH, decision, receipt

ROW = RequestRow(
    id=7,
    instance="i",
    started_at=1_700_000_000_123,
    endpoint="/v1/chat/completions",
    outcome="ok",
    client="curl/8",
    requested_model="gpt-4o",
    policy="code",
    policy_source="keyword",
    model="deepseek-chat",
    provider="node",
    stream=True,
    status=200,
    attempts=2,
    input_tokens=120,
    cached_tokens=80,
    output_tokens=1500,
    reasoning_tokens=900,
    estimated_msats=500,
    cost_msats=412,
    cost_source="billed",
    computed_msats=400,
    baseline_msats=4_000,
    balance_msats=9_999_588,
    ttft_ms=250,
    latency_ms=12_345,
)
STORY = Story(
    kind="request",
    id="7",
    flow="f",
    endpoint="/v1/chat/completions",
    dialect="chat",
    row=ROW,
    strategy="lowest_cost",
    attempts=(
        AttemptRow(1, "node", "gpt-4o", 1, "error", 500, "http_500", None, None, 7, "computed"),
        AttemptRow(2, "node", "deepseek-chat", 2, "ok", 200, latency_ms=12_000),
    ),
    messages=("the upstream is down " * 8, ""),
    offers=(
        Offer("gpt-4o", "node", 200, 80, 1400, 12, 380, note="warm cache"),
        Offer("deepseek-chat", "node", 200, 0, 1600, 0, None, max_tokens=900),
    ),
    refusals=(No("o1-pro", "node", "expected 90 sats, over the cap of 50 sats a request"),),
    not_allowed=290,
    overcharge_msats=12,
)


def with_row(**changes: object) -> Story:
    return msgspec.structs.replace(STORY, row=msgspec.structs.replace(ROW, **changes))


def lines(text: str) -> list[str]:
    return text.splitlines()


def figures(text: str) -> dict[str, str]:
    """Labels and the number behind each, of the sections of figures."""
    found = {}
    for line in lines(text):
        words = line[:12].strip(), line[12:26].strip()
        if words[1]:
            found[words[0]] = words[1]
    return found


def test_no_line_is_wider_than_the_pane() -> None:
    assert max(map(len, lines(receipt(STORY)))) <= WIDTH


def test_policy_and_its_reason_are_told() -> None:
    text = " ".join(receipt(STORY).split())
    assert "policy code a keyword in the last message; lowest_cost" in text


def test_candidates_are_a_table() -> None:
    text = receipt(STORY)
    table = lines(text)
    start = next(n for n, line in enumerate(table) if line.startswith("CANDIDATES"))
    header, first, note, second, lowered = table[start + 1 : start + 6]
    assert header.split() == ["tokens", "in", "cached", "out", "samples", "sats"]
    assert first.split() == ["1", "gpt-4o", "@", "node", "200", "80", "1,400", "12", "0.380"]
    assert note.strip() == "warm cache"
    assert second.split()[-1] == "unpriced"
    assert lowered.strip() == "max_tokens lowered to 900, to stay under the cap"
    assert len(header) == len(first) == len(second) == WIDTH


def test_refusals_say_why() -> None:
    text = receipt(STORY)
    assert "o1-pro @ node" in text
    assert "over the cap of 50" in text
    assert "290 models that the policy does not allow" in text


def test_attempts_say_what_went_wrong() -> None:
    text = receipt(STORY)
    assert "  1 gpt-4o @ node" in text
    assert "http_500: the upstream is down" in text
    assert "      cost 0.007 sats all the same, computed" in lines(text)


def test_money_is_in_sats_to_the_msat() -> None:
    told = figures(receipt(STORY))
    assert told["cost"] == "0.412"
    assert told["price list"] == "0.400"
    assert told["overcharge"] == "0.012"
    assert told["instead of"] == "4.000"
    assert told["saved"] == "3.588"
    assert told["balance"] == "9,999.588"
    assert told["whole"] == "12,345"


def test_tokens_are_told_by_kind() -> None:
    text = receipt(STORY)
    assert "80  from the cache" in text
    assert "900 of them reasoning" in text


def test_what_nobody_knows_is_no_zero() -> None:
    text = receipt(
        with_row(cost_msats=None, cost_source="unknown", input_tokens=None, output_tokens=None)
    )
    assert figures(text)["cost"] == "unknown"
    assert "unknown" in text.partition("TOKENS\n")[2].splitlines()[0]
    assert "saved" not in text


def test_a_dearer_model_is_no_saving() -> None:
    assert figures(receipt(with_row(baseline_msats=100)))["dearer by"] == "0.312"


def test_a_failed_attempt_has_a_receipt_of_its_own() -> None:
    attempt = msgspec.structs.replace(
        STORY, kind="attempt", attempt=1, attempts=STORY.attempts[:1], messages=("down",)
    )
    text = receipt(attempt)
    assert lines(text)[0].endswith("try 1 of request 7")
    assert "THIS TRY" in text
    assert "SATS" not in text


def test_a_decision_alone_can_be_told() -> None:
    assert decision(STORY).startswith("policy      code")
    assert "ATTEMPTS" not in decision(STORY)


def test_very_long_names_push_figures_to_the_next_line() -> None:
    long = Offer("x" * 70, "node", 1, 0, 2, 3, 4)
    text = receipt(msgspec.structs.replace(STORY, offers=(long,)))
    below = lines(text)[lines(text).index(f"  1 {'x' * 70} @ node") + 1]
    assert below.split() == ["1", "-", "2", "3", "0.004"]


def flow_with(told: Story | None) -> http.HTTPFlow:
    flow = tflow.tflow(resp=True)
    flow.request.path = "/v1/chat/completions"
    if told is not None:
        story.write(flow, told, Masks(()))
    return flow


def test_a_story_survives_saving_and_loading() -> None:
    flow = flow_with(STORY)
    loaded = http.HTTPFlow.from_state(flow.get_state())
    assert story.read(loaded) == STORY


def test_what_a_person_has_written_stays() -> None:
    flow = flow_with(None)
    flow.comment, flow.marked = "mine", ":star:"
    story.write(flow, msgspec.structs.replace(STORY, comment="c", marker=":x:"), Masks(()))
    assert (flow.comment, flow.marked) == ("mine", ":star:")


def test_our_own_words_are_replaced() -> None:
    flow = flow_with(msgspec.structs.replace(STORY, comment="old", marker=":x:"))
    story.write(flow, msgspec.structs.replace(STORY, comment="new", marker=""), Masks(()))
    assert (flow.comment, flow.marked) == ("new", "")


def test_a_story_of_another_version_is_none() -> None:
    flow = flow_with(None)
    flow.metadata["arbstr"] = {"kind": 3}
    assert story.read(flow) is None
    flow.metadata["arbstr"] = "text"
    assert story.read(flow) is None


@pytest.mark.parametrize(
    ("told", "start", "status", "kind", "request_view", "response_view"),
    [
        (STORY, "POST /v1/messages", 200, "application/json", "LLM request", "LLM answer"),
        (None, "POST /v1/responses", 200, "text/event-stream", "LLM request", "LLM answer"),
        (None, "POST /api/v1/chat/completions", 200, "application/json", "LLM request", None),
        (STORY, "POST /v1/chat/completions", 500, "application/json", "LLM request", "JSON"),
        (STORY, "GET /v1/models", 200, "application/json", None, "JSON"),
        (None, "POST /v1/embeddings", 200, "application/json", None, "JSON"),
    ],
)
def test_views_are_chosen_by_themselves(  # noqa: PLR0917 - a row of the table
    told: Story | None,
    start: str,
    status: int,
    kind: str,
    request_view: str | None,
    response_view: str | None,
) -> None:
    registry = type(contentviews.registry)()
    for view in contentviews.registry.values():
        registry.register(view)
    for view in (ReceiptView(), AnswerView(_as_it_is), RequestView(_as_it_is)):
        registry.register(view)
    flow = flow_with(told)
    flow.request.method, flow.request.path = start.split()
    flow.request.headers["content-type"] = "application/json"
    assert flow.response is not None
    flow.response.status_code = status
    flow.response.headers["content-type"] = kind
    for message, wanted in ((flow.request, request_view), (flow.response, response_view)):
        metadata = contentviews.Metadata(
            flow=flow,
            http_message=message,
            content_type=message.headers["content-type"],
        )
        chosen = registry.get_view(b"{}", metadata).name
        assert wanted is None or chosen == wanted
        assert chosen != "arbstr"


@pytest.mark.parametrize("words", ["word " * 400, "x" * 2000, "a\n\nb", "", "\t" + "ä" * 76])
def test_no_line_of_an_answer_is_cut_off(words: str) -> None:
    body = msgspec.json.encode({"choices": [{"message": {"content": words}}]})
    flow = flow_with(None)
    metadata = contentviews.Metadata(flow=flow, content_type="application/json")
    shown = lines(AnswerView(_as_it_is).prettify(body, metadata))
    assert max(map(len, shown)) <= WIDTH
    assert all(shown)
    assert "".join(words.split()) in "".join("".join(shown).split())


def test_the_receipt_is_for_routed_flows_only() -> None:
    flow = flow_with(None)
    with pytest.raises(ValueError, match="has not routed"):
        ReceiptView().prettify(b"", contentviews.Metadata(flow=flow))


def _as_it_is(text: str, _flow: object) -> str:
    return text

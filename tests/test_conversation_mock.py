"""Three conversations of twenty turns, through a running arbstr, billed by the mock node.

Each begins with a model that then has the prompt in its cache. From the second turn on arbstr may
choose between that one and another, and must come out close to the better of the two simple ways:
always staying, and always going to the model with the lower list price.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from arbstr.mock import DEFAULT_KEY, MockModel, MockNode, ThreadedNode
from tests.running import Running, running

TURNS = 20
CLOSE = 1.15
CONFIG = """\
[database]
path = "ledger.db"
[[providers]]
name = "node"
url = "{url}"
api_key = "{key}"
sync = "1h"
[[policies.rules]]
name = "begin"
allowed_models = ["warm"]
[[policies.rules]]
name = "go-on"
allowed_models = ["warm", "other"]
"""


@dataclass(frozen=True)
class Conversation:
    """Two models, of which `warm` answers the first turn.

    `start` and `growth`: bytes of the prompt, at first and more each turn. `better`: which of the
    simple ways is, by at least a quarter; ``even``: neither, by a tenth.
    """

    warm: MockModel
    other: MockModel
    start: int
    growth: int
    better: str

    def body(self, turn: int, model: str) -> dict[str, object]:
        """The request of a turn, from 0 on."""
        messages = [{"role": "system", "content": _prose(self.start)}]
        for n in range(turn):
            messages += [
                {"role": "user", "content": f"{n}: {_prose(self.growth // 2)}"},
                {"role": "assistant", "content": _prose(self.growth // 2)},
            ]
        messages.append({"role": "user", "content": f"{turn}: go on"})
        return {"model": model, "messages": messages}


def _prose(size: int) -> str:
    return ("All work and no play makes Jack a dull boy. " * (size // 44 + 1))[:size]


CONVERSATIONS = {
    # A long prompt that is read again and again: a tenth of the price beats a lower list price.
    "staying wins": Conversation(
        MockModel("warm", "0.25", "2", "0.025", verbosity=5),
        MockModel("other", "0.22", "0.95", verbosity=5),
        start=40_000,
        growth=2_000,
        better="stay",
    ),
    # Sonnet after a nano-sized task: whatever is in its cache, it is dear.
    "switching wins": Conversation(
        MockModel("warm", "3", "15", "0.3", verbosity=5),
        MockModel("other", "0.1", "0.4", "0.025", verbosity=5),
        start=20_000,
        growth=4_000,
        better="switch",
    ),
    # Half price from the cache, against a list price that is lower by almost that.
    "even": Conversation(
        MockModel("warm", "2.5", "10", "1.25", verbosity=5),
        MockModel("other", "1.2", "9", verbosity=5),
        start=30_000,
        growth=1_500,
        better="even",
    ),
}


@dataclass(frozen=True)
class Setting:
    """A node of one's own, and an arbstr that buys from it."""

    conversation: Conversation
    node: MockNode
    arbstr: Running

    def cost(self, model_of: Callable[[int], str], key: str) -> int:
        """What the node bills for the conversation, asked for directly under a key of its own."""
        before = self.node.billed_msats
        for turn in range(TURNS):
            body = self.conversation.body(turn, model_of(turn))
            _post(self.node.url, body, {"authorization": f"Bearer {key}"})
        return self.node.billed_msats - before

    def arbstrs_cost(self) -> int:
        """The same through arbstr."""
        before = self.node.billed_msats
        for turn in range(TURNS):
            policy = "begin" if turn == 0 else "go-on"
            headers = {"x-arbstr-policy": policy, "x-session-id": "s"}
            _post(self.arbstr.base_url, self.conversation.body(turn, "auto"), headers)
        return self.node.billed_msats - before


def _post(base_url: str, body: dict[str, object], headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(
        f"{base_url}/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: bytes = answer.read()
    return found


@pytest.fixture(scope="module", params=CONVERSATIONS)
def setting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setting]:
    conversation = CONVERSATIONS[request.param]
    models = (conversation.warm, conversation.other)
    with ThreadedNode(MockNode(models=models, faults=False)) as served:
        config = CONFIG.format(url=served.node.url, key=DEFAULT_KEY)
        with running(tmp_path_factory.mktemp("arbstr"), config) as arbstr:
            yield Setting(conversation, served.node, arbstr)


def test_twenty_turns_cost_little_more_than_the_better_simple_way(setting: Setting) -> None:
    stay = setting.cost(lambda _: "warm", "sk-stay-00000000")
    switch = setting.cost(lambda turn: "other" if turn else "warm", "sk-switch-00000000")
    ours = setting.arbstrs_cost()

    print(f"stay {stay}, switch {switch}, ours {ours} msats: {ours / min(stay, switch):.3f}")
    assert ours <= CLOSE * min(stay, switch)
    match setting.conversation.better:
        case "stay":
            assert stay < 0.75 * switch
        case "switch":
            assert switch < 0.75 * stay
        case _:
            assert stay == pytest.approx(switch, rel=0.1)
    rows = setting.arbstr.requests()
    assert len(rows) == TURNS
    assert sum(row["cost_msats"] for row in rows) == ours
    if setting.conversation.better == "stay":
        assert {row["model"] for row in rows} == {"warm"}
        assert all(row["cached_tokens"] for row in rows[1:])


def test_the_warm_cache_is_told(setting: Setting) -> None:
    conversation = setting.conversation
    begin = {"x-arbstr-policy": "begin", "x-session-id": "another"}
    _post(setting.arbstr.base_url, conversation.body(0, "auto"), begin)
    asked = {"x-arbstr-policy": "go-on", "x-session-id": "another", "x-arbstr-explain": "1"}
    told = json.loads(_post(setting.arbstr.base_url, conversation.body(1, "auto"), asked))

    warm = next(c for c in told["candidates"] if c["model"] == "warm")
    other = next(c for c in told["candidates"] if c["model"] == "other")
    assert (warm["note"], other["note"]) == ("warm cache", None)
    assert warm["cached_tokens"] > 0.9 * warm["input_tokens"] - conversation.growth
    assert other["cached_tokens"] == 0
    assert warm["turn_sats"] is not None
    assert told["request"]["conversation"] is True

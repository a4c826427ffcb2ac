"""No key, token or cookie shows: not on the page, not in saved flows, not in the log.

The upstream gets the real ones, and so does the client.
"""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from arbstr.mock import MockNode
from arbstr.mock.thread import ThreadedNode
from tests.mitmweb import Mitmweb, mitmweb

KEY = "sk-client0key0that0nobody0may0see"
OTHER_KEY = "sk-other0key0that0nobody0may0see"
COOKIE = "session=cookie0that0nobody0may0see"
TOKEN = "cashuAtoken0that0nobody0may0see0" + "x" * 40
SECRETS = tuple(s.encode() for s in (KEY, OTHER_KEY, COOKIE.partition("=")[2], TOKEN))
VIEWS = ("auto", "raw", "arbstr", "json", "LLM answer", "LLM request", "hex dump")
CONFIG = """
[[providers]]
name = "node"
url = "{url}"
[policies]
[[policies.rules]]
name = "shaky"
allowed_models = ["mock-fail-500", "gpt-4o-mini"]
"""


class Scene(NamedTuple):
    web: Mitmweb
    node: MockNode
    saved: Path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("secrets")
    saved = folder / "saved.mitm"
    node = MockNode()
    with (
        ThreadedNode(node),
        mitmweb(
            folder, CONFIG.format(url=node.url), f"save_stream_file={saved}", mock=False
        ) as web,
    ):
        yield Scene(web, node, saved)


def everything(web: Mitmweb) -> bytes:
    """All that mitmweb has to show or to save."""
    shown = [web.web("/flows"), web.web("/flows/dump"), web.web("/events"), web.log.encode()]
    for flow in web.flows():
        for message in ("request", "response"):
            if message in flow:
                shown.append(web.web(f"/flows/{flow['id']}/{message}/content.data"))
                shown += [web.view(flow, message, view)[1].encode() for view in VIEWS]
    return b"\n".join(shown)


def assert_hidden(web: Mitmweb) -> None:
    shown = everything(web)
    assert [s for s in SECRETS if s in shown] == []


def test_a_key_goes_up_and_does_not_show(scene: Scene) -> None:
    bearer = f"Bearer {KEY}"
    scene.web.chat("arbstr/shaky", f"my key is {KEY}", Authorization=bearer, Cookie=COOKIE)
    scene.web.flow("arbstr/shaky → gpt-4o-mini")
    sent = list(scene.node.requests)[-2:]
    assert [request.headers["authorization"] for request in sent] == [bearer, bearer]
    assert all(KEY.encode() in request.body for request in sent)
    assert_hidden(scene.web)


def test_x_api_key_goes_up_as_it_always_does(scene: Scene) -> None:
    body = {"model": "gpt-4o-mini", "max_tokens": 9, "messages": []}
    scene.web.post("/v1/messages", body, **{"x-api-key": OTHER_KEY})
    assert scene.node.requests[-1].headers["authorization"] == f"Bearer {OTHER_KEY}"
    assert_hidden(scene.web)


def test_a_body_that_quotes_the_key_reaches_the_client_whole(scene: Scene) -> None:
    status, body = scene.web.get("/v1/balance/info", Authorization=f"Bearer {KEY}")
    assert status == 200
    assert json.loads(body)["api_key"] == KEY
    assert_hidden(scene.web)


def test_a_cashu_token_pays_and_its_change_comes_back(scene: Scene) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(
        scene.web.url + "/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "X-Cashu": TOKEN},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        change = answer.headers["x-cashu"]
    assert scene.node.requests[-1].headers["x-cashu"] == TOKEN
    assert change.startswith("cashuB")
    assert change.encode() not in everything(scene.web)
    assert_hidden(scene.web)


def test_a_token_in_the_path_goes_up(scene: Scene) -> None:
    path = f"/v1/wallet/create?initial_balance_token={TOKEN}"
    scene.web.get(path, Authorization=f"Bearer {KEY}")
    assert scene.node.requests[-1].path == path
    assert_hidden(scene.web)


def test_a_token_in_a_body_that_passes_through_goes_up(scene: Scene) -> None:
    scene.web.post("/v1/balance/topup", {"cashu_token": TOKEN}, Authorization=f"Bearer {KEY}")
    assert json.loads(scene.node.requests[-1].body) == {"cashu_token": TOKEN}
    assert_hidden(scene.web)


def test_a_replay_has_the_real_key_again(scene: Scene) -> None:
    scene.web.chat("gpt-4o-mini", f"for {KEY}", Authorization=f"Bearer {KEY}")
    flow = scene.web.flow("gpt-4o-mini · ")
    seen = len(scene.node.requests)
    scene.web.web(f"/flows/{flow['id']}/replay", {})
    scene.web.flow("↻ gpt-4o-mini · ")
    again = list(scene.node.requests)[seen:]
    assert [request.headers["authorization"] for request in again] == [f"Bearer {KEY}"]
    assert KEY.encode() in again[0].body
    assert_hidden(scene.web)


def test_a_copy_of_a_flow_has_it_too(scene: Scene) -> None:
    scene.web.chat("gpt-4o-mini", "copied", Authorization=f"Bearer {KEY}")
    flow = scene.web.until(lambda flows: "copied" in scene.web.view(flows[-1], "request")[1])[-1]
    copy = scene.web.web(f"/flows/{flow['id']}/duplicate", {}).decode()
    seen = len(scene.node.requests)
    scene.web.web(f"/flows/{copy}/replay", {})
    scene.web.until(lambda flows: any(f["id"] == copy and "↻" in f["comment"] for f in flows))
    assert scene.node.requests[seen].headers["authorization"] == f"Bearer {KEY}"


def test_saved_flows_hold_no_secret_and_can_be_opened(tmp_path: Path) -> None:
    node = MockNode()
    saved = tmp_path / "saved.mitm"
    with ThreadedNode(node):
        config = CONFIG.format(url=node.url)
        with mitmweb(tmp_path, config, f"save_stream_file={saved}", mock=False) as web:
            web.chat("arbstr/shaky", f"my key is {KEY}", Authorization=f"Bearer {KEY}")
            before = web.flow("arbstr/shaky → gpt-4o-mini")
            receipt = web.view(before, "request", "arbstr")[1]
        assert KEY.encode() not in saved.read_bytes()
        with mitmweb(tmp_path, config, f"rfile={saved}", mock=False) as web:
            opened = web.flow("arbstr/shaky → gpt-4o-mini")
            assert opened["response"]["status_code"] == 200
            assert web.view(opened, "request", "arbstr")[1] == receipt
            seen = len(node.requests)
            web.web(f"/flows/{opened['id']}/replay", {})
            web.flow("↻ arbstr/shaky")
            sent = list(node.requests)[seen:]
            assert sent
            assert all("authorization" not in request.headers for request in sent)


def test_a_replay_needs_no_token_and_does_not_send_it_up(tmp_path: Path) -> None:
    token = "token0that0nobody0may0see"
    node = MockNode()
    with ThreadedNode(node):
        config = CONFIG.format(url=node.url)
        with mitmweb(tmp_path, config, mock=False, server=f'auth_token = "{token}"') as web:
            sent = {"x-arbstr-token": token, "Authorization": f"Bearer {KEY}"}
            web.chat("gpt-4o-mini", **sent)
            flow = web.flow("gpt-4o-mini · ")
            web.web(f"/flows/{flow['id']}/replay", {})
            web.flow("↻ gpt-4o-mini · ")
            seen = [request.headers for request in node.requests if request.model == "gpt-4o-mini"]
            assert [headers["authorization"] for headers in seen] == [f"Bearer {KEY}"] * 2
            assert token not in repr(seen)
            assert token.encode() not in everything(web)


def test_secrets_show_where_the_user_says_so(tmp_path: Path) -> None:
    node = MockNode()
    with ThreadedNode(node):
        config = CONFIG.format(url=node.url)
        with mitmweb(tmp_path, config, "arbstr_reveal=true", mock=False) as web:
            web.chat("gpt-4o-mini", Authorization=f"Bearer {KEY}")
            web.flow("gpt-4o-mini · ")
            assert KEY.encode() in web.web("/flows")

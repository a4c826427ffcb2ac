"""The hooks fail closed: what cannot be judged is answered with an error and goes nowhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.test import tflow

from arbstr.config import load
from arbstr.ledger.writer import Writer
from arbstr.proxy.addon import Arbstr
from arbstr.proxy.engine import Engine
from arbstr.proxy.intake import Intake
from tests.attack import config


def flow_of(method: str = "POST", path: str = "/v1/chat/completions") -> http.HTTPFlow:
    flow = tflow.tflow(live=True)
    flow.request.method, flow.request.path = method, path
    return flow


def engine_of(folder: Path) -> Engine:
    path = folder / "config.toml"
    path.write_text(config("http://127.0.0.1:9/v1"))
    path.chmod(0o600)
    return Engine(load(path, {}), Writer(folder / "ledger.db", instance="test"))


def code(flow: http.HTTPFlow) -> tuple[int, str]:
    assert flow.response is not None
    return flow.response.status_code, flow.response.json()["error"]["code"]


def test_before_it_is_ready_everybody_is_refused() -> None:
    flow = flow_of()
    Arbstr().requestheaders(flow)
    assert code(flow) == (503, "not_ready")


def test_a_client_that_did_not_come_through_our_layer_is_refused(tmp_path: Path) -> None:
    arbstr = Arbstr()
    arbstr.engine = engine_of(tmp_path)
    flow = flow_of()
    arbstr.requestheaders(flow)
    assert code(flow) == (503, "not_ready")


def broken_intake(folder: Path) -> Intake:
    """One without endpoints and prices: a state that no running arbstr is in."""
    return Intake(engine_of(folder), None, None)  # type: ignore[arg-type]


def test_a_guard_that_fails_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arbstr = Arbstr()
    arbstr._intake = broken_intake(tmp_path)
    flow = flow_of()
    arbstr._layers[flow.client_conn.id] = None  # type: ignore[assignment] # only its key is looked at
    flow.client_conn.peername = None  # type: ignore[assignment] # as no client is
    with caplog.at_level(logging.CRITICAL):
        arbstr.requestheaders(flow)
    assert code(flow) == (500, "bug")


def test_routing_that_fails_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arbstr = Arbstr()
    arbstr._intake = broken_intake(tmp_path)
    flow = flow_of()
    with caplog.at_level(logging.CRITICAL):
        assert arbstr.request(flow) is None
    assert code(flow) == (500, "bug")


def test_what_nobody_can_route_is_refused() -> None:
    flow = flow_of()
    assert Arbstr().request(flow) is None
    assert code(flow) == (500, "bug")


def test_what_the_guard_has_refused_is_not_routed(tmp_path: Path) -> None:
    arbstr = Arbstr()
    arbstr.engine = engine_of(tmp_path)
    flow = flow_of()
    flow.response = http.Response.make(403)
    assert arbstr.request(flow) is None
    assert flow.response.status_code == 403
    assert arbstr.engine.open == {}

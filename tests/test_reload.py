"""A changed config takes effect while arbstr runs; a broken one is refused, and says why."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from arbstr.config import Config, ConfigError, load
from arbstr.mock import MockModel, MockNode
from arbstr.mock.thread import ThreadedNode
from arbstr.proxy.reload import Reload, while_running
from tests.running import ROOT, Running, free_port, running

WAIT_S = 20.0
CONFIG = """
[server]
listen = "127.0.0.1:8080"
[[providers]]
name = "{name}"
url = "{url}"
sync = "off"
models = ["a", "b"]
input_rate = 1
output_rate = 1
[policies]
[[policies.rules]]
name = "p"
allowed_models = ["{model}"]
"""


def until(good: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not good():
        assert time.monotonic() < end, "not within its time"
        time.sleep(0.02)


def served(arbstr: Running) -> str | None:
    """The model that policy ``p`` gives, or None where nobody answered."""
    address = urlsplit(arbstr.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=WAIT_S)
    body = {"model": "arbstr/p", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"content-type": "application/json", "authorization": "Bearer sk-of-the-tests"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("x-arbstr-model")
    finally:
        connection.close()


def config_told(arbstr: Running) -> dict[str, Any]:
    found: dict[str, Any] = arbstr.get("/health")["config"]
    return found


@pytest.fixture
def node() -> MockNode:
    models = (MockModel("a", "1", "1"), MockModel("b", "1", "1", token_delay_ms=100, verbosity=0.5))
    return MockNode(models=models, faults=False)


def test_a_changed_file_takes_effect(tmp_path: Path, node: MockNode) -> None:
    with ThreadedNode(node):
        text = CONFIG.format(name="n", url=node.url, model="{model}")
        with running(tmp_path, text.format(model="a")) as arbstr:
            assert served(arbstr) == "a"
            (tmp_path / "config.toml").write_text(text.format(model="b"), encoding="utf-8")
            until(lambda: served(arbstr) == "b")
            assert "config reloaded" in arbstr.log


def test_sighup_reads_it_at_once_and_a_broken_one_is_refused(
    tmp_path: Path, node: MockNode
) -> None:
    with ThreadedNode(node):
        text = CONFIG.format(name="n", url=node.url, model="a")
        with running(tmp_path, text) as arbstr:
            loaded = config_told(arbstr)["loaded_ms"]
            arbstr.process.send_signal(signal.SIGHUP)
            until(lambda: config_told(arbstr)["loaded_ms"] > loaded)
            assert config_told(arbstr)["error"] is None

            broken = text.replace('sync = "off"', 'sync = "of"')
            (tmp_path / "config.toml").write_text(broken, encoding="utf-8")
            until(lambda: config_told(arbstr)["error"] is not None)
            assert "providers" in config_told(arbstr)["error"]
            assert "config not reloaded" in arbstr.log
            assert served(arbstr) == "a"

            (tmp_path / "config.toml").write_text(text, encoding="utf-8")
            until(lambda: config_told(arbstr)["error"] is None)


def test_a_stream_goes_on_though_its_provider_is_gone(tmp_path: Path, node: MockNode) -> None:
    with ThreadedNode(node):
        text = CONFIG.format(name="{name}", url=node.url, model="b")
        with running(tmp_path, text.format(name="old")) as arbstr:
            address = urlsplit(arbstr.url)
            client = http.client.HTTPConnection(address.hostname or "", address.port)
            body = {"model": "b", "stream": True, "messages": [{"role": "user", "content": "x"}]}
            headers = {"content-type": "application/json", "authorization": "Bearer sk-of-tests"}
            client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = client.getresponse()
            first = answer.read1()
            (tmp_path / "config.toml").write_text(text.format(name="new"), encoding="utf-8")
            arbstr.process.send_signal(signal.SIGHUP)
            until(lambda: [p["name"] for p in arbstr.get("/providers")["data"]] == ["new"])
            assert (first + answer.read()).rstrip().endswith(b"data: [DONE]")
            client.close()
            assert [row["outcome"] for row in arbstr.requests()] == ["ok"]


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


def test_what_only_a_start_can_change_stays(tmp_path: Path) -> None:
    text = CONFIG.format(name="n", url="http://n.example/v1", model="a")
    old = config(tmp_path, text)
    new = config(tmp_path, text.replace(":8080", ":9090") + '[database]\npath = "other.db"\n')
    kept = while_running(old, new)
    assert kept.server.listen_port == 8080
    assert kept.database == old.database
    late = [warning for warning in kept.warnings if "takes effect at the next start" in warning]
    assert len(late) == 2


def test_what_a_reload_can_change_is_changed(tmp_path: Path) -> None:
    old = config(tmp_path, CONFIG.format(name="n", url="http://n.example/v1", model="a"))
    new = config(tmp_path, CONFIG.format(name="m", url="http://n.example/v1", model="b"))
    kept = while_running(old, new)
    assert (kept.providers, kept.policies) == (new.providers, new.policies)
    assert kept.warnings == new.warnings


class Told:
    """What a Reload has told."""

    def __init__(self, path: Path) -> None:
        self.used: list[Config] = []
        self.refused: list[str] = []
        self.reload = Reload(
            lambda: path, lambda: load(path, {}), self.used.append, self.refused.append
        )


async def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    text = CONFIG.format(name="n", url="http://n.example/v1", model="a")
    config(tmp_path, text)
    told = Told(tmp_path / "config.toml")
    assert await told.reload.now() == ()
    (tmp_path / "config.toml").unlink()
    errors = await told.reload.now()
    assert errors
    assert told.refused == ["\n".join(errors)]
    assert len(told.used) == 1


async def test_two_reloads_do_not_overlap(tmp_path: Path) -> None:
    config(tmp_path, CONFIG.format(name="n", url="http://n.example/v1", model="a"))
    told = Told(tmp_path / "config.toml")
    results = await asyncio.gather(*(told.reload.now() for _ in range(3)))
    assert results == [(), (), ()]
    assert len(told.used) == 3


async def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[server]\nlisten = 5\nodd = 1\n[policies]\ndefault = "x"\n', encoding="utf-8")
    told = Told(path)
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    assert await told.reload.now() == raised.value.problems
    assert len(raised.value.problems) > 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal to close")
def test_sighup_of_a_closed_terminal_ends_it(tmp_path: Path, node: MockNode) -> None:
    with ThreadedNode(node):
        text = CONFIG.format(name="n", url=node.url, model="a")
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "arbstr", "serve", "--config", str(path)]
        main, terminal = os.openpty()
        log_path = tmp_path / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [*command, "--listen", f"127.0.0.1:{port}"],
                cwd=ROOT,
                stdin=terminal,
                stdout=log,
                stderr=log,
            )
        try:
            arbstr = Running(process, url, log_path)
            until(lambda: is_up(arbstr))
            os.close(terminal)
            os.close(main)
            process.send_signal(signal.SIGHUP)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()
            process.wait()


def is_up(arbstr: Running) -> bool:
    try:
        return bool(arbstr.get("/health"))
    except OSError:
        return False

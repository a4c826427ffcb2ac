"""All dialects alike: where they are served, how they say errors; nobody else asks for one."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from arbstr.core.body import BadBodyError
from arbstr.core.dialects import DIALECTS, PASS_THROUGH, Dialect, by_path
from arbstr.core.dialects.base import Problem, fingerprint
from arbstr.core.sse import Splitter
from tests.dialect_helpers import ask, edited

ROOT = Path(__file__).parents[1]
NAMES = {dialect.name for dialect in (*DIALECTS, PASS_THROUGH)}
VALUES = {"CHAT", "MESSAGES", "COUNT_TOKENS", "RESPONSES", "EMBEDDINGS", "COMPLETIONS"}
each = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "hello"}],
    "input": "hello",
    "prompt": "hello",
}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat"),
        ("/chat/completions", "chat"),
        ("/v1/chat/completions/", "chat"),
        ("/v1/messages", "messages"),
        ("/v1/messages/count_tokens", "count_tokens"),
        ("/v1/responses", "responses"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/completions", "completions"),
        ("/v1/models", None),
        ("/v1/messages/batches", None),
        ("/v1/responses/resp_1", None),
        ("/v2/chat/completions", None),
        ("/V1/chat/completions", None),
        ("/", None),
        ("", None),
    ],
)
def test_a_path_has_its_dialect(path: str, name: str | None) -> None:
    found = by_path(path)
    assert (found and found.name) == name


@each
@pytest.mark.parametrize(
    ("model", "code"),
    [(None, "missing_model"), ("", "invalid_model_type"), (7, "invalid_model_type")],
)
def test_a_model_is_a_text(dialect: Dialect, model: object, code: str) -> None:
    with pytest.raises(BadBodyError) as caught:
        ask(dialect, BODY | {"model": model})
    assert caught.value.code == code
    with pytest.raises(BadBodyError):
        ask(dialect, {})


@each
def test_every_model_name_is_read_and_replaced(dialect: Dialect) -> None:
    for name in ("arbstr/code", "openai/gpt-4o", "ü"):
        body = BODY | {"model": name}
        assert ask(dialect, body).model == name
        assert edited(dialect, body, "served")["model"] == "served"
        assert edited(dialect, body, name) == body


@each
@pytest.mark.parametrize(
    "odd",
    [
        {"messages": "hello", "input": 7, "prompt": {}},
        {"messages": [7, None, "x"], "input": [7, [], {"content": 7}], "prompt": [1, 2]},
        {"messages": [{"role": "user", "content": [7, {"type": "image"}, {"type": "text"}]}]},
        {"messages": [{"role": 7, "content": {"a": 1}}], "input": [{"role": "user"}]},
        {"max_tokens": "many", "n": "two", "tools": "x", "stream": "yes", "stream_options": 7},
        {"max_tokens": -1, "n": 0, "response_format": "json", "text": 7, "system": 7},
        {"max_tokens": True, "tools": [], "functions": [], "instructions": {}},
    ],
)
def test_odd_bodies_are_the_upstreams_to_judge(dialect: Dialect, odd: dict[str, object]) -> None:
    found = ask(dialect, BODY | odd)
    assert (found.model, found.stream, found.max_output, found.choices) == ("m", False, None, 1)
    assert not found.tools or "x" in str(odd)


@each
def test_only_true_is_a_stream(dialect: Dialect) -> None:
    assert ask(dialect, BODY | {"stream": True}).stream is (
        dialect.name not in ("embeddings", "count_tokens")
    )
    for value in (1, "true", None, [True]):
        assert ask(dialect, BODY | {"stream": value}).stream is False


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_an_error_has_a_body_and_an_event_that_say_the_same(dialect: Dialect) -> None:
    problem = Problem(502, "no\nmodel", "upstream_error", "stream_interrupted", {"attempts": [1]})
    body = json.loads(dialect.error_body(problem))
    assert body["error"]["message"] == "no\nmodel"
    assert body["error"]["code"] == "stream_interrupted"
    assert body["error"]["attempts"] == [1]
    (event,) = Splitter(1 << 20).feed(dialect.error_event(problem))
    data = json.loads(event.data or b"")
    assert data["error"]["message"] == "no\nmodel"
    assert data["error"]["code"] == "stream_interrupted"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_our_error_events_are_errors_to_our_own_readers(dialect: Dialect) -> None:
    problem = Problem(502, "no", "upstream_error", "stream_interrupted")
    (event,) = Splitter(1 << 20).feed(dialect.error_event(problem))
    reader = dialect.reader(ask(dialect, BODY))
    reader.read(event)
    if dialect.name != "embeddings":  # which has no streams
        assert reader.error is not None
        assert reader.error.message == "no"


# --- nobody else asks for a dialect ---------------------------------------------------------------


def modules() -> list[Path]:
    """All of arbstr but the dialects, and the mock, which speaks for a node."""
    inside = ("arbstr/core/dialects/", "arbstr/mock/")
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / "arbstr").rglob("*.py"))
    return [ROOT / file for file in sorted(files) if not file.startswith(inside)]


def named(node: ast.expr | ast.pattern | None) -> Iterator[str]:
    """Dialects that a part of a comparison names: by text, by value, or in a list of these."""
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, ast.Constant) and part.value in NAMES:
            yield str(part.value)
        if isinstance(part, ast.Attribute) and part.attr == "dialect":
            yield ast.unparse(part)
        if isinstance(part, ast.Name) and part.id in VALUES:
            yield part.id


def comparisons(source: str) -> list[str]:
    """Comparisons, matches, look-ups by and branches on a dialect or its name."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr | ast.pattern | None] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            if not any(isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot) for op in node.ops):
                parts = parts if any(isinstance(p, ast.Tuple | ast.Set) for p in parts) else []
        elif isinstance(node, ast.match_case):
            parts = [node.pattern]
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("startswith", "endswith")
        ):
            parts = list(node.args)
        nones = any(isinstance(p, ast.Constant) and p.value is None for p in parts)
        if not nones and any(name for part in parts for name in named(part)):
            found.append(ast.unparse(node))
    return found


def test_no_dialect_is_tested_for_outside_of_the_dialects() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): hits
        for path in modules()
        if (hits := comparisons(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        'if dialect.name == "chat": pass',
        'x = 1 if name in ("responses", "x") else 2',
        "if ask.dialect != other: pass",
        "if dialect is CHAT: pass",
        'match name:\n    case "embeddings": pass',
        'how = {"chat": 1, "responses": 2}[name]',
        'if name.startswith("count_tokens"): pass',
    ],
)
def test_such_a_test_would_be_found(source: str) -> None:
    assert comparisons(source)


def test_a_long_beginning_names_its_conversation_by_its_ends() -> None:
    text = "x" * 1_000_000
    names = {
        fingerprint(said)
        for said in (text, f"{text}x", f"y{text[1:]}", f"{text[:-1]}y", [{"text": text}])
    }
    assert len(names) == 4, "the last one is the first, in a part"


def test_a_short_beginning_names_its_conversation_by_every_letter() -> None:
    text = "x" * 100_000
    assert fingerprint(text) != fingerprint(f"{text[:50_000]}y{text[50_001:]}")

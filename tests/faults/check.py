"""Comparing what happened with what had to: the client, the upstream and the ledger must agree."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from tests.faults.answers import text_of
from tests.faults.model import ANY_STATUS, Attempt, Case, Expect, Saw, Seen
from tests.faults.proxy import key_of
from tests.faults.upstream import UNSEEN
from tests.faults.wire import Try

type Row = Mapping[str, object]

_NOT_FOR_UPSTREAMS = ("cookie", "origin", "referer")


def client_problems(saw: Saw, seen: Seen, nonce: str, *, stream: bool) -> list[str]:
    """What the client should not have seen."""
    right = text_of(nonce)
    if seen.kind != saw.kind:
        return [f"client: {saw.kind} expected, got {seen.kind}: {seen.error} {seen.message[:300]}"]
    if saw.kind == "answer":
        wrong = [] if seen.text == right else [f"client: wrong text {seen.text[:80]!r}"]
        done = not stream or re.search(rb"data: ?\[DONE\]", seen.wire) is not None
        return wrong if done else [*wrong, "client: no [DONE] at the end"]
    problems: list[str] = []
    if seen.error != saw.error:
        problems.append(f"client: {saw.error} expected, got {seen.error}")
    if saw.status is not None and seen.status != saw.status:
        problems.append(f"client: status {saw.status} expected, got {seen.status}")
    if saw.code is not None and saw.code not in (seen.code, seen.type):
        problems.append(f"client: code {saw.code} expected, got {seen.code} / {seen.type}")
    if saw.says not in seen.message:
        problems.append(f"client: the message should say {saw.says!r}: {seen.message[:200]!r}")
    if not right.startswith(seen.text):
        problems.append(f"client: wrong text before the error: {seen.text[:80]!r}")
    if b"[DONE]" in seen.wire:
        problems.append("client: [DONE] after an error")
    return problems


def upstream_problems(case: Case, tries: Sequence[Try], content: str) -> list[str]:
    """What should not have been sent up. `content`: of the user's message."""
    problems: list[str] = []
    h2_models = {case.model(n) for n, c in enumerate(case.candidates) if c.provider == "secure"}
    for turn in tries:
        if turn.http2 != (turn.model in h2_models):
            problems.append(f"upstream: {turn.model} over HTTP/{2 if turn.http2 else 1}")
        problems += [f"upstream: {turn.model}: {note}" for note in turn.notes]
        if turn.path != "/v1/chat/completions":
            problems.append(f"upstream: {turn.path} was asked for")
        provider = case.candidates[int(turn.model.rpartition(".")[2])].provider
        # Who pays by X-Cashu does so in our key's place.
        key = "sk-client" if "x-cashu" in case.headers else key_of(provider)
        if turn.headers.get("authorization") != f"Bearer {key}":
            problems.append(f"upstream: authorization {turn.headers.get('authorization')!r}")
        if turn.headers.get("accept-encoding") != "identity":
            problems.append(f"upstream: accept-encoding {turn.headers.get('accept-encoding')!r}")
        unwanted = [n for n in turn.headers if n.startswith(("x-arbstr", "x-forwarded"))]
        unwanted += [n for n in _NOT_FOR_UPSTREAMS if n in turn.headers]
        problems += [f"upstream: header {name} came through" for name in unwanted]
        members = json.loads(turn.body)
        if members.get("messages") != [{"role": "user", "content": content}]:
            problems.append("upstream: the messages are not the client's")
    return problems


def ledger_problems(
    case: Case, expect: Expect, request: Row | None, rows: Sequence[Row], tries: Sequence[Try]
) -> list[str]:
    """What the ledger has wrong. `rows`: of `attempts`, in order."""
    if request is None:
        return ["ledger: no row for the request"]
    problems = [
        f"ledger: {name} {wanted!r} expected, got {request[name]!r}"
        for name, wanted in _request_facts(case, expect).items()
        if request[name] != wanted
    ]
    if expect.outcome in ("error", "refused", "interrupted") and not request["error_code"]:
        problems.append("ledger: the request has no error_code")
    if len(rows) != len(expect.attempts):
        told = ", ".join(
            f"{row['model']} {row['outcome']} {row['status']} {row['error_code']}" for row in rows
        )
        problems.append(
            f"ledger: {len(expect.attempts)} attempts expected, got {len(rows)}: {told}"
        )
    for number, (attempt, row) in enumerate(zip(expect.attempts, rows, strict=False), 1):
        problems += [f"attempt {number}: {what}" for what in _attempt_problems(case, attempt, row)]
    return (
        problems
        + _tries_problems(case, expect, tries)
        + _money_problems(request, rows, expect, tries)
    )


def _request_facts(case: Case, expect: Expect) -> dict[str, object]:
    facts: dict[str, object] = {"outcome": expect.outcome, "attempts": len(expect.attempts)}
    if case.raw is None:
        facts |= {"requested_model": case.model(0), "stream": int(case.stream)}
        facts["policy"] = None if case.substitutes else case.id
    if expect.saw.kind == "error":
        facts["status"] = expect.saw.status
    elif expect.outcome == "ok":
        last = expect.attempts[-1].of
        facts |= {"status": 200, "model": case.model(last), "error_code": None}
        facts["provider"] = case.candidates[last].provider
    return facts


def _attempt_problems(case: Case, attempt: Attempt, row: Row) -> list[str]:
    wanted: dict[str, object] = {
        "model": case.model(attempt.of),
        "provider": case.candidates[attempt.of].provider,
        "outcome": attempt.outcome,
    }
    if attempt.status != ANY_STATUS:
        wanted["status"] = attempt.status
    if attempt.code is not None:
        wanted["error_code"] = attempt.code
    problems = [f"{k} {v!r} expected, got {row[k]!r}" for k, v in wanted.items() if row[k] != v]
    if (attempt.outcome == "ok") == bool(row["error_code"]):
        problems.append(f"error_code is {row['error_code']!r}")
    return problems


def _tries_problems(case: Case, expect: Expect, tries: Sequence[Try]) -> list[str]:
    wanted = [case.model(attempt.of) for attempt in expect.attempts if attempt.seen]
    got = [turn.model for turn in tries]
    return [] if wanted == got else [f"upstream: tries {wanted} expected, got {got}"]


def _money_problems(
    request: Row, rows: Sequence[Row], expect: Expect, tries: Sequence[Try]
) -> list[str]:
    """Every attempt costs what was billed; what nobody billed is NULL, or 0 if that was said."""
    problems: list[str] = []
    left = list(tries)
    for attempt, row in zip(expect.attempts, rows, strict=False):
        turn = left.pop(0) if attempt.seen and left else None
        billed = None if turn is None else turn.billed_msats
        cost, source = row["cost_msats"], row["cost_source"]
        if cost != billed and not (billed == 0 and cost is None):
            problems.append(f"money: attempt {row['n']} cost {cost}, billed {billed}")
        elif cost is not None and turn is not None and source != turn.source:
            problems.append(f"money: attempt {row['n']} is {source}, should be {turn.source}")
    bills = [turn.billed_msats for turn in tries if turn.billed_msats]
    total = sum(bills) if bills else None
    if request["cost_msats"] != total and (request["cost_msats"] or total):
        problems.append(f"money: the request cost {request['cost_msats']}, billed {total}")
    return problems


def header_problems(request: Row | None, seen: Seen) -> list[str]:
    """What the answer's headers have wrong."""
    told = seen.headers.get("x-arbstr-request-id")
    if request is None or not seen.headers:
        return []
    problems: list[str] = []
    if told != str(request["id"]):
        problems.append(f"header: x-arbstr-request-id {told}, the row is {request['id']}")
    if seen.kind == "answer" and seen.headers.get("x-arbstr-model") != request["model"]:
        problems.append(f"header: x-arbstr-model {seen.headers.get('x-arbstr-model')}")
    if "content-encoding" in seen.headers:
        problems.append("header: content-encoding is still there")
    return problems


def told_problems(seen: Seen, expect: Expect) -> list[str]:
    """`error.attempts` lists every attempt where nobody was left."""
    wanted = len(expect.attempts)
    if seen.kind != "error" or wanted < 2 or seen.attempts_told == wanted:
        return []
    return [f"client: error.attempts lists {seen.attempts_told}, there were {wanted}"]


def attempts_brief(case: Case, rows: Sequence[Row]) -> str:
    """The attempts in a few words for the table."""
    words = []
    for row in rows:
        fault = str(row["model"]).partition("@")[0]
        if row["provider"] in UNSEEN:
            fault = str(row["provider"])
        status = "" if row["status"] is None else f" {row['status']}"
        end = "ok" if row["outcome"] == "ok" else f"{row['outcome']}{status}"
        words.append(f"{fault} {end}")
    return ", ".join(words) or ("none" if case.raw is not None else "")

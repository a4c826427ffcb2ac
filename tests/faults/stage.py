"""Upstream, proxies and clients, wired: plays cases and gives results."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Self

from tests.faults import certs, check
from tests.faults.answers import Rates
from tests.faults.client import PATIENCE_S, Client
from tests.faults.model import Case, Expect, Result, Seen
from tests.faults.proxy import GROUPS, Group, Proxy
from tests.faults.upstream import Upstream
from tests.faults.wire import Try

SETTLE_S = 5.0
"""How long a late cost may take to reach the ledger."""
BETWEEN_S = 0.05
"""Between two requests of one case: an idle connection has closed by then."""

type Row = check.Row


class Stage:
    """What cases are played on. `upstream` serves all proxies."""

    def __init__(self, upstream: Upstream, certificates: certs.Certificates, folder: Path) -> None:
        """`folder`: for the proxies' files."""
        self.upstream = upstream
        self.certificates = certificates
        self.folder = folder

    def register(self, case: Case) -> None:
        """Tell the upstream what the models of `case` cost."""
        for number in range(len(case.candidates)):
            rate = Decimal(case.rate(number))
            self.upstream.rates[case.model(number)] = Rates(rate, rate)
            if (most := case.candidates[number].max_cost_sats) is not None:
                self.upstream.listed[case.model(number)] = Decimal(most)

    @asynccontextmanager
    async def proxy(self, group: Group, cases: Sequence[Case]) -> AsyncIterator[Proxy]:
        """A running arbstr for `cases`; stopped, if it still runs, at the end."""
        for case in cases:
            self.register(case)
        folder = self.folder / f"{group.name}-{secrets.token_hex(4)}"
        folder.mkdir()
        proxy = Proxy(group, folder, self.certificates)
        try:
            await proxy.start(self.upstream.urls, cases)
            yield proxy
        finally:
            await proxy.stop()

    def client(self, proxy: Proxy, *, patience_s: float = PATIENCE_S) -> Client:
        """A client of `proxy`, over HTTP/2 where that one has TLS."""
        context = self.certificates.client_context() if proxy.secure else False
        return Client(proxy.base_url, context=context, http2=proxy.secure, patience_s=patience_s)

    async def play(self, proxy: Proxy, case: Case) -> Result:
        """One case, from its first request to the last row of its ledger."""
        acts = []
        async with self.client(proxy) as client:
            for number, expect in enumerate(case.asks):
                if number:
                    await asyncio.sleep(BETWEEN_S)
                acts.append(await Act(self, proxy, case, expect, number).play(client))
        problems = [problem for act in acts for problem in act.problems]
        if case.raw is None:
            problems += count_problems(proxy, case)
        return Result(
            name=case.name,
            group=case.group,
            saw=" | ".join(dict.fromkeys(act.seen.brief() for act in acts)),
            attempts=" | ".join(
                dict.fromkeys(check.attempts_brief(case, act.rows) for act in acts)
            ),
            outcome=" | ".join(dict.fromkeys(act.outcome for act in acts)),
            problems=tuple(dict.fromkeys(problems)),
            wire="\n".join(act.wire() for act in acts),
        )


class Act:
    """One request of a case. After `play`: `seen`, `rows` (attempts), `outcome`, `problems`."""

    def __init__(self, stage: Stage, proxy: Proxy, case: Case, expect: Expect, number: int) -> None:
        """`number`: of the request within its case."""
        self.stage = stage
        self.proxy = proxy
        self.case = case
        self.expect = expect
        self.number = number
        self.nonce = f"{case.id}x{number}x{secrets.token_hex(4)}"
        self.content = f"Say something. nonce={self.nonce}"
        self.seen = Seen()
        self.rows: list[Row] = []
        self.outcome = ""
        self.problems: list[str] = []
        self._fixed: list[str] = []

    async def play(self, client: Client) -> Self:
        """Ask, then wait until the ledger is right, or for as long as it may take."""
        await self.ask(client)
        await self.settle()
        return self

    async def ask(self, client: Client) -> None:
        """Ask, and look at what came."""
        self.seen = await self._ask(client)
        self.stage.upstream.seen(self.nonce).set()  # who still waits for a reader need not any more
        stream = self.case.stream
        self._fixed = check.client_problems(self.expect.saw, self.seen, self.nonce, stream=stream)
        self._fixed += check.told_problems(self.seen, self.expect)

    async def settle(self, *, deadline_s: float = SETTLE_S) -> None:
        """Wait until the ledger is right, or for as long as it may take."""
        deadline = asyncio.get_running_loop().time() + deadline_s
        while True:
            problems = await asyncio.to_thread(self._ledger)
            if not problems or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.05)
        self.problems = self._fixed + problems

    def tries(self) -> list[Try]:
        """What of this request the upstream saw."""
        return self.stage.upstream.tries_of(self.nonce)

    async def _ask(self, client: Client) -> Seen:
        case = self.case
        policy = "none" if case.substitutes else case.id
        headers = {"x-arbstr-policy": policy} | dict(case.headers)
        if case.raw is not None:
            return await client.post(self._raw_body(case.raw), headers)
        return await client.ask(
            case.model(0),
            self.content,
            stream=case.stream,
            headers=headers,
            on_text=self.stage.upstream.seen(self.nonce).set,
        )

    def _raw_body(self, raw: bytes) -> bytes:
        user = b'{"role": "user", "content": "%b"}' % self.content.encode()
        body = raw.replace(b"%u", user).replace(b"%m", self.case.model(0).encode())
        return body.replace(b"%n", self.nonce.encode())

    def _ledger(self) -> list[str]:
        """Read the ledger as it is now; what is wrong with it."""
        tries = self.tries()
        request = self._request_row()
        self.rows = []
        if request is not None:
            self.rows = [*self.proxy.rows("attempts", "request_id = ? ORDER BY n", request["id"])]
            self.outcome = str(request["outcome"])
        problems = check.ledger_problems(self.case, self.expect, request, self.rows, tries)
        problems += check.upstream_problems(self.case, tries, self.content)
        return problems + check.header_problems(request, self.seen)

    def _request_row(self) -> Row | None:
        """The row: by the id the client was told, else by the model, which is the case's own."""
        told = self.seen.headers.get("x-arbstr-request-id", "")
        if told.isdecimal():
            found = self.proxy.rows("requests", "id = ?", int(told))
            return found[0] if found else None
        name = self.case.model(0)
        found = self.proxy.rows("requests", "requested_model = ? ORDER BY started_at, id", name)
        return found[self.number] if len(found) > self.number else None

    def wire(self) -> str:
        """What went over the wire, for people."""
        parts = [f"client got ({self.seen.kind} {self.seen.error} {self.seen.message}):"]
        parts += [_shown(bytes(self.seen.wire))]
        for turn in self.tries():
            parts += [f"upstream {turn.model} was sent: {_shown(turn.body)}"]
            parts += [f"and answered {turn.sent_bytes:,} bytes: {_shown(bytes(turn.sent))}"]
        return "\n".join(parts)


def count_problems(proxy: Proxy, case: Case) -> list[str]:
    """One row for every request, no more."""
    found = proxy.rows("requests", "requested_model = ?", case.model(0))
    if len(found) == len(case.asks):
        return []
    return [f"ledger: {len(found)} rows for {len(case.asks)} requests"]


def group_of(case: Case) -> Group:
    """The group that `case` is played in."""
    return GROUPS[case.group]


def _shown(data: bytes, limit: int = 3000) -> str:
    text = data.decode("utf-8", "backslashreplace")
    return text if len(text) <= limit else f"{text[: limit // 2]}\n[...]\n{text[-limit // 2 :]}"

"""arbstr's own endpoints (design.md, "Endpoints of its own"): JSON out, nothing sent up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
from mitmproxy import http

from arbstr import __version__
from arbstr.core.catalog import Model
from arbstr.core.dialects import CHAT, Dialect
from arbstr.core.dialects.base import Problem, openai_error
from arbstr.core.explain import explain
from arbstr.core.policy import MODEL_PREFIX
from arbstr.core.price import MSATS_PER_SAT, sats
from arbstr.ledger.queries import Reader
from arbstr.ledger.writer import LedgerHealth
from arbstr.proxy.engine import Engine
from arbstr.proxy.sync import Sync
from arbstr.stats import requests_json, stats_json

type Handler = Callable[[http.Request], Mapping[str, object]]
type Report = Callable[[Reader, Mapping[str, str], int], Mapping[str, object]]

_CREATED = 1_700_000_000
"""OpenAI's clients want a ``created`` on each model; nobody knows ours."""


class Endpoints:
    """Answers what is asked of arbstr itself."""

    def __init__(
        self,
        engine: Engine,
        sync: Sync,
        ledger_health: Callable[[], LedgerHealth],
        denied: Mapping[str, int],
    ) -> None:
        """`denied`: the guard's counters, by code."""
        self._engine = engine
        self._sync = sync
        self._ledger_health = ledger_health
        self._denied = denied
        self._started_s = time.time()
        self._reader = Reader(engine.state.config.database.path)
        self._reports = ThreadPoolExecutor(1, thread_name_prefix="arbstr-reports")
        self._now: Mapping[tuple[str, str], Handler] = {
            ("GET", "/health"): self.health,
            ("GET", "/v1/models"): self.models,
            ("GET", "/models"): self.models,
            ("GET", "/providers"): self.providers,
        }
        self._from_ledger: Mapping[tuple[str, str], Report] = {
            ("GET", "/v1/stats"): stats_json,
            ("GET", "/v1/requests"): requests_json,
        }

    def close(self) -> None:
        """Let go of the ledger."""
        self._reports.submit(self._reader.close)
        self._reports.shutdown(wait=True)

    def serves(self, request: http.Request) -> bool:
        """Whether `request` is for us."""
        key = _key(request)
        return key in self._now or key in self._from_ledger or _is_ours_but(request)

    async def answer(self, flow: http.HTTPFlow) -> http.Response:
        """Answer a request that `serves` took.

        Raises engine.Refused for a bad ``/v1/cost`` body.
        """
        request = flow.request
        key = _key(request)
        if key == ("HEAD", "/"):
            return _json(200, b"")
        if key == ("POST", "/v1/cost"):
            return self.explain(flow, CHAT)
        if (handler := self._now.get(key)) is not None:
            return _json(200, msgspec.json.encode(handler(request)))
        if (report := self._from_ledger.get(key)) is not None:
            return await self._report(report, request)
        problem = Problem(405, "method not allowed", "invalid_request_error", "method_not_allowed")
        return _json(405, openai_error(problem))

    def explain(self, flow: http.HTTPFlow, dialect: Dialect) -> http.Response:
        """How a request would be routed; nothing is sent. Raises engine.Refused."""
        ticket = self._engine.ticket(flow, dialect)
        return _json(200, msgspec.json.encode(explain(ticket.ask, ticket.route)))

    async def _report(self, report: Report, request: http.Request) -> http.Response:
        """Run a query on its own thread and connection: the event loop never waits for SQLite."""
        query = {_text(k): _text(v) for k, v in request.query.items(multi=True)}
        now_ms = time.time_ns() // 1_000_000
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._reports, report, self._reader, query, now_ms)
        except ValueError as error:
            problem = Problem(400, str(error), "invalid_request_error", "bad_query")
            return _json(400, openai_error(problem))
        return _json(200, msgspec.json.encode(found))

    def health(self, _request: http.Request) -> Mapping[str, object]:
        """How arbstr is. ``status``: ``ok``, or ``degraded`` where the ledger cannot be written."""
        engine = self._engine
        ledger = self._ledger_health()
        return {
            "status": "ok" if ledger.ok else "degraded",
            "version": __version__,
            "instance": engine.instance,
            "uptime_s": round(time.time() - self._started_s),
            "config": {"path": str(engine.state.config.path), **self._sync.config_told()},
            "open_requests": len(engine.open),
            "ledger": msgspec.to_builtins(msgspec.structs.replace(ledger, path=str(ledger.path))),
            "sync": self._sync.told(),
            "balance_sats": {name: sats(msats) for name, msats in engine.world.balances.items()},
            "breakers": [
                msgspec.to_builtins(s) for s in engine.world.breakers.snapshots(time.monotonic())
            ],
            "overcharges": engine.world.overcharges,
            "unexplained_sats": {
                name: sats(msats)
                for name, msats in engine.world.balance_watch.unexplained_msats().items()
            },
            "denied": dict(self._denied),
        }

    def models(self, _request: http.Request) -> Mapping[str, object]:
        """Every model, at its cheapest, and ``arbstr/NAME`` for every policy."""
        cheapest: dict[str, Model] = {}
        for model in self._engine.world.catalog.models:
            best = cheapest.get(model.id)
            if best is None or (model.price is not None and model.output_rate < best.output_rate):
                cheapest[model.id] = model
        rules = self._engine.state.config.policies.rules
        virtual = [f"{MODEL_PREFIX}auto", *(MODEL_PREFIX + rule.name for rule in rules)]
        data = [_virtual(name) for name in virtual] + [_model(m) for m in cheapest.values()]
        return {"object": "list", "data": data}

    def providers(self, _request: http.Request) -> Mapping[str, object]:
        """Who sells, without keys."""
        engine = self._engine
        known = [model.provider for model in engine.world.catalog.models]
        return {
            "object": "list",
            "data": [
                {
                    "name": provider.name,
                    "url": provider.url,
                    "key": "ours" if provider.api_key is not None else "the client's",
                    "models": known.count(provider.name),
                    "balance_sats": sats(engine.world.balances.get(provider.name)),
                    "sync": self._sync.told().get(provider.name),
                }
                for provider in engine.state.config.providers
            ],
        }


def _key(request: http.Request) -> tuple[str, str]:
    path = request.path.partition("?")[0]
    return request.method, path.rstrip("/") or "/"


def _is_ours_but(request: http.Request) -> bool:
    """Ours by its path; the method may be wrong."""
    method, path = _key(request)
    if path == "/":
        return method == "HEAD"
    return path in ("/health", "/providers", "/v1/stats", "/v1/requests", "/v1/cost")


def _virtual(name: str) -> Mapping[str, object]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "arbstr"}


def _model(model: Model) -> Mapping[str, object]:
    price = model.price
    pricing = None
    if price is not None:
        pricing = {
            "prompt": float(price.input / MSATS_PER_SAT),
            "completion": float(price.output / MSATS_PER_SAT),
            "input_cache_read": None
            if price.cached is None
            else float(price.cached / MSATS_PER_SAT),
            "request": float(price.base_fee_msats / MSATS_PER_SAT),
        }
    return {
        "id": model.id,
        "object": "model",
        "created": _CREATED,
        "owned_by": model.provider,
        "context_length": model.context,
        "max_output_tokens": model.max_output,
        "aliases": list(model.aliases),
        "sats_pricing": pricing,
        "source": model.source,
    }


def _text(value: str) -> str:
    """`value` as text that can be stored and sent on: %xx may stand for any bytes."""
    return value.encode(errors="surrogateescape").decode(errors="replace")


def _json(status: int, body: bytes) -> http.Response:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return http.Response.make(status, body, headers)

"""Who gets what: paths, methods, models, keys, balance. The order of checks is the real node's.

Model, then key, then what the reservation needs, then balance, then the upstream (captures/err_*).
"""

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from uuid import uuid4

import msgspec

from arbstr.mock import errors, fails, heads
from arbstr.mock.account import TOKEN_MSATS, Account, new_token
from arbstr.mock.answer import Answer, compose, silence
from arbstr.mock.ask import Ask, PrefixCache, read
from arbstr.mock.dialects import chat, embeddings, messages, responses
from arbstr.mock.dialects.events import dumps
from arbstr.mock.errors import Failure
from arbstr.mock.faults import Fault
from arbstr.mock.models import MockModel, Rates, Shelf
from arbstr.mock.money import Bill, Usage, reservation_msats
from arbstr.mock.script import Dialect, Step, Turn
from arbstr.mock.seen import Seen
from arbstr.mock.wire import Exchange

type Steps = Generator[Step, None, None]

_DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "/chat/completions": chat,
        "/responses": responses,
        "/messages": messages,
        "/embeddings": embeddings,
    }
)
_BALANCE = frozenset({"/balance/info", "/wallet/info"})
_COUNT = "/messages/count_tokens"
_KEY_CHARS = 8
_TOKEN_CHARS = 20


@dataclass(frozen=True, slots=True)
class _Order:
    """A request for a model, by somebody who may ask."""

    rid: str
    seen: Seen
    model: MockModel
    rates: Rates
    ask: Ask
    payer: str
    token: str | None
    need_msats: int


class Desk:
    """Turns a request into the script of its answer.

    Args:
        shelf: what is for sale.
        account: who pays.
        keys: the keys that are good; `None`: any that looks like one.
        token_delay_ms: pause before a token of a model without a delay of its own.
        stall_ms: how long a stall is.
    """

    def __init__(
        self,
        *,
        shelf: Shelf,
        account: Account,
        keys: frozenset[str] | None,
        token_delay_ms: float,
        stall_ms: float,
    ) -> None:
        self.shelf = shelf
        self._account = account
        self._keys = keys
        self._token_delay_ms = token_delay_ms
        self._stall_ms = stall_ms
        self._cache = PrefixCache()

    def serve(self, exchange: Exchange, seen: Seen) -> Steps:
        """The answer to any request; `seen` learns the model and the price."""
        rid = str(uuid4())
        path = exchange.path.partition("?")[0].rstrip("/")
        name = path.removeprefix("/v1")
        inside = name != path or name in _DIALECTS or name == "/models"
        if exchange.method == "OPTIONS" and "access-control-request-method" in exchange.headers:
            return self._preflight(exchange, rid)
        if exchange.method == "POST" and inside:
            return self._post(exchange, seen, rid, name)
        if exchange.method == "GET" and inside:
            return self._get(exchange, rid, name)
        if exchange.method in ("GET", "POST"):
            return self._refuse(exchange, errors.no_path(rid, path or "/"))
        return self._refuse(exchange, errors.plain_detail(405, rid, "Method Not Allowed"))

    def _get(self, exchange: Exchange, rid: str, name: str) -> Steps:
        if name == "/models":
            return self._own(exchange, rid, self.shelf.listing)
        if name not in _BALANCE:
            return self._refuse(exchange, errors.invalid_model(rid, "unknown"))
        if "authorization" not in exchange.headers:
            return self._refuse(exchange, errors.no_authorization(rid))
        payer = self._payer(exchange, rid)
        if isinstance(payer, Failure):
            return self._refuse(exchange, payer)
        body = msgspec.json.encode(self._account.info(payer))
        return self._own(exchange, rid, body)

    def _post(self, exchange: Exchange, seen: Seen, rid: str, name: str) -> Steps:
        if name == "/balance/refund":
            return self._refund(exchange, rid)
        try:
            body = msgspec.json.decode(exchange.body) if exchange.body else {}
        except (msgspec.DecodeError, RecursionError):
            cause = {"type": "invalid_request_error", "code": "invalid_json"}
            return self._refuse(exchange, errors.twins(400, rid, cause))
        wanted = body.get("model", "unknown") if isinstance(body, dict) else None
        if not isinstance(wanted, str):
            return self._refuse(exchange, errors.crash(rid))
        model = self.shelf.find(wanted)
        if model is None:
            return self._refuse(exchange, errors.invalid_model(rid, wanted))
        seen.model = model.id
        payer = self._payer(exchange, rid)
        if isinstance(payer, Failure):
            return self._refuse(exchange, payer)
        try:
            ask = read(body)
        except RecursionError:
            return self._refuse(exchange, errors.crash(rid))
        if name == _COUNT:
            return self._own(exchange, rid, dumps({"input_tokens": ask.input_tokens}))
        token = exchange.headers.get("x-cashu") or None
        rates = self.shelf.rates[model.id]
        need = max(reservation_msats(rates, ask.prompt_chars, ask.max_tokens), 1)
        order = _Order(rid, seen, model, rates, ask, payer, token, need)
        refusal = self._admit(order) or _upstream(order, name)
        if refusal is not None:
            return self._refuse(exchange, refusal)
        return self._sell(order, _DIALECTS[name], close=exchange.close)

    def _sell(self, order: _Order, dialect: Dialect, *, close: bool) -> Steps:
        """The script of a good or a bad answer, with its reservation held until it is over."""
        model = order.model
        turn = Turn(
            rid=order.rid,
            close=close,
            model=model,
            ask=order.ask,
            answer=self._answer(order) if dialect.WRITES else silence(model, order.ask),
            dialect=dialect,
            litellm=dialect is messages,
            settle=partial(self._settle, order),
            change=new_token if order.token else None,
            token_delay_ms=model.token_delay_ms or self._token_delay_ms,
            stall_ms=self._stall_ms,
        )
        held = 0 if order.token else order.need_msats
        self._account.reserved_msats += held
        self._account.answers += 1
        try:
            yield from turn.script()
        finally:
            self._account.reserved_msats -= held

    def _answer(self, order: _Order) -> Answer:
        cached = 0
        if order.model.cache_read is not None:
            now_s = time.monotonic()
            cached = self._cache.cached_tokens(order.payer, order.model.id, order.ask, now_s)
        return compose(order.model, order.ask, cached)

    def _settle(self, order: _Order, usage: Usage) -> Bill:
        """Charge for tokens, from the token or from the balance."""
        times = 3 if order.model.fault is Fault.OVERCHARGE else 1
        bill = Bill.of(order.rates, usage, times=times)
        account = self._account
        paid = account.charge_token(bill) if order.token else account.charge(bill)
        order.seen.charged_msats += paid.total_msats
        return paid

    def _admit(self, order: _Order) -> Failure | None:
        """Whether there is enough to pay the dearest answer with."""
        limit = order.ask.body.get("max_tokens")
        if limit is not None and not isinstance(limit, int):
            return errors.twins(400, order.rid, "max_tokens must be an integer")
        if order.token is None:
            there = self._account.available_msats
            short = there < order.need_msats
            return errors.insufficient(order.rid, order.need_msats, there) if short else None
        if order.token in self._account.spent_tokens:
            return errors.spent(order.rid)
        if order.need_msats > TOKEN_MSATS:
            return errors.too_small(order.rid, order.model.id, order.need_msats)
        self._account.spent_tokens.add(order.token)
        return None

    def _payer(self, exchange: Exchange, rid: str) -> str | Failure:
        """The key or token that pays, or why none does."""
        token = exchange.headers.get("x-cashu", "")
        if token:
            why = "Invalid authentication token format"
            return token if _is_token(token) else errors.plain_detail(401, rid, why)
        given = exchange.headers.get("authorization")
        if given is None:
            return errors.plain_detail(401, rid, "Unauthorized")
        kind, _, key = given.partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            return errors.missing_key(rid)
        key = key.strip()
        if key.startswith("cashu"):
            return key if _is_token(key) else errors.bad_token(rid)
        looks_good = key.startswith("sk-") and len(key) >= _KEY_CHARS
        good = looks_good if self._keys is None else key in self._keys
        return key if good else errors.bad_key(rid)

    def _refund(self, exchange: Exchange, rid: str) -> Steps:
        """Everything on the account as one token: what a proxy must never let pass unasked."""
        payer = self._payer(exchange, rid)
        if isinstance(payer, Failure):
            return self._refuse(exchange, payer)
        token = new_token()
        sats = self._account.refund() // 1000
        body = msgspec.json.encode({"token": token, "sats": str(sats)})
        return self._own(exchange, rid, body, f"x-cashu: {token}")

    def _preflight(self, exchange: Exchange, rid: str) -> Steps:
        """What a browser asks before it asks (captures/options_preflight)."""
        wanted = exchange.headers.get("access-control-request-headers", "")
        head = heads.own(
            200,
            rid,
            2,
            kind="content-type: text/plain; charset=utf-8",
            more=(
                "vary: Origin",
                "access-control-allow-methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
                "access-control-max-age: 600",
                "access-control-allow-credentials: true",
                f"access-control-allow-origin: {exchange.headers.get('origin', '*')}",
                f"access-control-allow-headers: {wanted}",
            ),
        )
        yield heads.encode(head, close=exchange.close) + b"OK"

    def _own(self, exchange: Exchange, rid: str, body: bytes, *more: str) -> Steps:
        yield heads.encode(heads.own(200, rid, len(body), more=more), close=exchange.close) + body

    def _refuse(self, exchange: Exchange, failure: Failure) -> Steps:
        body = b"" if exchange.method == "HEAD" else failure.body
        yield heads.encode(failure.head, close=exchange.close) + body


def _is_token(text: str) -> bool:
    """Whether it could be a Cashu token; here every one that looks like one is worth the same."""
    return text.startswith("cashu") and len(text) >= _TOKEN_CHARS


def _upstream(order: _Order, name: str) -> Failure | None:
    """What the upstream refuses, once the node has let it pass."""
    rid, model, ask = order.rid, order.model, order.ask
    litellm = name == "/messages"
    if name not in _DIALECTS:
        return errors.upstream_lacks_it(rid)
    if litellm and ask.max_tokens is None:
        missing = "acreate() missing 1 required positional argument: 'max_tokens'"
        return errors.upstream_failed(502, rid, f"Upstream error via litellm: {missing}")
    if name == "/chat/completions" and not isinstance(ask.body.get("messages"), list):
        missing = "Missing required parameter: 'messages'"
        return errors.upstream_said(400, rid, missing, "invalid_request_error", None)
    if model.fault is Fault.FAIL:
        return fails.fail(model.fail_status or 500, rid, model, litellm=litellm)
    if ask.input_tokens > model.context:
        return errors.too_long(rid, model.context, ask.input_tokens)
    return None

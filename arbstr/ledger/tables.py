"""The tables that are read, as they are now, and how a row of `core.record` goes in and comes out.

A text that repeats from row to row (a model, a user agent, an outcome) stands once in ``names``;
the rows hold its number, 0 for none. That makes a row about 100 bytes instead of 250, and a filter
a comparison of small integers. People read the views ``requests`` and ``attempts``, which spell
the names out under the columns of the design; the code reads the tables below them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from peewee import BigIntegerField, BlobField, CompositeKey, IntegerField, Model, TextField

from arbstr.core.record import AttemptRow, Outcome, PriceRow, RequestRow

OUTCOMES: Mapping[Outcome, int] = {
    "ok": 1,
    "error": 2,
    "refused": 3,
    "interrupted": 4,
    "client_closed": 5,
    "in_flight": 6,
}
"""The first names of every ledger: fixed numbers, so that indexes and sums can be told of them."""
OK, REFUSED, INTERRUPTED, IN_FLIGHT = 1, 3, 4, 6
FAILED = (2, 3, 4)
BILLED, COMPUTED, UNKNOWN = 7, 8, 9
"""The next three: where a cost comes from."""

REQUEST_COLUMNS = RequestRow.__struct_fields__
ATTEMPT_COLUMNS = ("request_id", *AttemptRow.__struct_fields__)
PRICE_COLUMNS = PriceRow.__struct_fields__
NAMED = frozenset(
    {
        "instance",
        "endpoint",
        "outcome",
        "client",
        "requested_model",
        "policy",
        "policy_source",
        "model",
        "provider",
        "error_code",
        "cost_source",
    }
)
"""Columns that hold numbers of ``names``."""

_REQUEST_NAMED = tuple(i for i, name in enumerate(REQUEST_COLUMNS) if name in NAMED)
_ATTEMPT_NAMED = tuple(i for i, name in enumerate(ATTEMPT_COLUMNS) if name in NAMED)
_FLAGS = tuple(REQUEST_COLUMNS.index(name) for name in ("stream", "upstream_priced"))
_MESSAGE = REQUEST_COLUMNS.index("error_message")


class Name(Model):
    """One text, once."""

    id = IntegerField(primary_key=True)
    text = TextField(unique=True)

    class Meta:  # noqa: D106 - peewee's
        table_name = "names"


class Request(Model):
    """One request. `id`: `RequestRow.id`; times and costs as there."""

    id = BigIntegerField(primary_key=True)
    instance = IntegerField()
    started_at = BigIntegerField()
    endpoint = IntegerField()
    outcome = IntegerField()
    client = IntegerField()
    requested_model = IntegerField()
    policy = IntegerField()
    policy_source = IntegerField()
    model = IntegerField()
    provider = IntegerField()
    stream = IntegerField()
    status = IntegerField(null=True)
    error_code = IntegerField()
    error_message = TextField(null=True)
    attempts = IntegerField()
    input_tokens = IntegerField(null=True)
    cached_tokens = IntegerField(null=True)
    cache_write_tokens = IntegerField(null=True)
    output_tokens = IntegerField(null=True)
    reasoning_tokens = IntegerField(null=True)
    estimated_msats = IntegerField(null=True)
    cost_msats = IntegerField(null=True)
    cost_source = IntegerField()
    computed_msats = IntegerField(null=True)
    baseline_msats = IntegerField(null=True)
    balance_msats = IntegerField(null=True)
    upstream_priced = IntegerField()
    ttft_ms = IntegerField(null=True)
    latency_ms = IntegerField(null=True)
    prompt_bytes = IntegerField(null=True)

    class Meta:  # noqa: D106 - peewee's
        table_name = "request_rows"


class Attempt(Model):
    """One upstream try of a request."""

    request_id = BigIntegerField()
    n = IntegerField()
    provider = IntegerField()
    model = IntegerField()
    started_at = BigIntegerField()
    outcome = IntegerField()
    status = IntegerField(null=True)
    error_code = IntegerField()
    input_tokens = IntegerField(null=True)
    output_tokens = IntegerField(null=True)
    cost_msats = IntegerField(null=True)
    cost_source = IntegerField()
    ttft_ms = IntegerField(null=True)
    latency_ms = IntegerField(null=True)

    class Meta:  # noqa: D106 - peewee's
        table_name = "attempt_rows"
        primary_key = CompositeKey("request_id", "n")


class Price(Model):
    """What a model cost from `at_ms` on; few rows, so the texts stand in them."""

    provider = TextField()
    model = TextField()
    at_ms = BigIntegerField()
    input_rate = TextField()
    output_rate = TextField()
    cached_rate = TextField(null=True)
    cache_write_rate = TextField(null=True)
    base_fee_msats = TextField()
    entry = BlobField(null=True, column_name="raw")
    seen_ms = BigIntegerField()

    class Meta:  # noqa: D106 - peewee's
        table_name = "prices"
        primary_key = CompositeKey("provider", "model", "at_ms")


def pack_request(row: RequestRow, number: Callable[[str | None], int]) -> tuple[object, ...]:
    """The values of a row of ``request_rows``; `number` gives a text's number."""
    values: list[Any] = list(msgspec.structs.astuple(row))
    for i in _REQUEST_NAMED:
        values[i] = number(values[i])
    if values[_MESSAGE] is not None:
        values[_MESSAGE] = storable(values[_MESSAGE])
    return tuple(values)


def pack_attempt(
    request_id: int, row: AttemptRow, number: Callable[[str | None], int]
) -> tuple[object, ...]:
    """The values of a row of ``attempt_rows``."""
    values: list[Any] = [request_id, *msgspec.structs.astuple(row)]
    for i in _ATTEMPT_NAMED:
        values[i] = number(values[i])
    return tuple(values)


def unpack_request(values: Sequence[object], text: Callable[[int], str | None]) -> RequestRow:
    """The row of `REQUEST_COLUMNS`; `text` gives a number's text."""
    row = _named(values, _REQUEST_NAMED, text)
    for i in _FLAGS:
        row[i] = bool(row[i])
    return RequestRow(*row)


def unpack_attempt(values: Sequence[object], text: Callable[[int], str | None]) -> AttemptRow:
    """The row of `ATTEMPT_COLUMNS`, which begin with the request's id."""
    return AttemptRow(*_named(values, _ATTEMPT_NAMED, text)[1:])


def storable(text: str) -> str:
    """`text` as UTF-8 can hold it: a lone surrogate, which JSON can bring, is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _named(
    values: Sequence[object], at: Sequence[int], text: Callable[[int], str | None]
) -> list[Any]:
    row: list[Any] = list(values)
    for i in at:
        row[i] = text(row[i])
    return row

"""One catalog out of the config and the providers' lists, and what the ledger remembers of both."""

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from arbstr.core.ask import Ask
from arbstr.core.catalog import Model
from arbstr.core.forecast import Forecast
from arbstr.core.policy import Policies, Rule
from arbstr.core.price import Price
from arbstr.core.record import PriceRow
from arbstr.ledger.queries import Reader
from arbstr.market.catalog import make_catalog, price_rows, remembered
from arbstr.market.earlier import read_earlier, read_spent, relearn
from tests.config_text import PROVIDER, load_text
from tests.ledger_helpers import DAY_MS, HOUR_MS, answered, write

NOW = time.time_ns() // 1_000_000
STATIC = '[[models]]\nid = "m"\nprovider = "a"\ninput_rate = 1\noutput_rate = 2\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spend.db"


@pytest.fixture
def reader(path: Path) -> Iterator[Reader]:
    reader = Reader(path)
    yield reader
    reader.close()


def listed(name: str = "m", output: str = "9.5", **others: object) -> Model:
    values = {"price": Price(Decimal(4), Decimal(output), cached=Decimal("0.0375")), **others}
    return Model(name, "a", source="synced", listed_ms=NOW, **values)  # type: ignore[arg-type]


def test_a_static_model_wins_and_the_list_fills_in_what_it_leaves_open(tmp_path: Path) -> None:
    config = load_text(tmp_path, PROVIDER + STATIC)
    model = listed(context=8192, tools=True, max_cost_msats=Decimal(7), aliases=("other",))

    catalog = make_catalog(config, {"a": (model, listed("n"))})

    first, second = catalog.models
    assert (first.id, first.output_rate, first.source) == ("m", 2.0, "static")
    assert (first.context, first.tools, first.aliases) == (8192, True, ("other",))
    assert (second.id, second.output_rate) == ("n", 9.5)
    assert catalog.open_providers == frozenset()


def test_a_provider_without_any_list_may_sell_anything(tmp_path: Path) -> None:
    config = load_text(tmp_path, PROVIDER)
    assert make_catalog(config, {}).open_providers == {"a"}
    assert make_catalog(config, {"a": (listed(),)}).open_providers == frozenset()
    assert make_catalog(config, {"gone": (listed(),)}).models == ()


def test_a_list_is_remembered_exactly(path: Path, reader: Reader) -> None:
    models = (
        listed("m", "0.0000375", context=128_000, aliases=("x", "y"), vision=False),
        listed("n", "1234567.890123"),
        Model("unpriced", "a", source="synced"),
    )
    write(path, prices=price_rows(models, NOW))

    assert remembered(reader.prices()) == {"a": models[:2]}


def test_a_model_that_the_last_list_lacks_is_not_remembered(path: Path, reader: Reader) -> None:
    write(path, prices=price_rows((listed("old"), listed("kept")), NOW - HOUR_MS))
    write(path, prices=price_rows((listed("kept"), listed("new")), NOW))

    (kept, new) = remembered(reader.prices())["a"]

    assert (kept.id, new.id) == ("kept", "new")
    assert kept.listed_ms == NOW  # unchanged since an hour, but seen just now


def test_what_another_version_wrote_is_left_out() -> None:
    good = price_rows((listed("good"),), NOW)
    odd = [
        msgspec.structs.replace(good[0], model=f"odd {n}", raw=raw)
        for n, raw in enumerate((None, b"{", b"[]", b'{"id": 3}', b"\xff"))
    ]
    found = remembered((*odd, *good))
    assert [model.id for model in found["a"]] == ["good"]


def test_a_price_row_names_the_rates_as_exact_decimals() -> None:
    (row,) = price_rows((listed(),), NOW)
    assert isinstance(row, PriceRow)
    assert (row.input_rate, row.output_rate, row.cached_rate) == ("4", "9.5", "0.0375")
    assert (row.cache_write_rate, row.base_fee_msats, row.at_ms) == (None, "0", NOW)


def test_the_forecast_is_learned_again_from_the_ledger(path: Path, reader: Reader) -> None:
    write(
        path,
        [
            *(answered(NOW - n * HOUR_MS, "m", n=n, output_tokens=77) for n in range(20)),
            answered(NOW - 40 * DAY_MS, "too old"),
            answered(NOW, "failed", n=90, outcome="error"),
            answered(NOW, "untold", n=91, output_tokens=None, input_tokens=None),
        ],
    )

    earlier = read_earlier(reader, NOW)
    forecast = Forecast()
    relearn(forecast, earlier.answers)

    (known,) = forecast.learned()
    assert (known.policy, known.model, known.samples) == ("code", "m", 20)
    assert known.mean_output == pytest.approx(77)
    assert known.bytes_per_token == pytest.approx(4.0)
    assert forecast.expect(Ask("chat", "m", prompt_bytes=4800), "code", "m").samples == 20
    assert earlier.models == {}


def test_what_today_has_cost_is_told_by_policy(path: Path, reader: Reader) -> None:
    today = NOW // DAY_MS * DAY_MS
    write(
        path,
        [
            answered(today, n=1, cost_msats=100),
            answered(today, n=2, cost_msats=20, policy="quick"),
            answered(today, n=3, cost_msats=3, policy=None),
            answered(today, n=4, cost_msats=4, policy="gone"),
            answered(today - 1, cost_msats=5000),
        ],
    )
    policies = Policies(rules=(Rule("code"), Rule("quick"), Rule("unused")))
    assert read_spent(reader, policies, NOW) == {"code": 100, "quick": 20, "unused": 0, None: 7}

"""No call that may block stands on the event loop's thread, whatever arbstr is asked."""

from __future__ import annotations

from pathlib import Path

from tests.bench.stall import watch


def test_no_sqlite_dns_or_file_call_on_the_loop(tmp_path: Path) -> None:
    seen = watch(tmp_path, 1.0, (20_000,), host="localhost")
    assert seen["callbacks"] > 100, "nothing happened: the test shows nothing"
    assert any(kind.startswith("SQLite") for kind in seen["elsewhere"]), "no ledger was written"
    assert seen["blocking"] == {}

"""The benchmarks run, and print what they say they print; their figures are for people."""

from __future__ import annotations

import pytest

from tests.bench import run


@pytest.mark.parametrize("name", list(run.BENCHMARKS))
def test_each_benchmark_tells_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run.main([name, "--help"])
    assert end.value.code == 0
    assert "--rounds" in capsys.readouterr().out


def test_routing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["route", "--rounds", "1", "--count", "5"]) == 0
    assert "300 models" in capsys.readouterr().out

"""The bench of the routing decision decides what it says it does."""

from tests.route_bench import ALL, MODELS, TWENTY, RouteBench


def test_both_policies_are_decided_with_every_refusal() -> None:
    bench = RouteBench()
    twenty, everything = bench.decide(TWENTY), bench.decide(ALL)

    assert (len(twenty.candidates), len(twenty.outside)) == (20, MODELS - 20)
    assert (len(everything.candidates), len(everything.outside)) == (MODELS, 0)
    assert [r.model for r in twenty.refusals] == ["model-7"]
    assert all(c.reservation_msats for c in everything.candidates)
    assert bench.median_us(TWENTY, rounds=1) > 0

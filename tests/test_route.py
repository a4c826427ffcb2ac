"""Who is tried for a request, in what order, and why the others are not."""

from collections.abc import Callable, Iterable
from decimal import Decimal

import pytest

from arbstr.core.ask import Ask
from arbstr.core.caps import CapHit, Caps
from arbstr.core.catalog import Catalog, Model
from arbstr.core.forecast import Forecast
from arbstr.core.policy import Choice, Policies, Rule
from arbstr.core.price import Price
from arbstr.core.route import Conditions, NoModelError, Route, plan

NOON_S = 20_000 * 86_400 + 43_200


def model(name: str, rates: str = "1 1", **changes: object) -> Model:
    """A model of "id@provider", with input and output rates in msats a token; "" has no price."""
    name, _, provider = name.partition("@")
    price = None
    if rates:
        input_rate, output_rate = map(Decimal, rates.split())
        price = Price(input_rate, output_rate)
    values: dict[str, object] = {"id": name, "provider": provider or "p", "price": price}
    return Model(**(values | changes))  # type: ignore[arg-type]


def ask(name: str = "arbstr/r", **changes: object) -> Ask:
    values: dict[str, object] = {"dialect": "chat", "model": name, "prompt_bytes": 4000} | changes
    return Ask(**values)  # type: ignore[arg-type]


class World:
    """Models, a rule or none, and the state of things; `plan` asks for a decision."""

    def __init__(
        self, models: Iterable[Model], *, rule: Rule | None = None, **policies: object
    ) -> None:
        self.catalog = Catalog(models)
        self.rule = rule
        self.policies = Policies(rules=() if rule is None else (rule,), **policies)  # type: ignore[arg-type]
        self.forecast = Forecast()

    def plan(self, request: Ask | None = None, **conditions: object) -> Route:
        request = request or ask()
        any_model = request.model.startswith("arbstr/") or request.model == "auto"
        choice = Choice(self.rule, "none" if self.rule is None else "header", any_model)
        world = Conditions(**conditions)  # type: ignore[arg-type]
        return plan(request, choice, self.catalog, self.policies, self.forecast, world)

    def error(self, request: Ask | None = None, **conditions: object) -> NoModelError:
        with pytest.raises(NoModelError) as caught:
            self.plan(request, **conditions)
        return caught.value


def names(route: Route) -> list[str]:
    providers = {c.model.provider for c in route.candidates}
    return [
        c.model.id if providers == {"p"} else f"{c.model.id}@{c.model.provider}"
        for c in route.candidates
    ]


def is_one_of(*broken: str) -> Callable[[str, str], bool]:
    return lambda _provider, name: name in broken


ANY = Rule("r")


# --- whose models ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (("gpt-4o",), {"gpt-4o"}),
        (("GPT-4o",), {"gpt-4o"}),
        (("openai/gpt-4o",), {"gpt-4o"}),
        (("claude-sonnet-4-5",), {"anthropic/claude-sonnet-4.5"}),
        (("sonnet",), {"anthropic/claude-sonnet-4.5"}),
        (("gpt-4o*",), {"gpt-4o", "gpt-4o-mini"}),
        (("claude-*",), {"anthropic/claude-sonnet-4.5", "other/claude-clone"}),
        (("anthropic/claude-*",), {"anthropic/claude-sonnet-4.5"}),
        (("openai/gpt-4o-*",), {"gpt-4o-mini"}),
        (("openai/*",), set()),
        (("*/claude-*",), {"anthropic/claude-sonnet-4.5", "other/claude-clone"}),
        (("deepseek-chat*", "gpt-4o"), {"deepseek/deepseek-chat-v3.1", "gpt-4o"}),
        (("gpt-4[op]",), {"gpt-4o"}),
        ((), {"all"}),
    ],
)
def test_a_policy_allows_by_name_alias_spelling_and_glob(
    allowed: tuple[str, ...], expected: set[str]
) -> None:
    models = [
        model("gpt-4o"),
        model("gpt-4o-mini"),
        model("anthropic/claude-sonnet-4.5", aliases=("sonnet",)),
        model("other/claude-clone"),
        model("deepseek/deepseek-chat-v3.1"),
    ]
    world = World(
        [*models, model("unrelated")], rule=Rule("r", allowed_models=(*allowed, "unrelated"))
    )
    if not allowed:
        world = World(models, rule=ANY)
        expected = {m.id for m in models}

    assert set(names(world.plan())) - {"unrelated"} == expected


def test_a_model_is_looked_for_at_every_provider() -> None:
    world = World([model("a@dear", "2 2"), model("a@cheap"), model("b@cheap")])

    assert names(world.plan(ask("a"))) == ["a@cheap", "a@dear"]


def test_without_a_policy_substitutes_follow_in_their_order() -> None:
    models = [model("a", "9 9"), model("b", "5 5"), model("c", "1 1"), model("d", "1 1")]
    world = World(models, substitutes={"a": ("b", "c")})

    assert names(world.plan(ask("a"))) == ["a", "b", "c"]
    assert names(world.plan(ask("b"))) == ["b"]


def test_consent_holds_for_every_spelling_of_the_model() -> None:
    models = [model("claude-sonnet-4.5"), model("b")]
    world = World(models, substitutes={"anthropic/claude-sonnet-4-5": ("b",)})

    assert names(world.plan(ask("claude-sonnet-4.5-20250929"))) == ["claude-sonnet-4.5", "b"]


def test_auto_without_a_policy_is_every_model() -> None:
    world = World([model("a", "2 2"), model("b", "1 1")])

    assert names(world.plan(ask("auto"))) == ["b", "a"]


def test_an_unknown_model_is_not_found_and_near_names_are_told() -> None:
    error = World([model("gpt-4o-mini"), model("claude")]).error(ask("gpt-4o-mimi"))

    assert (error.status, error.code, error.near) == (404, "model_not_found", ("gpt-4o-mini",))
    assert str(error) == "no provider lists the model 'gpt-4o-mimi'; near: gpt-4o-mini"


def test_a_substitute_answers_for_a_model_that_nobody_lists_any_more() -> None:
    assert names(World([model("b")], substitutes={"a": ("b",)}).plan(ask("a"))) == ["b"]


def test_a_policy_whose_models_nobody_lists_finds_nothing() -> None:
    error = World([model("a")], rule=Rule("r", allowed_models=("x*",))).error()

    assert (error.status, error.code) == (404, "model_not_found")
    assert "policy r" in str(error)


def test_a_provider_without_a_list_gets_the_requested_model_unpriced() -> None:
    world = World([])
    world.catalog = Catalog([], providers=("new",), open_providers=frozenset({"new"}))

    (found,) = world.plan(ask("gpt-4o")).candidates
    assert (found.model.id, found.model.source, found.expected_msats) == ("gpt-4o", "assumed", None)


def test_a_provider_without_a_list_comes_after_those_with_a_price() -> None:
    world = World([])
    listed = model("gpt-4o@known", "900 900")
    world.catalog = Catalog([listed], providers=("new", "known"), open_providers=frozenset({"new"}))

    assert names(world.plan(ask("gpt-4o"))) == ["gpt-4o@known", "gpt-4o@new"]


@pytest.mark.parametrize(
    ("requested", "expected"),
    [("arbstr/r", "first"), ("second", "second"), ("glob-7", "glob-7"), ("other", "first")],
)
def test_under_a_policy_a_provider_without_a_list_gets_a_model_it_allows(
    requested: str, expected: str
) -> None:
    world = World([], rule=Rule("r", allowed_models=("glob-*", "first", "second")))
    world.catalog = Catalog([], providers=("p",), open_providers=frozenset({"p"}))

    assert names(world.plan(ask(requested))) == [expected]


# --- what it costs --------------------------------------------------------------------------------


def test_expected_cost_is_the_formula() -> None:
    priced = model("a", price=Price(Decimal("0.5"), Decimal(2), base_fee_msats=Decimal(7)))
    (found,) = World([priced], rule=ANY).plan(ask(choices=2)).candidates

    assert (found.input_tokens, found.output_tokens) == (1000, 1000)
    assert found.expected_msats == 1000 * 0.5 + 2 * 500 * 2 + 7


def test_the_cheapest_is_the_one_that_will_cost_least_not_the_one_with_the_lowest_rate() -> None:
    world = World([model("wordy", "1 1"), model("terse", "1 3")], rule=ANY)
    for name, tokens in (("wordy", 4000), ("terse", 200)):
        for _ in range(20):
            world.forecast.learn(
                policy="r",
                model=name,
                prompt_bytes=4000,
                input_tokens=1000,
                output_tokens=tokens,
                at_ms=0,
            )

    route = world.plan()
    assert names(route) == ["terse", "wordy"]
    assert [c.samples for c in route.candidates] == [20, 20]


def test_an_output_limit_below_max_tokens_only_caps_the_forecast() -> None:
    (found,) = World([model("a", max_output=100)], rule=ANY).plan(ask(max_output=400)).candidates

    assert found.output_tokens == 100


def test_ties_are_for_who_failed_less_then_for_the_name() -> None:
    world = World([model("c"), model("b"), model("a")], rule=ANY)

    assert names(world.plan()) == ["a", "b", "c"]
    assert names(world.plan(failures=lambda _p, name: int(name == "a"))) == ["b", "c", "a"]


def test_models_without_a_price_come_last() -> None:
    assert names(World([model("a", ""), model("b", "900 900")], rule=ANY).plan()) == ["b", "a"]


def test_lowest_latency_goes_by_what_was_measured_then_configured_then_cost() -> None:
    models = [
        model("unknown-dear", "2 2"),
        model("unknown-cheap", "1 1"),
        model("configured", "9 9", latency_ms=300),
        model("measured", "9 9", latency_ms=1),
    ]
    world = World(models, rule=Rule("r", strategy="lowest_latency"))
    measured = {"measured": 200.0}

    route = world.plan(latency_ms=lambda _p, name: measured.get(name))
    assert names(route) == ["measured", "configured", "unknown-cheap", "unknown-dear"]


def test_round_robin_takes_turns_among_those_that_work() -> None:
    rule = Rule("r", strategy="round_robin")
    world = World([model(name, f"{n} 1") for n, name in enumerate("dcba")], rule=rule)
    seen = []

    def second(key: str, n: int) -> int:
        seen.append((key, n))
        return 1

    route = world.plan(round_robin=second, open_circuits=is_one_of("a"))
    assert names(route) == ["c", "d", "b", "a"]
    assert seen == [("r", 3)]


def test_a_rule_without_fallback_has_one_candidate() -> None:
    world = World([model("a"), model("b")], rule=Rule("r", fallback=False))

    assert names(world.plan()) == ["a"]


def test_the_baseline_is_the_requested_model_at_its_cheapest() -> None:
    models = [model("a@x", "9 9"), model("a@y", "8 8"), model("b@x")]
    world = World(models, rule=Rule("r", allowed_models=("b",)))

    baseline = world.plan(ask("a")).baseline
    assert baseline is not None
    assert (baseline.id, baseline.provider) == ("a", "y")
    assert world.plan(ask("unlisted")).baseline is None
    assert world.plan(ask("arbstr/r")).baseline is None


# --- who is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "changes", "rule", "reason"),
    [
        ({"tools": True}, {"tools": False}, {}, "no tools"),
        ({"images": 1}, {"vision": False}, {}, "no images"),
        ({"json_mode": True}, {"json": False}, {}, "no JSON mode"),
        ({}, {"context": 1200}, {}, "context 1,200 < 1,500 tokens needed (1,000 in, 500 out)"),
        (
            {"max_output": 9_000},
            {"context": 8_192, "max_output": 7_500},
            {},
            "context 8,192 < 8,500 tokens needed (1,000 in, 7,500 out)",
        ),
        (
            {},
            {"rates": "1 75"},
            {"max_msats_per_1k_output": 50_000},
            "output rate 75 sats per 1,000 tokens > 50 allowed (max_sats_per_1k_output)",
        ),
        (
            {},
            {"rates": ""},
            {"max_msats_per_1k_output": 50_000},
            "price unknown under a price cap (max_sats_per_1k_output)",
        ),
        (
            {},
            {"rates": ""},
            {"max_msats_per_request": 9_000},
            "price unknown under a price cap (max_sats_per_request)",
        ),
        (
            {},
            {"rates": ""},
            {"max_msats_per_day": 9_000},
            "price unknown under a price cap (max_sats_per_day)",
        ),
        (
            {},
            {"rates": "1 75"},
            {"max_msats_per_request": 9_000},
            "38.5 sats expected > 9 allowed (max_sats_per_request)",
        ),
        ({}, {"tier": "standard"}, {"min_tier": "frontier"}, "tier standard < frontier (min_tier)"),
        ({}, {}, {"min_tier": "standard"}, "tier unknown, standard needed (min_tier)"),
    ],
)  # fmt: skip
def test_each_refusal_has_its_reason(
    request_: dict[str, object], changes: dict[str, object], rule: dict[str, object], reason: str
) -> None:
    good = model("good", tier="frontier", context=10**6)
    rates = str(changes.pop("rates", "1 1"))
    bad = model("bad", rates, **changes)
    route = World([bad, good], rule=Rule("r", **rule)).plan(ask(**request_))  # type: ignore[arg-type]

    assert names(route) == ["good"]
    assert [(r.provider, r.model, r.reason) for r in route.refusals] == [("p", "bad", reason)]


def test_what_is_not_known_of_a_model_refuses_nothing() -> None:
    request = ask(tools=True, images=2, json_mode=True, max_output=10**6, prompt_bytes=10**6)

    assert names(World([model("a")], rule=ANY).plan(request)) == ["a"]


def test_a_limit_that_no_model_could_mean_does_not_exhaust_the_context() -> None:
    assert names(World([model("a", context=8_192)]).plan(ask("a", max_output=8_192))) == ["a"]


def test_an_unlisted_model_is_not_tried_until_it_is_listed_again() -> None:
    world = World([model("a"), model("b", "2 2")], rule=ANY)

    route = world.plan(unlisted=is_one_of("a"))
    assert names(route) == ["b"]
    assert route.refusals[0].kind == "unlisted"
    error = World([model("a")]).error(ask("a"), unlisted=is_one_of("a"))
    assert (error.status, error.code) == (404, "model_not_found")


def test_the_requested_model_outside_the_policy_is_told_and_all_others_too() -> None:
    models = [model("a"), model("b"), model("c")]
    route = World(models, rule=Rule("r", allowed_models=("c",))).plan(ask("a"))

    assert [(r.model, r.reason) for r in route.refusals] == [
        ("a", "not among the allowed_models of policy r")
    ]
    assert [r.model for r in route.outside] == ["a", "b"]


def test_an_open_circuit_is_tried_when_nothing_else_is_left() -> None:
    world = World([model("a"), model("b", "2 2")], rule=ANY)

    route = world.plan(open_circuits=is_one_of("a"))
    assert [(c.model.id, c.note) for c in route.candidates] == [("b", None), ("a", "circuit open")]
    assert names(world.plan(open_circuits=is_one_of("a", "b"))) == ["a", "b"]


def test_nobody_fits_says_why() -> None:
    models = [model("a", tools=False), model("b", context=100)]
    error = World(models, rule=ANY).error(ask(tools=True))

    assert (error.status, error.code) == (400, "no_model_fits")
    assert "a: no tools; b: context 100 < " in str(error)
    assert len(error.refusals) == 2


def test_too_long_for_every_model_has_the_code_that_clients_know() -> None:
    error = World([model("a", context=100)]).error(ask("a"))

    assert (error.status, error.code) == (400, "context_length_exceeded")


def test_an_error_spells_out_some_refusals_and_counts_the_rest() -> None:
    models = [model(f"m{n}", tools=False) for n in range(8)]
    error = World(models, rule=ANY).error(ask(tools=True))

    assert str(error).endswith("m4: no tools; and 3 more")


# --- caps and balances ----------------------------------------------------------------------------


def test_max_tokens_is_lowered_to_fit_only_if_the_policy_says_so() -> None:
    rule = Rule("r", max_msats_per_request=3_000, lower_max_tokens=True)
    (found,) = World([model("a", "1 10")], rule=rule).plan(ask(choices=2)).candidates

    assert found.max_tokens == 100
    assert found.expected_msats == 1000 + 2 * 100 * 10
    assert found.note == "max_tokens lowered to 100 (max_sats_per_request)"


def test_max_tokens_is_not_lowered_to_nothing() -> None:
    rule = Rule("r", max_msats_per_request=1_100, lower_max_tokens=True)
    error = World([model("a", "1 10")], rule=rule).error()

    assert (error.status, error.code) == (402, "cap_reached")
    assert str(error) == (
        "no model under policy r fits: a: 6 sats expected > 1.1 allowed (max_sats_per_request)"
    )


def test_at_a_daily_cap_a_cheaper_model_answers() -> None:
    rule = Rule("r", strategy="lowest_latency", max_msats_per_day=10_000)
    world = World([model("fast", "9 9", latency_ms=1), model("slow", "1 1")], rule=rule)
    caps = Caps(world.policies)

    assert names(world.plan(caps=caps, now_s=NOON_S)) == ["slow"]
    route = world.plan(caps=caps, now_s=NOON_S)
    assert route.over_cap is not None
    assert route.over_cap.expected_msats == 13_500


def test_at_a_daily_cap_without_a_cheaper_model_the_client_learns_which_and_until_when() -> None:
    world = World([model("a", "9 9")], rule=Rule("r", max_msats_per_day=10_000))
    error = world.error(caps=Caps(world.policies), now_s=NOON_S)

    assert (error.status, error.code) == (402, "cap_reached")
    assert "policies.rules.r.max_sats_per_day = 10 sats, resets 2024-10-05T00:00:00Z" in str(error)


def test_the_cap_over_all_holds_without_a_policy_too() -> None:
    world = World([model("a")], max_msats_per_day=4_000)
    caps = Caps(world.policies)
    for _ in range(2):
        (found,) = world.plan(ask("a"), caps=caps, now_s=NOON_S).candidates
        assert found.expected_msats is not None
        assert not isinstance(caps.reserve(None, found.expected_msats, NOON_S * 1000), CapHit)

    assert world.error(ask("a"), caps=caps, now_s=NOON_S).status == 402


def test_a_policys_own_cap_does_not_hold_for_others() -> None:
    world = World([model("a")], rule=Rule("r"))
    world.policies = Policies((Rule("r"), Rule("s", max_msats_per_day=1)))

    assert names(world.plan(caps=Caps(world.policies), now_s=NOON_S)) == ["a"]


# max_cost of the captured models: (context - max_output) * input + max_output * output.
PRICEY = model(
    "pricey", "15 75", context=200_000, max_output=32_000, max_cost_msats=Decimal(4_920_000)
)
MID = model("mid", "1 4", context=32_768, max_output=4_096, max_cost_msats=Decimal(45_056))


@pytest.mark.parametrize(
    ("priced", "request_", "required_msats"),
    [
        # captures err_402_insufficient, err_402_max_completion_tokens_ignored, chat_after_refund
        (PRICEY, {}, 2_376_015),
        (MID, {"max_output": 20, "reserves": False}, 16_221),
        (MID, {"max_output": 10}, 41),
    ],
)  # fmt: skip
def test_the_reservation_is_what_a_real_node_asks_for(
    priced: Model, request_: dict[str, object], required_msats: int
) -> None:
    request = ask(**({"prompt_bytes": 4} | request_))  # type: ignore[arg-type]
    (found,) = World([priced], rule=ANY).plan(request).candidates

    assert found.reservation_msats == pytest.approx(required_msats, abs=1.5)


def test_models_whose_reservation_does_not_fit_the_balance_come_last() -> None:
    cheap = model("cheap", max_cost_msats=Decimal(1_000_000))
    world = World([cheap, model("dear", "2 2", max_cost_msats=Decimal(5_000))], rule=ANY)

    route = world.plan(balance_msats=lambda _provider: 8_000)
    assert names(route) == ["dear", "cheap"]
    assert route.candidates[1].note == "reserves 990 sats of 8"
    assert names(world.plan()) == ["cheap", "dear"]


def test_a_seller_without_a_known_ceiling_has_no_known_reservation() -> None:
    (found,) = World([model("a")], rule=ANY).plan(balance_msats=lambda _provider: 0).candidates

    assert (found.reservation_msats, found.note) == (None, None)

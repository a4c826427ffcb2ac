"""What a request will use, learned from what others used."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbstr.core.ask import Ask
from arbstr.core.forecast import Forecast

DAY_MS = 86_400_000


def ask(**changes: object) -> Ask:
    values: dict[str, object] = {"dialect": "chat", "model": "m", "prompt_bytes": 4000} | changes
    return Ask(**values)  # type: ignore[arg-type]


def teach(  # a run of answers that are all alike
    forecast: Forecast,
    times: int,
    output: int,
    *,
    model: str = "m",
    policy: str | None = "p",
    prompt_bytes: int | None = 4000,
    at_ms: int = 0,
) -> None:
    for _ in range(times):
        forecast.learn(
            policy=policy,
            model=model,
            prompt_bytes=prompt_bytes,
            input_tokens=None if prompt_bytes is None else prompt_bytes // 4,
            output_tokens=output,
            at_ms=at_ms,
        )


def output(
    forecast: Forecast, model: str = "m", policy: str | None = "p", **changes: object
) -> float:
    return forecast.expect(ask(**changes), policy, model).output_tokens


def test_knows_nothing_at_first() -> None:
    expected = Forecast().expect(ask(), "p", "m")

    assert expected.input_tokens == 1000
    assert expected.cached_tokens == 0
    assert expected.output_tokens == 500
    assert expected.samples == 0


@pytest.mark.parametrize("dense", [{"tools": True}, {"json_mode": True}])
def test_json_has_more_tokens_to_the_byte(dense: dict[str, bool]) -> None:
    assert Forecast().expect(ask(**dense), "p", "m").input_tokens == pytest.approx(4000 / 3.5)


def test_counts_images_as_tokens() -> None:
    assert Forecast().expect(ask(images=3), "p", "m").input_tokens == 4000


def test_learns_a_models_output_under_a_policy() -> None:
    forecast = Forecast()
    teach(forecast, 100, 90)

    expected = forecast.expect(ask(), "p", "m")
    assert expected.output_tokens == pytest.approx(90, rel=0.05)
    assert expected.samples == 100


def test_is_capped_by_what_the_client_and_the_model_allow() -> None:
    forecast = Forecast()
    teach(forecast, 50, 900)

    assert output(forecast, max_output=64) == 64
    assert forecast.outlook(ask(), "p").of("m", 32).output_tokens == 32
    assert output(forecast, max_output=64, choices=3) == 3 * 64


def test_expects_no_output_where_there_is_none() -> None:
    assert output(Forecast(), output=False) == 0


def test_learns_per_answer_where_several_were_asked_for() -> None:
    forecast = Forecast()
    for _ in range(60):
        forecast.learn(
            policy="p",
            model="m",
            prompt_bytes=4000,
            input_tokens=1000,
            output_tokens=400,
            at_ms=0,
            choices=4,
        )

    assert output(forecast) == pytest.approx(100, rel=0.1)
    assert output(forecast, choices=4) == pytest.approx(400, rel=0.1)


def test_an_answer_that_was_cut_off_short_says_nothing() -> None:
    forecast = Forecast()
    teach(forecast, 20, 300)
    before = output(forecast)
    for tokens in (1, 400):
        forecast.learn(
            policy="p",
            model="m",
            prompt_bytes=4000,
            input_tokens=1000,
            output_tokens=tokens,
            at_ms=0,
            max_output=1,
        )

    assert output(forecast) > before
    assert forecast.learned()[0].samples == 21


def test_a_model_that_was_only_ever_cut_off_is_not_learned() -> None:
    forecast = Forecast()
    forecast.learn(
        policy="p",
        model="m",
        prompt_bytes=4000,
        input_tokens=1000,
        output_tokens=1,
        at_ms=0,
        max_output=1,
    )

    assert forecast.learned() == ()
    assert forecast.level("p", "m") is None
    assert output(forecast) == 500


def test_weighs_recent_answers_more() -> None:
    forecast = Forecast()
    teach(forecast, 400, 1000)
    teach(forecast, 400, 100)

    assert output(forecast) < 250


def test_an_old_habit_fades_with_the_days() -> None:
    fresh, stale = Forecast(), Forecast()
    teach(fresh, 30, 2000)
    teach(stale, 30, 2000)
    teach(fresh, 3, 100, model="other")
    teach(stale, 3, 100, model="other", at_ms=90 * DAY_MS)

    assert output(stale) < output(fresh) / 2


def test_one_huge_answer_changes_little() -> None:
    forecast = Forecast()
    teach(forecast, 100, 100)
    before = output(forecast)
    teach(forecast, 1, 100_000)

    assert output(forecast) < 1.12 * before


def test_a_second_huge_answer_is_believed() -> None:
    forecast = Forecast()
    teach(forecast, 100, 100)
    teach(forecast, 2, 100_000)

    assert output(forecast) > 500


def test_a_heavy_tail_is_not_clipped_away() -> None:
    forecast = Forecast()
    chance = random.Random(1)
    answers = [4000 if chance.random() < 0.05 else 10 for _ in range(2000)]
    for tokens in answers:
        teach(forecast, 1, tokens)

    recent = answers[-400:]
    assert output(forecast) == pytest.approx(sum(recent) / len(recent), rel=0.5)


def test_a_policy_says_what_to_expect_of_a_new_model_and_hopes_for_less() -> None:
    forecast = Forecast()
    teach(forecast, 200, 100, model="known")

    assert 30 < output(forecast, "new") < 60


def test_a_new_policy_hopes_for_nothing() -> None:
    forecast = Forecast()
    teach(forecast, 200, 500, policy="other")

    assert output(forecast, "new", "p") == pytest.approx(500, rel=0.01)


def test_a_manner_shown_elsewhere_is_carried_over() -> None:
    forecast = Forecast()
    for model, tokens in (("terse", 500), ("wordy", 2000)):
        teach(forecast, 100, tokens, model=model, policy="essays")
    teach(forecast, 100, 10, model="third", policy="labels")

    terse, wordy = (output(forecast, m, "labels") for m in ("terse", "wordy"))
    assert terse < wordy
    assert wordy < 50  # the work is another one: nobody writes essays here


def test_the_size_of_a_prompt_tells_how_long_the_answer_is() -> None:
    forecast = Forecast()
    for _ in range(60):
        teach(forecast, 1, 300, prompt_bytes=2_000)
        teach(forecast, 1, 20, prompt_bytes=20_000)

    assert output(forecast, prompt_bytes=2_000) == pytest.approx(300, rel=0.2)
    assert output(forecast, prompt_bytes=20_000) == pytest.approx(20, rel=0.5)


def test_models_are_not_judged_by_the_requests_that_reached_them() -> None:
    forecast = Forecast()
    for _ in range(80):  # "both" answers anything, "long" only prompts with short answers
        teach(forecast, 1, 300, model="both", prompt_bytes=2_000)
        teach(forecast, 1, 20, model="both", prompt_bytes=20_000)
        teach(forecast, 1, 20, model="long", prompt_bytes=20_000)

    # It never wrote more than 20 tokens, but nobody has asked it for more.
    assert output(forecast, "long", prompt_bytes=2_000) > 80


def test_learns_the_bytes_of_a_token() -> None:
    forecast = Forecast()
    for _ in range(50):
        forecast.learn(
            policy="p", model="m", prompt_bytes=3000, input_tokens=1000, output_tokens=9, at_ms=0
        )

    assert forecast.expect(ask(prompt_bytes=6000), "other", "m").input_tokens == pytest.approx(
        2000, rel=0.02
    )
    assert forecast.expect(ask(), "p", "unseen").input_tokens == 1000


@pytest.mark.parametrize(
    ("prompt_bytes", "input_tokens"), [(None, 50), (400, None), (0, 50), (400, 0), (90, 5000)]
)
def test_an_unknown_or_absurd_size_teaches_nothing(
    prompt_bytes: int | None, input_tokens: int | None
) -> None:
    forecast = Forecast()
    forecast.learn(
        policy="p",
        model="m",
        prompt_bytes=prompt_bytes,
        input_tokens=input_tokens,
        output_tokens=5,
        at_ms=0,
    )

    assert forecast.expect(ask(), "p", "m").input_tokens == 1000
    assert forecast.learned()[0].bytes_per_token is None


@pytest.mark.parametrize("tokens", [None, 0])
def test_an_answer_without_output_teaches_no_output(tokens: int | None) -> None:
    forecast = Forecast()
    forecast.learn(
        policy="p", model="m", prompt_bytes=400, input_tokens=100, output_tokens=tokens, at_ms=0
    )

    assert forecast.learned() == ()


def test_tells_what_it_learned_and_how_far_off_it_was() -> None:
    forecast = Forecast()
    for expected in (50, 150):
        forecast.learn(
            policy="p",
            model="m",
            prompt_bytes=400,
            input_tokens=100,
            output_tokens=100,
            at_ms=0,
            expected_output=expected,
        )
    teach(forecast, 3, 40, model="a", policy=None)

    first, second = forecast.learned()
    assert (first.policy, first.model, first.samples, first.bias) == (None, "a", 3, None)
    assert first.mean_output == pytest.approx(40)
    assert (second.policy, second.model, second.samples) == ("p", "m", 2)
    assert second.bytes_per_token == pytest.approx(4)
    assert second.bias == pytest.approx(0, abs=0.01)
    assert second.error == pytest.approx(0.5, abs=0.01)


def test_a_level_is_what_was_seen_and_nothing_else() -> None:
    forecast = Forecast()
    teach(forecast, 2, 40)

    assert forecast.level("p", "m") == pytest.approx(40)
    assert forecast.level("p", "other") is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["p", "q", None]),
            st.sampled_from(["a", "b"]),
            st.integers(0, 10**7),
            st.integers(0, 10**6),
            st.integers(0, 400 * DAY_MS),
        ),
        max_size=40,
    )
)
def test_whatever_was_learned_a_forecast_is_a_finite_number(
    answers: list[tuple[str | None, str, int, int, int]],
) -> None:
    forecast = Forecast()
    for policy, model, size, tokens, at_ms in answers:
        teach(forecast, 1, tokens, model=model, policy=policy, prompt_bytes=size, at_ms=at_ms)

    for policy in ("p", None, "new"):
        expected = forecast.expect(ask(), policy, "a")
        assert 0 < expected.output_tokens < math.inf
        assert 0 < expected.input_tokens < math.inf

"""What a request will use: input tokens from its size, output tokens from what was learned.

The output of an answer is taken to be a product, both parts of it learned from the answers:

    output = level(policy, model) * size factor(policy, size of the prompt)

*Level.* A policy is a kind of work and a model has a manner, so each pair ("arm") has a level: the
ratio of the sums of its outputs and of their size factors. Where an arm has few answers its level
is blended with what the model writes under other policies, measured against their levels; that with
the level of the policy. Each of these weighs as much as `PRIOR` answers. A policy's level is
blended with the mean over everything, and that with `GLOBAL_PRIOR`, for `POLICY_PRIOR` answers
each.

*Size factor.* Long prompts are another kind of work than short ones (a code completion reads much
and writes a line), whichever model answers. Half octaves of prompt size have a factor each, drawn
towards 1 by a few answers. All models share it, so a model is not judged by the requests
that happened to reach it.

*Hope.* Of a model that was never tried nothing would ever be learned. As a policy gets to be known,
untried models are expected to write only `HOPE` of its level: high enough that a hopeless price is
never tried, low enough that a terser model is found. Their own answers soon outweigh the hope, and
finding out is cheap because it falls on models that are nearly the cheapest. A policy with no
answers yet hopes for nothing: its forecast is the prior.

*Memory.* An arm remembers about `tally.MEMORY` answers, and all of them fade with a half-life of
`HALF_LIFE_DAYS`, so that a model that was dear once is tried again. An answer above `tally.CLIP`
times its forecast counts as that much, unless one as large was seen of late: one runaway answer
changes little, a habit is believed at its second instance.
"""

from __future__ import annotations

import math

import msgspec

from arbstr.core.ask import Ask
from arbstr.core.tally import Arm, Sums, Work

GLOBAL_PRIOR = 500.0
"""Output tokens of an answer of which nothing is known."""
PRIOR = 4.0
"""Enough answers that one unlucky draw does not condemn a model, few enough to learn fast."""
POLICY_PRIOR = 1.0
"""The work differs more from policy to policy than a model's manner does."""
HOPE = 0.4
HALF_LIFE_DAYS = 14.0

BYTES_PER_TOKEN = 4.0
DENSE_BYTES_PER_TOKEN = 3.5
"""JSON and code have more tokens to the byte than prose."""
BYTES_PRIOR_TOKENS = 1000.0
IMAGE_TOKENS = 1000.0

_DAY_MS = 86_400_000
_SANE_BYTES_PER_TOKEN = (0.5, 50.0)
"""Outside of this the body was not what was counted (an image, a file by reference)."""


class Expectation(msgspec.Struct, frozen=True, gc=False):
    """What one request is expected to use at one model. Tokens, all answers asked for together.

    `input_tokens`: all of the input; `cached_tokens` says how much of it the seller has in its
    cache. `samples`: how many answers of this model under this policy stand behind the output.
    """

    input_tokens: float
    cached_tokens: float
    output_tokens: float
    samples: float


class Learned(msgspec.Struct, frozen=True):
    """What was learned of one model under one policy (None: requests without a policy).

    `mean_output`: tokens an answer, recent ones weighing more. `bytes_per_token`: of the model's
    input, None before the first answer with a known size. `bias` and `error`: by how much the
    forecasts were off, (expected - actual) / actual, signed and absolute, over the sums; None where
    no forecast was told.
    """

    policy: str | None
    model: str
    samples: int
    mean_output: float
    bytes_per_token: float | None
    bias: float | None
    error: float | None


class Outlook:
    """The forecast for one request under one policy, to be asked for each model. Not kept."""

    __slots__ = (
        "_arms",
        "_bytes",
        "_bytes_prior",
        "_cap",
        "_choices",
        "_factor",
        "_hope",
        "_image_tokens",
        "_level",
        "_models",
        "_sizes",
    )

    def __init__(self, forecast: Forecast, ask: Ask, policy: str | None) -> None:
        known = forecast.policy(policy)
        self._models = forecast.models
        self._sizes = forecast.sizes
        self._arms = known.arms
        self._level = forecast.work_level(known)
        self._hope = HOPE + (1 - HOPE) * PRIOR / (PRIOR + known.sums.exposure)
        self._factor = known.factor(_size(ask.prompt_bytes / BYTES_PER_TOKEN))
        self._cap = math.inf if ask.max_output is None else float(ask.max_output)
        self._choices = max(1, ask.choices) if ask.output else 0
        self._bytes = ask.prompt_bytes
        self._image_tokens = ask.images * IMAGE_TOKENS
        dense = ask.tools or ask.json_mode
        self._bytes_prior = DENSE_BYTES_PER_TOKEN if dense else BYTES_PER_TOKEN

    def of(self, model: str, max_output: int | None = None) -> Expectation:
        """The expectation for `model`, whose own output limit is `max_output`."""
        level = self._level
        samples = 0
        if (total := self._models.get(model)) is None:
            level *= self._hope
        else:
            relative, exposure = total.relative, total.exposure
            if (arm := self._arms.get(model)) is None:
                level *= (PRIOR * self._hope + relative) / (PRIOR + exposure)
            else:
                # What the model wrote under other policies is the total without this arm.
                relative -= arm.relative
                exposure -= arm.exposure
                level *= (PRIOR * self._hope + relative) / (PRIOR + exposure)
                level = (PRIOR * level + arm.output) / (PRIOR + arm.exposure)
                samples = arm.samples
        tokens = level * self._factor
        tokens = min(tokens, self._cap)
        if max_output is not None and tokens > max_output:
            tokens = float(max_output)
        prompt = self._bytes / self.bytes_per_token(model) + self._image_tokens
        return Expectation(prompt, 0.0, tokens * self._choices, samples)

    def bytes_per_token(self, model: str) -> float:
        """Bytes of the prompt to a token of `model`."""
        if (seen := self._sizes.get(model)) is None:
            return self._bytes_prior
        bytes_ = BYTES_PRIOR_TOKENS * self._bytes_prior + seen.output
        return bytes_ / (BYTES_PRIOR_TOKENS + seen.exposure)


class Forecast:
    """Everything learned so far. Mutable: it is owned by the event loop and not thread-safe.

    At a start it is told the ledger's answers, oldest first, and knows what it knew.
    """

    def __init__(self) -> None:
        self.everything = Sums()
        self.models: dict[str, Sums] = {}
        self.sizes: dict[str, Sums] = {}
        self._policies: dict[str | None, Work] = {}
        self._faded_ms: int | None = None

    def policy(self, name: str | None) -> Work:
        """What is known of a policy; an empty record where nothing is."""
        return self._policies.get(name) or Work()

    def level(self, policy: str | None, model: str) -> float | None:
        """What `model` was seen to write under `policy`, the sizes of its prompts evened out.

        Output tokens, without priors and without hope; None where it never answered.
        """
        arm = self.policy(policy).arms.get(model)
        return arm.output / arm.exposure if arm is not None and arm.samples else None

    def outlook(self, ask: Ask, policy: str | None) -> Outlook:
        """The forecast for `ask`, to be asked for one model after the other."""
        return Outlook(self, ask, policy)

    def expect(self, ask: Ask, policy: str | None, model: str) -> Expectation:
        """What `ask` will use at `model`, under `policy` (None: without one)."""
        return self.outlook(ask, policy).of(model)

    def learn(  # noqa: PLR0913 - what there is to know of one answer
        self,
        *,
        policy: str | None,
        model: str,
        prompt_bytes: int | None,
        input_tokens: int | None,
        output_tokens: int | None,
        at_ms: int,
        expected_output: float | None = None,
        choices: int = 1,
        max_output: int | None = None,
    ) -> None:
        """Learn from one answer. None: not known, and nothing is learned of that part.

        `input_tokens`: all input buckets. `prompt_bytes`: as in `Ask`; None where the request held
        images, which have tokens but no bytes. `output_tokens`: of all `choices`, reasoning in; 0
        (an endpoint without output) is not learned from. `max_output`: the client's cap on each of
        them: an answer cut off by it was on its way to be longer, so a short one says nothing.
        `at_ms`: UTC. `expected_output`: what was forecast.
        """
        self._fade(at_ms)
        if prompt_bytes and input_tokens:
            low, high = _SANE_BYTES_PER_TOKEN
            if low <= prompt_bytes / input_tokens <= high:
                self.sizes.setdefault(model, Sums()).add(prompt_bytes, input_tokens)
        if not output_tokens:
            return
        known = self._policies.setdefault(policy, Work())
        arm = known.arms.setdefault(model, Arm())
        if expected_output is not None:
            arm.judge(expected_output, output_tokens)
        tokens = prompt_bytes / BYTES_PER_TOKEN if prompt_bytes else input_tokens
        size = None if tokens is None else _size(tokens)
        output = output_tokens / max(1, choices)
        factor = known.factor(size)
        expected = factor * arm.mean(self.work_level(known), PRIOR)
        if max_output is None or output < max_output or output >= expected:
            self._count(known, model, size, arm.clipped(output, expected))

    def _count(self, known: Work, model: str, size: int | None, output: float) -> None:
        arm, factor, level = known.arms[model], known.factor(size), self.work_level(known)
        total = self.models.setdefault(model, Sums())
        total.take(arm)
        arm.count(output, factor, output / level)
        total.give(arm)
        known.add(size, arm, output, factor)
        self.everything.add(output, factor)

    def work_level(self, known: Work) -> float:
        """Output tokens of an answer under a policy, whichever model writes it."""
        everything = self.everything.mean(GLOBAL_PRIOR, POLICY_PRIOR)
        return known.sums.mean(everything, POLICY_PRIOR)

    def _fade(self, at_ms: int) -> None:
        """Once for every day that has passed, let everything weigh less."""
        if self._faded_ms is None:
            self._faded_ms = at_ms
        days = (at_ms - self._faded_ms) // _DAY_MS
        if days <= 0:
            return
        self._faded_ms += days * _DAY_MS
        by = 0.5 ** (days / HALF_LIFE_DAYS)
        for sums in (self.everything, *self.models.values(), *self.sizes.values()):
            sums.fade(by)
        for known in self._policies.values():
            known.fade(by)

    def learned(self) -> tuple[Learned, ...]:
        """One row for each policy and model with an answer, by policy, then model."""
        return tuple(
            self._row(policy, model, arm)
            for policy, known in sorted(self._policies.items(), key=lambda item: item[0] or "")
            for model, arm in sorted(known.arms.items())
            if arm.samples
        )

    def _row(self, policy: str | None, model: str, arm: Arm) -> Learned:
        size = self.sizes.get(model)
        told = arm.forecast_actual
        return Learned(
            policy=policy,
            model=model,
            samples=arm.samples,
            mean_output=arm.output / arm.weight,
            bytes_per_token=None if size is None else size.output / size.exposure,
            bias=(arm.forecast - told) / told if told else None,
            error=arm.forecast_off / told if told else None,
        )


def _size(tokens: float) -> int:
    """The half octave that a prompt of so many tokens is in: 0 for none, 20 for 725 to 1,023."""
    return int(tokens * tokens).bit_length()

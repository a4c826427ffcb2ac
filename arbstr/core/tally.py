"""Sums over answers that forget: what the forecast keeps of each policy and each model."""

from __future__ import annotations

import msgspec

MEMORY = 200
"""About how many answers a sum remembers."""
CLIP = 5.0
"""An answer this many times its forecast is not believed at once."""
CURVE_PRIOR = 3.0
"""How many answers a size class needs to be believed as much as its being like all others."""

_KEEP = 1 - 1 / MEMORY
_LARGEST_KEEP = 0.99


class Sums(msgspec.Struct):
    """Decayed sums. Their ratio is a mean: output to exposure, where each answer exposes once.

    `exposure`: of the answers, their size factors; of input, its tokens. `relative`: the outputs in
    units of the level of their policy.
    """

    output: float = 0.0
    exposure: float = 0.0
    relative: float = 0.0

    def add(self, output: float, exposure: float, relative: float = 0.0) -> None:
        """Count something new; what was there before weighs a little less."""
        self.output = self.output * _KEEP + output
        self.exposure = self.exposure * _KEEP + exposure
        self.relative = self.relative * _KEEP + relative

    def fade(self, by: float) -> None:
        """Let everything weigh less."""
        self.output *= by
        self.exposure *= by
        self.relative *= by

    def give(self, part: Sums) -> None:
        """Take a part into a total."""
        self.exposure += part.exposure
        self.relative += part.relative

    def take(self, part: Sums) -> None:
        """Take a part out of a total."""
        self.exposure -= part.exposure
        self.relative -= part.relative

    def mean(self, prior: float, weight: float) -> float:
        """Output to exposure, blended with a prior that weighs as much as `weight` answers."""
        return (weight * prior + self.output) / (weight + self.exposure)


class Arm(Sums):
    """One model under one policy. `samples`: answers in all, `weight`: those remembered."""

    samples: int = 0
    weight: float = 0.0
    largest: float = 0.0
    forecast: float = 0.0
    forecast_actual: float = 0.0
    forecast_off: float = 0.0

    def count(self, output: float, factor: float, relative: float) -> None:
        """Remember one answer."""
        self.samples += 1
        self.weight = self.weight * _KEEP + 1
        self.add(output, factor, relative)

    def fade(self, by: float) -> None:
        """Let everything weigh less."""
        super().fade(by)
        self.weight *= by

    def clipped(self, output: float, expected: float) -> float:
        """`output`, or as much of it as is believed."""
        limit = max(CLIP * expected, self.largest)
        self.largest = max(self.largest * _LARGEST_KEEP, output)
        return min(output, limit)

    def judge(self, expected: float, actual: float) -> None:
        """Remember how far off a forecast was."""
        self.forecast = self.forecast * _KEEP + expected
        self.forecast_actual = self.forecast_actual * _KEEP + actual
        self.forecast_off = self.forecast_off * _KEEP + abs(expected - actual)


class Work(msgspec.Struct):
    """One policy: its arms by model, all of them together, and its curve by size class."""

    arms: dict[str, Arm] = {}
    sums: Sums = msgspec.field(default_factory=Sums)
    curve: dict[int, Sums] = {}

    def factor(self, size: int | None) -> float:
        """How many times its mean an answer to a prompt of this size class is long."""
        seen = None if size is None else self.curve.get(size)
        return 1.0 if seen is None else seen.mean(1.0, CURVE_PRIOR)

    def add(self, size: int | None, arm: Arm, output: float, factor: float) -> None:
        """Count an answer that `arm` has counted."""
        self.sums.add(output, factor)
        if size is not None:
            # Against what this model was seen to write, so that a prior that is off bends nothing.
            relative = output * arm.exposure / arm.output
            self.curve.setdefault(size, Sums()).add(relative, 1.0)

    def fade(self, by: float) -> None:
        """Let everything weigh less."""
        for sums in (self.sums, *self.arms.values(), *self.curve.values()):
            sums.fade(by)

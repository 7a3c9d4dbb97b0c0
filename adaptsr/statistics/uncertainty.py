"""How far a mean over seeds and scenes may lie from the truth: intervals and p values from independent parts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from adaptsr.statistics.pairing import Floats


@dataclass(frozen=True)
class Uncertainty:
    """The estimated variance of a mean, as a sum of independent parts: (variance, degrees of freedom) of each.

    The half-width h at level a is that of Banerjee (1961): h^2 is the sum of v * t^2 over the parts, t being Student's
    quantile for the part's own degrees of freedom. With one part this is Student's test; with several, it rejects a true
    mean with a probability of at most a, at every level. (Satterthwaite's single degrees of freedom do so near 5% only:
    at the levels that Holm's method asks for, they reject several times too often; `simulation` shows both.)
    """

    parts: tuple[tuple[float, float], ...]

    @property
    def standard_error(self) -> float:
        return math.sqrt(sum(variance for variance, _ in self.parts))

    def half_width(self, level: float) -> float:
        """Return half the width of the interval that misses the mean with probability `level`."""
        # hypot: with two seeds a quantile may be 1e299, whose square is no number
        return math.hypot(
            *(math.sqrt(v) * float(special.stdtrit(degrees, level / 2)) for v, degrees in self.parts if v)
        )

    def p(self, value: float) -> float:
        """Return the two-sided p of a true mean of 0, where `value` was estimated; NaN without any variance."""
        if not self.standard_error > 0 or math.isnan(value):
            return math.nan
        if len(self.parts) == 1:
            [(variance, degrees)] = self.parts
            return 2 * float(special.stdtr(degrees, -abs(value) / math.sqrt(variance)))

        def excess(logarithm: float) -> float:
            return self.half_width(math.exp(logarithm)) - abs(value)

        lowest = -690.0  # the logarithm of the smallest normal number
        return math.exp(optimize.brentq(excess, lowest, 0.0)) if excess(lowest) > 0 else 0.0

    def p_above(self, value: float) -> float:
        """Return the one-sided p of a true mean of at most 0, where `value` was estimated."""
        half = self.p(value) / 2
        return half if value > 0 else 1 - half

    def detectable(self, level: float, power: float = 0.8) -> float:
        """Return about the smallest true mean that a two-sided test at `level` finds with probability `power`."""
        return self.half_width(level) + self.half_width(2 * (1 - power))

    def provable_margin(self, level: float, power: float = 0.8) -> float:
        """Return about the smallest margin within which a true mean of 0 is shown to lie with probability `power`.

        level: of each of the two one-sided tests.
        """
        return self.half_width(2 * level) + self.half_width(1 - power)


def over_seeds(differences: Floats) -> Uncertainty:
    """Take the uncertainty of the mean of `differences`, (seeds, images), over other seeds on the same images."""
    by_seed = differences.mean(axis=1)
    return Uncertainty((_of_mean(by_seed),))


def over_seeds_and_scenes(differences: Floats, scenes: tuple[str, ...]) -> Uncertainty:
    """Take the uncertainty of the mean of `differences`, (seeds, images), over other seeds and other scenes.

    scenes: (images,). Seeds and scenes are crossed random effects; each seed mean and each scene mean also holds its
    share of what is left over, so that their sum errs on the safe side (the unbiased estimate subtracts the share that
    is counted twice). The variance over scenes is the jackknife's, which leaves out one scene at a time, with the degrees
    of freedom of `effective_scenes`; for scenes of one size it is the variance of the mean of the scene means.
    """
    totals, sizes = _by_scene(differences, scenes)
    without = (totals.sum() - totals) / (sizes.sum() - sizes)
    variance = float(without.var()) * (len(sizes) - 1)
    return Uncertainty((_of_mean(differences.mean(axis=1)), (variance, effective_scenes(scenes) - 1)))


def effective_scenes(scenes: tuple[str, ...]) -> float:
    """Return how many scenes of one size would weigh as these do: fewer, if some hold many of the images."""
    sizes = np.unique(np.asarray(scenes), return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def scene_totals(differences: Floats, scenes: tuple[str, ...]) -> Floats:
    """Return one value per scene, in proportion to its part of the mean over all images."""
    return _by_scene(differences, scenes)[0]


def _by_scene(differences: Floats, scenes: tuple[str, ...]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the sum of the differences over the images of each scene, a mean over seeds, and the number of its images."""
    _, cluster, sizes = np.unique(np.asarray(scenes), return_inverse=True, return_counts=True)
    totals: Floats = np.bincount(cluster, weights=differences.mean(axis=0)).astype(float)
    return totals, sizes.astype(np.int64)


def _of_mean(values: Floats) -> tuple[float, float]:
    return float(values.var(ddof=1)) / len(values), len(values) - 1

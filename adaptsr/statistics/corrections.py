"""Wilcoxon's test over seeds, Hedges' correction of an effect size and Holm's correction of p values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from adaptsr.statistics.pairing import Floats


def wilcoxon_p(differences: Floats) -> float:
    """Return the two-sided p of Wilcoxon's signed rank test, exact if there are no ties.

    NaN below two differences, or if all of them are zero.
    """
    if len(differences) < 2 or not np.any(differences):
        return math.nan
    return float(stats.wilcoxon(differences).pvalue)


def hedges_correction(degrees: int) -> float:
    """Return the factor that removes the small-sample bias of d (Hedges 1981, exact form).

    NaN below 2 degrees of freedom.
    """
    if degrees < 2:
        return math.nan
    logarithm = special.gammaln(degrees / 2) - special.gammaln((degrees - 1) / 2)
    return float(math.exp(logarithm) / math.sqrt(degrees / 2))


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p values by Holm's method (1979), in the order given; NaN stays NaN and does not count as a test."""
    values = np.asarray(p, dtype=float)
    adjusted = np.full(len(values), math.nan)
    order = [i for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]
    running = 0.0
    for position, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - position) * values[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]

"""Holm's correction of p values, the sign-flip test over scenes and Hedges' correction of an effect size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import special

from adaptsr.statistics.pairing import Floats

FLIPPED_SCENES = 16
"""The sign-flip test goes through all 2^n signs of up to so many scenes."""


def sign_flip_p(effects: Floats) -> float:
    """Return the two-sided p of the exact sign-flip test of `effects`, one per scene (Fisher 1935).

    It supposes only that the effects are symmetric about 0. With n scenes it cannot be below 2/2^n. NaN below two
    scenes, above `FLIPPED_SCENES`, and if all effects are 0.
    """
    if not 2 <= len(effects) <= FLIPPED_SCENES or not np.any(effects):
        return math.nan
    sums = np.abs(_signs(len(effects)) @ effects)
    seen = abs(effects.sum())
    return float(np.mean(sums >= seen - 1e-12 * np.abs(effects).sum()))


@lru_cache(maxsize=4)  # the number of scenes differs only between test datasets
def _signs(n: int) -> Floats:
    """Return all (2^n, n) signs."""
    return np.asarray(1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1), dtype=np.float64)


def hedges_correction(degrees: int) -> float:
    """Return the factor that removes the small-sample bias of d (Hedges 1981, exact form).

    NaN below 2 degrees of freedom.
    """
    if degrees < 2:
        return math.nan
    logarithm = special.gammaln(degrees / 2) - special.gammaln((degrees - 1) / 2)
    return float(math.exp(logarithm) / math.sqrt(degrees / 2))


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p values by Holm's method (1979), in the order given.

    NaN, a test that was declared and not made, stays NaN and counts as p = 1: what is called below a level now stays so
    once the test is made, whatever comes of it.
    """
    values = np.asarray(p, dtype=float)
    adjusted = np.full(len(values), math.nan)
    order = [i for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]
    running = 0.0
    for position, index in enumerate(order):
        running = max(running, min(1.0, (len(values) - position) * values[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]

"""Holm's correction of p values, the sign-flip test over scenes and Hedges' correction of an effect size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import special

from adaptsr.statistics.pairing import Floats

FLIPPED_SCENES = 16
"""The sign-flip test goes through all 2^n signs of up to so many scenes; for more it draws `DRAWN_SIGNS`."""
DRAWN_SIGNS = 2**14


def sign_flip_p(effects: Floats) -> float:
    """Return the two-sided p of the sign-flip test of `effects`, one per scene (Fisher 1935).

    It supposes only that the effects are symmetric about 0. It is exact for up to `FLIPPED_SCENES` scenes, where with n
    scenes it cannot be below 2/2^n; above, it flips signs at random, the same ones each time, and counts the signs seen
    among them (Phipson and Smyth 2010). NaN below two scenes, and if all effects are 0.
    """
    if len(effects) < 2 or not np.any(effects):
        return math.nan
    sums = np.abs(_signs(len(effects)) @ effects)
    seen = abs(effects.sum())
    return float(np.mean(sums >= seen - 1e-12 * np.abs(effects).sum()))


@lru_cache(maxsize=4)  # the number of scenes differs only between test datasets
def _signs(n: int) -> Floats:
    """Return all (2^n, n) signs; above `FLIPPED_SCENES`, those seen and others drawn at random, (`DRAWN_SIGNS`, n)."""
    if n <= FLIPPED_SCENES:
        return np.asarray(1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1), dtype=np.float64)
    drawn = np.random.default_rng(n).choice([-1.0, 1.0], size=(DRAWN_SIGNS, n))
    drawn[0] = 1
    return drawn


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

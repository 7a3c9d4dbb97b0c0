"""Bootstrap intervals of mean differences, over seeds and scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from adaptsr.randomness import numpy_generator
from adaptsr.statistics.pairing import Floats

RESAMPLES = 10_000


def bootstrap_interval(differences: Floats, scenes: Sequence[str], confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval (low, high) of the mean difference, from a bootstrap crossed over seeds and scenes.

    differences: (seeds, images), finite. scenes: (images,). With one scene, the interval is over seeds alone. Below two
    seeds it is (NaN, NaN).

    Seeds and scenes are drawn independently, with replacement; the images of a scene stay together (Owen 2007, "The
    pigeonhole bootstrap"). Plain percentiles of so few units are too narrow (five seeds: 84% instead of 95%). Their
    level is therefore widened until the interval of a normal sample of that size would be Student's (the expanded
    percentiles of Hesterberg 2015), with Satterthwaite's degrees of freedom for the shares of seeds and scenes in the
    variance.
    """
    if len(differences) < 2:
        return math.nan, math.nan
    names, cluster = np.unique(np.asarray(scenes), return_inverse=True)
    membership = np.equal.outer(cluster, np.arange(len(names))).astype(float)
    sums = differences @ membership
    sizes = membership.sum(axis=0)
    seed_counts, scene_counts = _resamples(len(differences), len(names))
    drawn = scene_counts @ np.vstack([sums, sizes]).T  # one product: with many scenes it takes nearly all the time
    means = (seed_counts * drawn[:, :-1]).sum(axis=1) / (len(differences) * drawn[:, -1])
    tail = _expanded_tail(sums, sizes, confidence)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@lru_cache(maxsize=4)  # numbers of seeds and scenes differ only between test datasets and where seeds are missing
def _resamples(seeds: int, scenes: int) -> tuple[Floats, Floats]:
    """Draw how often each seed and each scene counts: (RESAMPLES, seeds) and (RESAMPLES, scenes)."""
    random = numpy_generator("bootstrap", seeds, scenes)
    drawn = [random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) for n in (seeds, scenes)]
    return drawn[0].astype(float), drawn[1].astype(float)


def _expanded_tail(sums: Floats, sizes: Floats, confidence: float) -> float:
    """Return the share of the resamples to cut off at each end."""
    overall = sums.sum() / (len(sums) * sizes.sum())
    per_seed = sums.sum(axis=1) / sizes.sum() - overall
    per_scene = (sums.mean(axis=0) - overall * sizes) / sizes.mean()
    # Variances of the two resampled means: as the bootstrap sees them, which is too small, and unbiased.
    units = [values for values in (per_seed, per_scene) if len(values) > 1]
    seen = np.array([np.mean(values**2) / len(values) for values in units])
    unbiased = np.array([value * len(values) / (len(values) - 1) for value, values in zip(seen, units, strict=True)])
    if not seen.sum():
        return (1 - confidence) / 2
    degrees = unbiased.sum() ** 2 / sum(v**2 / (len(u) - 1) for v, u in zip(unbiased, units, strict=True))
    stretch = math.sqrt(unbiased.sum() / seen.sum())
    return float(stats.norm.sf(stretch * stats.t.isf((1 - confidence) / 2, degrees)))

"""Pair the scores of two rows by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

UNSEEDED = "unseeded"
"""Stands for the seed of a row that is scored once, such as the unadapted backbone."""

DIVERGED = "diverged"
"""Why a seed is left out whose run has no weights worth scoring."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Differences `row - compared_with` of one backbone, dataset and metric.

    differences: (seeds, images), finite, one line for each of `seeds`. scenes: (images,), the scene of each image; empty
    if they are not known.
    left_out: seed to the reason why it could not be paired. row_mean, compared_mean: means over the paired seeds, NaN
    if there are none. correlation: Pearson's, of the two rows' means over the seeds; pairing helps where it is above 0.
    NaN below three seeds, and for a row that is scored once.
    """

    differences: Floats
    scenes: tuple[str, ...]
    seeds: tuple[int, ...]
    left_out: Mapping[int, str]
    row_mean: float
    compared_mean: float
    correlation: float

    @property
    def by_seed(self) -> Floats:
        """Mean difference over the images, (seeds,)."""
        return self.differences.mean(axis=1) if self.differences.size else np.empty(0)


def seed_mean(values: Iterable[float]) -> float:
    """Take the mean over seeds, rounded once; NaN if there are no values or one of them is NaN."""
    given = list(values)
    return statistics.fmean(given) if given else math.nan


def row_names(scores: pd.DataFrame) -> pd.Series[str]:
    """Return `<baseline>/<variant>` for every line, or the baseline alone if the variant is empty (`unadapted`)."""
    variant = scores["variant"].fillna("").astype(str)
    separator = np.where(variant == "", "", "/")
    return scores["baseline"].astype(str) + separator + variant


def seed_tables(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Arrange the scores of each row as a table, seeds by images; lines without a seed go under `UNSEEDED`.

    scores: lines of one backbone, dataset and metric. Null and missing values become NaN. Raises `ValueError` if a seed
    has two values for one image.
    """
    seeds = scores["seed"].astype(object).where(scores["seed"].notna(), UNSEEDED)
    table = scores.assign(seed=seeds, row=row_names(scores)).pivot(
        index=["row", "seed"], columns="image", values="value"
    )
    return {str(row): group.droplevel("row").astype(float) for row, group in table.groupby(level="row")}


def pair(
    tables: Mapping[str, pd.DataFrame],
    row: str,
    compared_with: str,
    scenes: Mapping[str, str] | None,
    seeds: Sequence[int] | None = None,
    diverged: Collection[int] = (),
) -> Pairs:
    """Pair two rows by seed.

    tables: from `seed_tables`, for one backbone, dataset and metric. scenes: image to scene, None if not known; an
    image that is missing from it is its own scene. seeds: the planned seeds, by default those found. diverged: the seeds
    with which a run of either row diverged.

    A row without seeds (the unadapted backbone, scored once) is paired with every seed of the other row. A seed with a
    missing or infinite value or a diverged run is left out.
    """
    left, right = (tables.get(name, pd.DataFrame()) for name in (row, compared_with))
    planned = sorted(set(seeds) if seeds is not None else {s for s in [*left.index, *right.index] if s != UNSEEDED})
    paired, left_out = [], {}
    for seed in planned:
        problem = DIVERGED if seed in diverged else _problem(left, seed) or _problem(right, seed)
        if problem:
            left_out[seed] = problem
        else:
            paired.append(seed)
    images = [str(image) for image in left.columns.union(right.columns)]
    a = np.array([_values(left, seed) for seed in paired]).reshape(len(paired), len(images))
    b = np.array([_values(right, seed) for seed in paired]).reshape(len(paired), len(images))
    means = a.mean(axis=1) if a.size else np.empty(0), b.mean(axis=1) if b.size else np.empty(0)
    return Pairs(
        differences=a - b,
        scenes=() if scenes is None else tuple(scenes.get(image, image) for image in images),
        seeds=tuple(paired),
        left_out=left_out,
        row_mean=seed_mean(means[0]),
        compared_mean=seed_mean(means[1]),
        correlation=_correlation(*means),
    )


def _correlation(a: Floats, b: Floats) -> float:
    constant = any(np.ptp(values) <= 1e-12 * np.abs(values).max() for values in (a, b)) if len(a) else True
    return math.nan if len(a) < 3 or constant else float(np.corrcoef(a, b)[0, 1])


def _key(table: pd.DataFrame, seed: int) -> int | str:
    return UNSEEDED if list(table.index) == [UNSEEDED] else seed


def _values(table: pd.DataFrame, seed: int) -> Floats:
    return table.loc[_key(table, seed)].to_numpy(dtype=float)


def _problem(table: pd.DataFrame, seed: int) -> str | None:
    if _key(table, seed) not in table.index:
        return "not scored"
    values = _values(table, seed)
    if not values.size or np.isnan(values).any():
        return "missing value"
    return None if np.isfinite(values).all() else "infinite value"

"""Test differences between two table rows, paired by seed.

Functions take score frames: one line per image and metric, with the columns of `scores.parquet`. A difference is always
the raw `row - compared_with`; `better` says which of the two the metric favours. The unit of the tests is the seed: runs
with the same seed saw the same data, so their two means over the test images form a pair. Images are not independent
units, since they share the trained weights; they enter through the bootstrap interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special, stats

from adaptsr.randomness import numpy_generator

ALPHA = 0.05
RESAMPLES = 10_000
UNSEEDED = "unseeded"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """Comparisons that share Holm's correction: each of `rows` against `compared_with`, all `<baseline>/<variant>`."""

    title: str
    rows: tuple[str, ...]
    compared_with: str


@dataclass(frozen=True)
class Pairs:
    """Differences `row - compared_with` of one backbone, dataset and metric.

    differences: (seeds, images), finite. row_mean, compared_mean: means over the paired seeds.
    scenes: (images,), the scene of each image. left_out: seed to the reason why it was not paired.
    """

    differences: Floats
    scenes: tuple[str, ...]
    seeds: tuple[int, ...]
    left_out: Mapping[int, str]
    row_mean: float
    compared_mean: float

    @property
    def by_seed(self) -> Floats:
        """Return each seed's mean difference over the images, (seeds,)."""
        return self.differences.mean(axis=1) if self.differences.size else np.empty(0)


def row_names(scores: pd.DataFrame) -> pd.Series[str]:
    """Return `<baseline>/<variant>` for every line, or `<baseline>` if it has no variant (`unadapted`)."""
    variant = scores["variant"].fillna("").astype(str)
    separator = np.where(variant == "", "", "/")
    return scores["baseline"].astype(str) + separator + variant


def seed_tables(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return a table of values (seeds, images) for each row; lines without a seed have the index `UNSEEDED`.

    `scores`: lines of one backbone, dataset and metric. Null or missing values become NaN.
    Raises `ValueError` if a seed has two values for one image.
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
    scenes: Mapping[str, str],
    seeds: Sequence[int] | None = None,
) -> Pairs:
    """Pair two rows by seed.

    `tables`: from `seed_tables`, of one backbone, dataset and metric. `scenes`: image to scene; an image that is missing
    is its own scene. `seeds`: the planned seeds; default: those found. A row without seeds (the unadapted backbone,
    scored once) is paired with every seed of the other row. A seed with a missing or infinite value is not paired.
    """
    left, right = (tables.get(name, pd.DataFrame()) for name in (row, compared_with))
    planned = sorted(set(seeds) if seeds is not None else {s for s in [*left.index, *right.index] if s != UNSEEDED})
    paired, left_out = [], {}
    for seed in planned:
        problem = _problem(left, seed) or _problem(right, seed)
        if problem:
            left_out[seed] = problem
        else:
            paired.append(seed)
    images = [str(image) for image in left.columns.union(right.columns)]
    a = np.array([_values(left, seed) for seed in paired]).reshape(len(paired), len(images))
    b = np.array([_values(right, seed) for seed in paired]).reshape(len(paired), len(images))
    return Pairs(
        differences=a - b,
        scenes=tuple(scenes.get(image, image) for image in images),
        seeds=tuple(paired),
        left_out=left_out,
        row_mean=float(a.mean()) if a.size else math.nan,
        compared_mean=float(b.mean()) if b.size else math.nan,
    )


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


def compare(
    tables: Mapping[str, pd.DataFrame],
    row: str,
    compared_with: str,
    scenes: Mapping[str, str],
    *,
    lower_better: bool = False,
    seeds: Sequence[int] | None = None,
) -> dict[str, object]:
    """Return one line of `significance`, except the columns that need the whole family (Holm's p and the verdict).

    Takes the arguments of `pair`. Undefined statistics are NaN: all but the means below two seeds, the t test if all
    seeds differ by the same amount, Hedges' correction below three seeds.
    """
    pairs = pair(tables, row, compared_with, scenes, seeds)
    by_seed = pairs.by_seed
    n = len(by_seed)
    difference = float(by_seed.mean()) if n else math.nan
    sd = float(by_seed.std(ddof=1)) if n > 1 else math.nan
    constant = n > 1 and _is_constant(by_seed, pairs)
    sd = 0.0 if constant else sd
    difference = 0.0 if constant and _is_zero(difference, pairs) else difference
    testable = n > 1 and not constant
    t = difference / (sd / math.sqrt(n)) if testable else math.nan
    d_z = difference / sd if testable else math.nan
    low, high = bootstrap_interval(pairs.differences, pairs.scenes)
    return {
        "row": row,
        "compared_with": compared_with,
        "seeds": n,
        "seeds_left_out": len(pairs.left_out),
        "left_out": _listed(pairs.left_out),
        "images": len(pairs.scenes),
        "scenes": len(set(pairs.scenes)),
        "row_mean": pairs.row_mean,
        "compared_mean": pairs.compared_mean,
        "difference": difference,
        "sd": sd,
        "low": low,
        "high": high,
        "t": t,
        "p": float(2 * stats.t.sf(abs(t), n - 1)) if testable else math.nan,
        "wilcoxon_p": wilcoxon_p(by_seed) if testable else math.nan,
        "d_z": d_z,
        "g_z": d_z * hedges_correction(n - 1),
        "better": _better(difference, lower_better),
    }


def _listed(left_out: Mapping[int, str]) -> str:
    """Format the seeds by reason: `missing value: seeds 1, 2; not scored: seed 4`."""
    reasons = sorted(set(left_out.values()))
    seeds = {reason: [str(seed) for seed, other in left_out.items() if other == reason] for reason in reasons}
    return "; ".join(f"{reason}: seed{'s' if len(of) > 1 else ''} {', '.join(of)}" for reason, of in seeds.items())


def _is_zero(value: float, pairs: Pairs) -> bool:
    return abs(value) <= 1e-12 * max(abs(pairs.row_mean), abs(pairs.compared_mean))


def _is_constant(by_seed: Floats, pairs: Pairs) -> bool:
    """Return whether all seeds have the same difference, up to rounding."""
    return _is_zero(float(np.ptp(by_seed)), pairs)


def _better(difference: float, lower_better: bool) -> str:
    if math.isnan(difference) or difference == 0:
        return "none"
    return "row" if (difference < 0) == lower_better else "compared_with"


def wilcoxon_p(differences: Floats) -> float:
    """Return the two-sided p of Wilcoxon's signed rank test, exact without ties; NaN if all differences are zero."""
    if len(differences) < 2 or not np.any(differences):
        return math.nan
    return float(stats.wilcoxon(differences).pvalue)


def hedges_correction(degrees: int) -> float:
    """Return the factor that removes the small-sample bias of d (Hedges 1981, exact); NaN below 2 degrees of freedom."""
    if degrees < 2:
        return math.nan
    logarithm = special.gammaln(degrees / 2) - special.gammaln((degrees - 1) / 2)
    return float(math.exp(logarithm) / math.sqrt(degrees / 2))


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p values in the given order; NaN stays NaN and does not count as a test."""
    values = np.asarray(p, dtype=float)
    adjusted = np.full(len(values), math.nan)
    order = [i for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]
    running = 0.0
    for position, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - position) * values[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]


def bootstrap_interval(differences: Floats, scenes: Sequence[str], confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval of the mean difference, from a bootstrap crossed over seeds and scenes.

    `differences`: (seeds, images), finite. Seeds and scenes are drawn independently, with replacement; the images of a
    scene stay together (Owen 2007, "The pigeonhole bootstrap"). Plain percentiles of so few units are too narrow (five
    seeds: 84% instead of 95%). So their level is widened until a normal sample of that size would give Student's
    interval (the expanded percentiles of Hesterberg 2015), with Satterthwaite's degrees of freedom for the shares of
    seeds and scenes in the variance. With one scene the interval is over seeds only. (NaN, NaN) below two seeds.
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


@lru_cache(maxsize=4)  # one for each test dataset of the paper, and one for a set with missing seeds
def _resamples(seeds: int, scenes: int) -> tuple[Floats, Floats]:
    """Draw how often each seed and each scene occurs: (resamples, seeds) and (resamples, scenes)."""
    random = numpy_generator("bootstrap", seeds, scenes)
    drawn = [random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) for n in (seeds, scenes)]
    return drawn[0].astype(float), drawn[1].astype(float)


def _expanded_tail(sums: Floats, sizes: Floats, confidence: float) -> float:
    """Return the share of resamples to cut at each end."""
    overall = sums.sum() / (len(sums) * sizes.sum())
    per_seed = sums.sum(axis=1) / sizes.sum() - overall
    per_scene = (sums.mean(axis=0) - overall * sizes) / sizes.mean()
    # Variances of the two resampled means: as the bootstrap sees them, and corrected for their bias.
    units = [values for values in (per_seed, per_scene) if len(values) > 1]
    seen = np.array([np.mean(values**2) / len(values) for values in units])
    unbiased = np.array([value * len(values) / (len(values) - 1) for value, values in zip(seen, units, strict=True)])
    if not seen.sum():
        return (1 - confidence) / 2
    degrees = unbiased.sum() ** 2 / sum(v**2 / (len(u) - 1) for v, u in zip(unbiased, units, strict=True))
    stretch = math.sqrt(unbiased.sum() / seen.sum())
    return float(stats.norm.sf(stretch * stats.t.isf((1 - confidence) / 2, degrees)))


def power(n: int, effect: float, alpha: float = ALPHA) -> float:
    """Return the power of a two-sided paired t test of `n` pairs for a mean difference of `effect` standard deviations."""
    if n < 2:
        return 0.0
    critical = stats.t.isf(alpha / 2, n - 1)
    noncentrality = effect * math.sqrt(n)
    upper = stats.nct.sf(critical, n - 1, noncentrality)
    lower = stats.nct.cdf(-critical, n - 1, noncentrality)
    return float(upper + (0.0 if math.isnan(lower) else lower))


def minimal_detectable_difference(n: int, sd: float = 1.0, target: float = 0.8, alpha: float = ALPHA) -> float:
    """Return the smallest mean difference that a paired t test of `n` pairs finds with power `target`.

    The unit is that of `sd`. NaN below two pairs.
    """
    if n < 2:
        return math.nan
    upper = 1.0
    while power(n, upper, alpha) < target:
        upper *= 2
    return sd * float(optimize.brentq(lambda effect: power(n, effect, alpha) - target, 0.0, upper, xtol=1e-10))


def seeds_note(n: int, tests: int = 1, alpha: float = ALPHA) -> str:
    """Say in words what `n` seeds can and cannot show; `tests` is the size of the largest family that Holm corrects."""
    if n < 2:
        return "With fewer than two seeds no difference can be tested: what is shown is a single outcome."
    first = f"With {n} seeds the paired t test finds, with 80% power at the {alpha:.0%} level, only mean differences of at least {minimal_detectable_difference(n, alpha=alpha):.2f} standard deviations of the paired differences"
    if tests > 1:
        corrected = minimal_detectable_difference(n, alpha=alpha / tests)
        first += f" ({corrected:.2f} at the strictest level of Holm's correction of {tests} tests)"
    floor = 2 / 2**n
    wilcoxon = f"Wilcoxon's p cannot fall below 2/2^{n} = {floor:.3g}"
    wilcoxon += f", so it can never reach {alpha:g} and is shown only" if floor > alpha else "; it is shown only"
    return f"{first}; a smaller difference can be real and missed, so “not significant” is no evidence of equality. {wilcoxon}."


def significance(
    scores: pd.DataFrame,
    comparisons: Sequence[Family],
    *,
    backbones: Sequence[str],
    datasets: Sequence[str],
    metrics: Sequence[str],
    scenes: Mapping[str, Mapping[str, str]],
    lower_better: Mapping[str, bool],
    seeds: Sequence[int] | None = None,
    alpha: float = ALPHA,
) -> pd.DataFrame:
    """Test all comparisons; return one line per comparison, backbone, dataset, metric and row, in that order.

    `scenes`: dataset to (image to scene). `lower_better`: metric to whether lower is better. `p_holm` is corrected within
    one comparison, backbone, dataset and metric, over the `tests` that were possible. `significant` means
    p_holm < alpha; `better` is the direction of the mean difference alone.
    """
    lines = list(_lines(scores, comparisons, backbones, datasets, metrics, scenes, lower_better, seeds))
    if not lines:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.DataFrame(lines)
    family = frame.groupby(["comparison", "backbone", "dataset", "metric"], sort=False)["p"]
    frame["p_holm"] = family.transform(lambda p: holm(p.tolist()))
    frame["tests"] = family.transform("count").astype(int)
    frame["significant"] = frame["p_holm"] < alpha
    judged = frame[["seeds", "difference", "low", "high", "p", "p_holm", "better"]].to_numpy().tolist()
    frame["verdict"] = [verdict(n, d, (low, high), p, p_h, side, alpha) for n, d, low, high, p, p_h, side in judged]
    return frame[COLUMNS]


COLUMNS = [
    "comparison",
    "backbone",
    "dataset",
    "metric",
    "row",
    "compared_with",
    "seeds",
    "seeds_left_out",
    "left_out",
    "images",
    "scenes",
    "row_mean",
    "compared_mean",
    "difference",
    "sd",
    "low",
    "high",
    "t",
    "p",
    "p_holm",
    "tests",
    "wilcoxon_p",
    "d_z",
    "g_z",
    "better",
    "significant",
    "verdict",
]


def _lines(
    scores: pd.DataFrame,
    comparisons: Sequence[Family],
    backbones: Sequence[str],
    datasets: Sequence[str],
    metrics: Sequence[str],
    scenes: Mapping[str, Mapping[str, str]],
    lower_better: Mapping[str, bool],
    seeds: Sequence[int] | None,
) -> Iterator[dict[str, object]]:
    cells = {key: seed_tables(cell) for key, cell in scores.groupby(["backbone", "dataset", "metric"])}
    for family in comparisons:
        for backbone in backbones:
            for dataset in datasets:
                for metric in metrics:
                    cell = cells.get((backbone, dataset, metric), {})
                    for row in family.rows:
                        yield {
                            "comparison": family.title,
                            "backbone": backbone,
                            "dataset": dataset,
                            "metric": metric,
                            **compare(
                                cell,
                                row,
                                family.compared_with,
                                scenes.get(dataset, {}),
                                lower_better=lower_better[metric],
                                seeds=seeds,
                            ),
                        }


def verdict(
    seeds: int,
    difference: float,
    interval: tuple[float, float],
    p: float,
    p_holm: float,
    better: str,
    alpha: float = ALPHA,
) -> str:
    """Say in words what a line of `significance` shows about its row, and no more."""
    if seeds == 0:
        return "nothing to compare"
    if seeds == 1:
        return "one pair of seeds: no test"
    if math.isnan(p):
        return f"the same {'difference' if difference else 'score'} in every seed: no test"
    if p_holm < alpha:
        low, high = interval
        on_these_images = low <= 0 <= high
        side = "better" if better == "row" else "worse"
        return f"{side} on these images; not shown for other scenes" if on_these_images else side
    return "not significant" + (" after Holm's correction" if p < alpha else "")

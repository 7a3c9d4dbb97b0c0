"""Compare rows in pairs, and say what each difference shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from adaptsr.statistics.bootstrap import bootstrap_interval
from adaptsr.statistics.corrections import hedges_correction, holm, wilcoxon_p
from adaptsr.statistics.detection import ALPHA
from adaptsr.statistics.pairing import Floats, Pairs, pair, seed_mean, seed_tables


@dataclass(frozen=True)
class Family:
    """Comparisons that are corrected together: each of `rows` against `compared_with`, named `<baseline>/<variant>`."""

    title: str
    rows: tuple[str, ...]
    compared_with: str


def compare(
    tables: Mapping[str, pd.DataFrame],
    row: str,
    compared_with: str,
    scenes: Mapping[str, str],
    *,
    lower_better: bool = False,
    seeds: Sequence[int] | None = None,
) -> dict[str, object]:
    """Compute one line of `significance`, except Holm's p and the verdict, which need the whole family.

    Arguments as for `pair`; lower_better: whether the metric favours the lower value. Undefined statistics are NaN: all
    but the means below two seeds, the t test if the difference is the same in all seeds, Hedges' correction below three
    seeds.
    """
    pairs = pair(tables, row, compared_with, scenes, seeds)
    by_seed = pairs.by_seed
    n = len(by_seed)
    difference = seed_mean(by_seed)
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
    """Format as `missing value: seeds 1, 2; not scored: seed 4`."""
    reasons = sorted(set(left_out.values()))
    seeds = {reason: [str(seed) for seed, other in left_out.items() if other == reason] for reason in reasons}
    return "; ".join(f"{reason}: seed{'s' if len(of) > 1 else ''} {', '.join(of)}" for reason, of in seeds.items())


def _is_zero(value: float, pairs: Pairs) -> bool:
    return abs(value) <= 1e-12 * max(abs(pairs.row_mean), abs(pairs.compared_mean))


def _is_constant(by_seed: Floats, pairs: Pairs) -> bool:
    """Return whether the seeds differ only by rounding."""
    return _is_zero(float(np.ptp(by_seed)), pairs)


def _better(difference: float, lower_better: bool) -> str:
    if math.isnan(difference) or difference == 0:
        return "none"
    return "row" if (difference < 0) == lower_better else "compared_with"


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
    """Compare all rows of all families: one line per comparison, backbone, dataset, metric and row, in that order.

    scenes: dataset to (image to scene). lower_better: metric to whether lower is better. The columns are `COLUMNS`:
    `p_holm` is corrected within one comparison, backbone, dataset and metric, over the `tests` that could be made;
    `significant` means p_holm < alpha; `better` is the direction of the mean difference alone.
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
    """Say in words what a line of `significance` shows about its row, and no more than that."""
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

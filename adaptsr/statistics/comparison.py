"""Compare rows in pairs, for other seeds and for other seeds and scenes, and say what each difference shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from adaptsr.statistics.corrections import hedges_correction, holm, sign_flip_p
from adaptsr.statistics.pairing import DIVERGED, Pairs, pair, seed_mean, seed_tables
from adaptsr.statistics.uncertainty import (
    Uncertainty,
    effective_scenes,
    over_seeds,
    over_seeds_and_scenes,
    scene_totals,
)

ALPHA = 0.05
"""Level of the families of tests: two-sided for differences, one-sided for equivalence and non-inferiority."""
MIN_SCENES = 6
"""Below so many scenes, nothing is said about other scenes."""
SCOPES = ("seeds", "scenes")
"""What a statement is about: other seeds on these images, or other seeds and other scenes."""
PRIMARY, EXPLORATORY = "primary", "exploratory"


@dataclass(frozen=True)
class Comparison:
    """Each of `rows` against `compared_with`, named `<baseline>/<variant>`."""

    title: str
    rows: tuple[str, ...]
    compared_with: str


class Measure(NamedTuple):
    """A metric to compare by. margin: the largest difference, in its unit, that does not matter; None if undeclared."""

    name: str
    lower_better: bool = False
    margin: float | None = None


def compare(
    tables: Mapping[str, pd.DataFrame],
    row: str,
    compared_with: str,
    scenes: Mapping[str, str] | None,
    *,
    measure: Measure,
    seeds: Sequence[int] | None = None,
    diverged: Collection[int] = (),
) -> dict[str, Any]:
    """Compute one line of `significance`, except what needs the whole family.

    Other arguments as for `pair`. Undefined statistics are NaN: all but the means below two seeds; p values if the
    difference is the same in all seeds or a run diverged, as the seeds that are left do not stand for all, and those about
    scenes below `MIN_SCENES` (`effective_scenes`); Hedges' correction and the correlation below three seeds.
    """
    pairs = pair(tables, row, compared_with, scenes, seeds, diverged)
    by_seed = pairs.by_seed
    n = len(by_seed)
    constant = n > 1 and _is_zero(float(np.ptp(by_seed)), pairs)  # the seeds differ only by rounding
    difference = seed_mean(by_seed)
    difference = 0.0 if constant and _is_zero(difference, pairs) else difference
    sd = 0.0 if constant else float(by_seed.std(ddof=1)) if n > 1 else math.nan
    lost = sum(reason == DIVERGED for reason in pairs.left_out.values())
    testable = n > 1 and not constant and not lost
    d_z = difference / sd if testable else math.nan
    effective = effective_scenes(pairs.scenes)
    of_scope: dict[str, Uncertainty | None] = {
        "seeds": over_seeds(pairs.differences) if testable else None,
        "scenes": over_seeds_and_scenes(pairs.differences, pairs.scenes)
        if testable and effective >= MIN_SCENES
        else None,
    }
    return {
        "row": row,
        "compared_with": compared_with,
        "seeds": n,
        "seeds_left_out": len(pairs.left_out),
        "left_out": _listed(pairs.left_out),
        "diverged": lost,
        "images": pairs.differences.shape[1],
        "scenes": len(set(pairs.scenes)),
        "effective_scenes": effective,
        "row_mean": pairs.row_mean,
        "compared_mean": pairs.compared_mean,
        "difference": difference,
        "sd": sd,
        "correlation": pairs.correlation,
        "margin": math.nan if measure.margin is None else measure.margin,
        "better": _better(difference, measure.lower_better),
        **{f"{key}_{scope}": value for scope in SCOPES for key, value in _tests(difference, of_scope[scope], measure)},
        **{f"uncertainty_{scope}": of_scope[scope] for scope in SCOPES},
        "sign_flip_p": sign_flip_p(scene_totals(pairs.differences, pairs.scenes))
        if testable and effective
        else math.nan,
        "d_z": d_z,
        "g_z": d_z * hedges_correction(n - 1),
    }


def _tests(difference: float, uncertainty: Uncertainty | None, measure: Measure) -> Iterator[tuple[str, float]]:
    """Yield the interval, and the p values of: no difference; one beyond the margin; worse by at least the margin."""
    if uncertainty is None:
        yield from ((key, math.nan) for key in (*INTERVAL, *TESTS))
        return
    half = uncertainty.half_width(ALPHA)
    gain = -difference if measure.lower_better else difference
    yield from zip(INTERVAL, (difference - half, difference + half), strict=True)
    yield "p", uncertainty.p(difference)
    margin = math.nan if measure.margin is None else measure.margin
    yield "p_equivalent", uncertainty.p_above(margin - abs(difference))
    yield "p_not_inferior", uncertainty.p_above(margin + gain)


INTERVAL = ("low", "high")
TESTS = ("p", "p_equivalent", "p_not_inferior")
POWER = ("detectable", "provable_margin")


def _listed(left_out: Mapping[int, str]) -> str:
    """Format as `missing value: seeds 1, 2; not scored: seed 4`."""
    reasons = sorted(set(left_out.values()))
    seeds = {reason: [str(seed) for seed, other in left_out.items() if other == reason] for reason in reasons}
    return "; ".join(f"{reason}: seed{'s' if len(of) > 1 else ''} {', '.join(of)}" for reason, of in seeds.items())


def _is_zero(value: float, pairs: Pairs) -> bool:
    return abs(value) <= 1e-12 * max(abs(pairs.row_mean), abs(pairs.compared_mean))


def _better(difference: float, lower_better: bool) -> str:
    if math.isnan(difference) or difference == 0:
        return "none"
    return "row" if (difference < 0) == lower_better else "compared_with"


def significance(
    scores: pd.DataFrame,
    comparisons: Sequence[Comparison],
    *,
    backbones: Sequence[str],
    datasets: Sequence[str],
    measures: Sequence[Measure],
    primary: str,
    scenes: Mapping[str, Mapping[str, str]],
    seeds: Sequence[int] | None = None,
    runs: Callable[[str, str], bool] = lambda backbone, row: True,
    apply: Callable[[str, str], bool] = lambda dataset, metric: True,
    diverged: Callable[[str, str], Collection[int]] = lambda backbone, row: (),
) -> pd.DataFrame:
    """Compare all rows of all comparisons: one line per comparison, backbone, dataset, metric and row, in that order.

    scenes: dataset to (image to scene), without the data sets whose scenes are not known. runs: whether a backbone runs a
    row at all. apply: whether a dataset has what a metric needs. diverged: the seeds with which a row diverged on a
    backbone. The columns are `COLUMNS`. A comparison has two families: `primary`, all its
    lines in the primary metric, and `exploratory`, all its lines in the others. In each, Holm's method corrects the p
    values of one question for one scope. Every line is a test of its family, made or not, but for equivalence and
    non-inferiority in metrics without a margin; `tests_<scope>` counts the lines. `detectable_<scope>` and
    `provable_margin_<scope>` are those of `Uncertainty` at the strictest level of Holm's method.
    """
    cells = {key: seed_tables(cell) for key, cell in scores.groupby(["backbone", "dataset", "metric"])}
    lines = [
        {
            "comparison": comparison.title,
            "family": PRIMARY if measure.name == primary else EXPLORATORY,
            "backbone": backbone,
            "dataset": dataset,
            "metric": measure.name,
            **compare(
                cells.get((backbone, dataset, measure.name), {}),
                row,
                comparison.compared_with,
                scenes.get(dataset),
                measure=measure,
                seeds=seeds,
                diverged={*diverged(backbone, row), *diverged(backbone, comparison.compared_with)},
            ),
        }
        for comparison in comparisons
        for backbone in backbones
        for dataset in datasets
        for measure in measures
        for row in comparison.rows
        if runs(backbone, row) and apply(dataset, measure.name)
    ]
    if not lines:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.DataFrame(lines)
    families = frame.groupby(["comparison", "family"], sort=False)
    for scope in SCOPES:
        frame[f"tests_{scope}"] = families[f"p_{scope}"].transform("size").astype(int)
        for test in TESTS:
            asked = frame if test == "p" else frame[frame["margin"].notna()]
            of_family = asked.groupby(["comparison", "family"], sort=False)[f"{test}_{scope}"]
            frame[f"{test}_holm_{scope}"] = of_family.transform(lambda p: holm(p.tolist()))
        levels = zip(frame[f"uncertainty_{scope}"], ALPHA / frame[f"tests_{scope}"], strict=True)
        found = [(u.detectable(level), u.provable_margin(level)) if u else (math.nan, math.nan) for u, level in levels]
        frame[[f"{column}_{scope}" for column in POWER]] = found
        frame[f"verdict_{scope}"] = [verdict(line, scope) for line in _records(frame)]
    return frame[COLUMNS]


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    return ({str(key): value for key, value in line.items()} for line in frame.to_dict("records"))


COLUMNS = [
    *("comparison", "family", "backbone", "dataset", "metric", "row", "compared_with"),
    *(
        "seeds",
        "seeds_left_out",
        "left_out",
        "diverged",
        "images",
        "scenes",
        "effective_scenes",
        "row_mean",
        "compared_mean",
    ),
    *("difference", "sd", "correlation", "margin", "better"),
    *(
        f"{column}_{scope}"
        for scope in SCOPES
        for column in (
            "verdict",
            *INTERVAL,
            "tests",
            *(name for test in TESTS for name in (test, f"{test}_holm")),
            *POWER,
        )
    ),
    *("sign_flip_p", "d_z", "g_z"),
]

BETTER, WORSE, EQUIVALENT, UNDECIDED = VERDICTS = ("better", "worse", "equivalent", "undecided")
NO_STATEMENT = "no statement"
"""What stands for a verdict on other scenes, before the reason, where the scenes cannot carry one."""


def verdict(line: Mapping[str, Any], scope: str) -> str:
    """Say what a line of `significance` shows about its row within a scope, and no more than that.

    One of `VERDICTS` if it was tested, else why not. A difference that is shown to be smaller than the margin is
    equivalent, even if it is shown not to be 0.
    """
    if line["diverged"]:
        return f"no test: {line['diverged']} of {line['seeds'] + line['seeds_left_out']} seeds diverged"
    if line["seeds"] == 0:
        return "nothing to compare"
    if line["seeds"] == 1:
        return "one pair of seeds: no test"
    if line["sd"] == 0:
        return f"the same {'difference' if line['difference'] else 'score'} in every seed: no test"
    if math.isnan(line[f"p_{scope}"]):
        count, effective = line["scenes"], line["effective_scenes"]
        if not count:
            return f"{NO_STATEMENT}: the scenes of these images are not known"
        if count < MIN_SCENES:
            return f"{NO_STATEMENT}: {count} scene{'s' if count > 1 else ''}, fewer than {MIN_SCENES}"
        return f"{NO_STATEMENT}: {count} scenes, which weigh as {effective:.1f} of one size, fewer than {MIN_SCENES}"
    if line[f"p_equivalent_holm_{scope}"] < ALPHA:
        return EQUIVALENT
    if line[f"p_holm_{scope}"] < ALPHA:
        return BETTER if line["better"] == "row" else WORSE
    return UNDECIDED

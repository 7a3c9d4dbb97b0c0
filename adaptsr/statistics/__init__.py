"""Comparisons paired by seed. In: scores, one line per image and metric. Out: differences, p values, intervals, verdicts.

A difference is always `row - compared_with`, raw; `better` names the row that the metric favours.

Runs of one seed form a pair, with one difference per test image. A statement is about one of two scopes: other seeds on
these images, where the seed means are the sample; or other seeds and other scenes, where seeds and scenes are crossed
random effects. Images of one scene are never a sample of their own.

`pairing` pairs two rows by seed, `uncertainty` gives intervals and p values, `corrections` Holm's and Hedges' corrections
and the sign-flip test, `comparison` makes the whole table with its families and verdicts, and `simulation` counts how
often all this errs.
"""

from adaptsr.statistics.comparison import (
    ALPHA,
    COLUMNS,
    EXPLORATORY,
    MIN_SCENES,
    PRIMARY,
    SCOPES,
    VERDICTS,
    Comparison,
    Measure,
    compare,
    significance,
)
from adaptsr.statistics.corrections import hedges_correction, holm, sign_flip_p
from adaptsr.statistics.pairing import UNSEEDED, Pairs, pair, row_names, seed_mean, seed_tables
from adaptsr.statistics.uncertainty import Uncertainty, over_seeds, over_seeds_and_scenes

__all__ = [
    "ALPHA",
    "COLUMNS",
    "EXPLORATORY",
    "MIN_SCENES",
    "PRIMARY",
    "SCOPES",
    "UNSEEDED",
    "VERDICTS",
    "Comparison",
    "Measure",
    "Pairs",
    "Uncertainty",
    "compare",
    "hedges_correction",
    "holm",
    "over_seeds",
    "over_seeds_and_scenes",
    "pair",
    "row_names",
    "seed_mean",
    "seed_tables",
    "sign_flip_p",
    "significance",
]

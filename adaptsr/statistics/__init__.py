"""Tests paired by seed. In: scores, one line per image and metric. Out: differences, p values, intervals, verdicts.

A difference is always `row - compared_with`, raw; `better` names the row that the metric favours.

The unit of the tests is the seed. Runs of one seed saw the same data, so their means over the test images form a pair.
Images are not units of the tests, because they share the trained weights; they enter through the bootstrap interval.

`pairing` pairs two rows by seed, `corrections` holds Wilcoxon's test, Hedges' and Holm's corrections, `bootstrap` the
intervals, `detection` what a number of seeds can detect, and `comparison` makes the whole table.
"""

from adaptsr.statistics.bootstrap import bootstrap_interval
from adaptsr.statistics.comparison import COLUMNS, Family, compare, significance, verdict
from adaptsr.statistics.corrections import hedges_correction, holm, wilcoxon_p
from adaptsr.statistics.detection import ALPHA, minimal_detectable_difference, power, seeds_note
from adaptsr.statistics.pairing import UNSEEDED, Pairs, pair, row_names, seed_mean, seed_tables

__all__ = [
    "ALPHA",
    "COLUMNS",
    "UNSEEDED",
    "Family",
    "Pairs",
    "bootstrap_interval",
    "compare",
    "hedges_correction",
    "holm",
    "minimal_detectable_difference",
    "pair",
    "power",
    "row_names",
    "seed_mean",
    "seed_tables",
    "seeds_note",
    "significance",
    "verdict",
    "wilcoxon_p",
]

"""Measure how well the importance scores of single mini-batches agree with each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from adaptsr.adaptation.allocation import importance, rank_correlation
from adaptsr.backbones.sites import select
from adaptsr.config import schema
from adaptsr.runs.matrix import Matrix
from adaptsr.training.context import TrainingContext


@dataclass(frozen=True)
class Stability:
    """Spearman correlations between the importance scores that mini-batches give to the sites of a backbone."""

    backbone: str
    score: str
    sites: int
    batches: int
    batch_size: int
    pairwise: float
    """Mean over all pairs of mini-batches."""
    with_mean: float
    """Mean correlation with the mean scores."""
    minimum: float
    """The lowest of the pairs."""


def measure(matrix: Matrix, backbone: str, asked: schema.Stability) -> list[Stability]:
    """Measure every score at every batch size."""
    bench = TrainingContext.of(matrix, backbone)
    sizes = asked.batch_sizes or [matrix.profile.schedule.batch_size]
    return [_measure(bench, score, size, asked.batches) for score, size in product(asked.scores, sizes)]


def _measure(bench: TrainingContext, score: str, size: int, batches: int) -> Stability:
    """Score the sites of a backbone once for each of `batches` calibration batches and correlate the results."""
    profile, sites = bench.matrix.profile, select(bench.sites)
    training = profile.schedule.model_copy(update={"batch_size": size})
    calibration = bench.calibration(training, profile.seeds[0])

    def scores_of(index: int) -> dict[str, float]:
        one = replace(calibration, batch=lambda _: calibration(index))
        return importance(bench.fresh_backbone(), sites, score, one, 1, seed=index)

    agreement = rank_correlation([scores_of(index) for index in range(batches)])
    return Stability(
        bench.name,
        score,
        len(sites),
        batches,
        size,
        pairwise=agreement["pairwise"],
        with_mean=agreement["with_mean"],
        minimum=agreement["minimum"],
    )


def as_text(found: Stability) -> str:
    """Format the correlations for a terminal."""
    return "\n".join(
        [
            f"Spearman correlation of {found.score} scores at {found.sites} sites of {found.backbone}, {found.batches} mini-batches of {found.batch_size}",
            f"  mean over all pairs      {found.pairwise:.3f}",
            f"  mean against the mean    {found.with_mean:.3f}",
            f"  lowest pair              {found.minimum:.3f}",
        ]
    )

"""Estimate seconds of training and scoring from the times that a profile's paper publishes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adaptsr.adaptation.baseline_files import Variant
from adaptsr.config import schema
from adaptsr.data.kinds import SplitSize, kind_of
from adaptsr.metrics.conventions import scoring_of
from adaptsr.metrics.costs import seconds_of
from adaptsr.papers import Timing, load_paper
from adaptsr.runs.matrix import Matrix

PIXELS_OF_AN_ITERATION = 8 * 256**2


def timings(profile: schema.Profile) -> Mapping[str, Timing]:
    """Return the published timings of the profile's paper by name of the weights; none without a paper."""
    return load_paper(profile.paper).TIMINGS if profile.paper else {}


def training_seconds(matrix: Matrix, backbone: str, variant: Variant, timing: Timing) -> float:
    """Return the seconds of one run, without validations."""
    training = matrix.training(variant, backbone)
    pixels = training.batch_size * training.crop**2
    seconds = timing.full if variant.baseline.trains_all else timing.adapted
    return training.iterations * seconds * pixels / PIXELS_OF_AN_ITERATION


def validations(training: schema.Training) -> int:
    return 1 + -(-training.iterations // training.validate_every)


def validation_seconds(matrix: Matrix, timing: Timing) -> float:
    sizes = [size_of(matrix.profile, split) for split in matrix.profile.data.followed]
    return sum(size.images * size.lr_pixels / 1e6 * timing.restoring for size in sizes)


def scoring_seconds(matrix: Matrix, tests: Sequence[schema.Split], timing: Timing) -> float:
    """Return the seconds that one run takes on these test datasets, for restoring and all metrics."""
    profile = matrix.profile
    seconds = 0.0
    for test in tests:
        metrics = [metric.name for metric in scoring_of(profile, test.dataset).metrics.values()]
        size = size_of(profile, test)
        restoring = size.lr_pixels / 1e6 * timing.restoring
        seconds += size.images * (restoring + seconds_of(metrics, size.lr_pixels * profile.scale**2))
    return seconds


def size_of(profile: schema.Profile, split: schema.Split | schema.Source) -> SplitSize:
    declared = profile.datasets[split.dataset]
    return kind_of(declared).estimate(declared, split.split, profile.scale)

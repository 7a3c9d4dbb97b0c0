"""Say what a job asks a cluster for: minutes from published times, memory from the size of a batch. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from adaptsr.config import schema
from adaptsr.papers import Timing
from adaptsr.runs import durations
from adaptsr.runs.matrix import Matrix

STARTING_MINUTES = 15
HEADROOM = 2.0
"""Factor on estimated times, which are of one RTX 4090 without other work."""
UNKNOWN_MINUTES = 240
"""For what no published time leads to, such as everything on a CPU."""
LONGEST_MINUTES = 24 * 60
"""Many partitions end there; a longer job goes on where it was in its next attempt."""
STARTING_MB = 2_000
"""What the imports take, with some room."""
GPU_MB = 8_000
"""What a process with a GPU takes of the host's memory."""
SCORING_MB = 8_000
"""What metrics take for images of 2 megapixels, and the imports."""
BYTES_OF_A_PIXEL = 30_000
"""What a step on a CPU holds for each HR pixel of a batch: SwinIR-M's, the largest of those measured."""


def training_minutes(matrix: Matrix, backbone: str, row: str, seeds: int) -> int:
    """Return the minutes of some seeds of one variant on a backbone."""
    timing = _timing(matrix, backbone)
    return _minutes(seeds * _run_seconds(matrix.untuned, backbone, row, timing) if timing else None)


def tuning_minutes(matrix: Matrix, backbone: str, row: str) -> int:
    """Return the minutes of trying one variant on a backbone at every point of the grid."""
    timing = _timing(matrix, backbone)
    points = [matrix.at(point) for point in matrix.points(row)]
    return _minutes(
        sum(len(at.profile.seeds) * _run_seconds(at, backbone, row, timing) for at in points) if timing else None
    )


def scoring_minutes(matrix: Matrix, backbone: str | None, rows: Sequence[str], dataset: str) -> int:
    """Return the minutes of scoring the runs of some rows on one test dataset."""
    timing = _timing(matrix, backbone) if backbone else None
    tests = [test for test in matrix.tests if test.dataset == dataset]
    runs = len(rows) * len(matrix.profile.seeds)
    return _minutes(runs * durations.scoring_seconds(matrix, tests, timing) if timing else None)


def training_mb(profile: schema.Profile, training: schema.Training | None) -> int:
    """Return the MB of the host's memory that a training process takes. Images are mapped and not counted."""
    if training is None:
        return STARTING_MB
    if profile.compute.device != "cpu":
        return GPU_MB
    return STARTING_MB + math.ceil(training.batch_size * training.crop**2 * BYTES_OF_A_PIXEL / 1e6)


def _timing(matrix: Matrix, backbone: str) -> Timing | None:
    profile = matrix.profile
    weights = profile.backbones[backbone].weights or ""
    return durations.timings(profile).get(weights) if profile.compute.device != "cpu" else None


def _run_seconds(matrix: Matrix, backbone: str, row: str, timing: Timing) -> float:
    variant = matrix.variant(row)
    validating = durations.validation_seconds(matrix, matrix.training(variant, backbone), timing)
    return validating + durations.training_seconds(matrix, backbone, variant, timing)


def _minutes(seconds: float | None) -> int:
    if seconds is None:
        return UNKNOWN_MINUTES
    return min(LONGEST_MINUTES, STARTING_MINUTES + math.ceil(HEADROOM * seconds / 60))

"""Estimate seconds of training and scoring from times that were published or measured. Imports no torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adaptsr.adaptation.baseline_files import Variant
from adaptsr.config import schema
from adaptsr.data.catalogue import FOLDER
from adaptsr.data.kinds import SplitSize, kind_of
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.metrics.conventions import scoring_of
from adaptsr.metrics.costs import seconds_of
from adaptsr.papers import Timing, load_paper
from adaptsr.runs.matrix import Matrix

PIXELS_OF_AN_ITERATION = 8 * 256**2


@dataclass(frozen=True)
class Measured:
    """Times that `speed.cuda` measured on one card. recipe: precision and compilation; when: date and version of the code."""

    recipe: str
    when: str
    timings: Mapping[str, Timing]


def timings(profile: schema.Profile, card: str | None = None) -> Mapping[str, Timing]:
    """Return the times of the profile's paper by name of the weights, or those measured on a card; none without a paper."""
    published = load_paper(profile.paper).TIMINGS if profile.paper else {}
    return measured(published, card).timings if card else published


def measured(published: Mapping[str, Timing], card: str) -> Measured:
    """Read the times of a card from config/timings.tsv. Raises `UserError` if it has none."""
    with (FOLDER / "timings.tsv").open(newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    own = [line for line in lines if line["card"] == card]
    if not own:
        known = {line["card"] for line in lines}
        raise UserError(f"config/timings.tsv has no card {card!r}{suggestion(card, known)}; it has {listing(known)}")
    found = {
        line["weights"]: replace(
            published[line["weights"]],
            adapted=float(line["adapted"]),
            full=float(line["full"]),
            restoring=float(line["restoring"]),
            how=line["how"],
        )
        for line in own
        if line["weights"] in published
    }
    recipe = f"training.precision: {own[0]['precision']}, training.compile: {own[0]['compile']}"
    return Measured(recipe, f"{own[0]['date']}, version {own[0]['version']}", found)


def training_seconds(matrix: Matrix, backbone: str, variant: Variant, timing: Timing) -> float:
    """Return the seconds of one run, without validations."""
    training = matrix.training(variant, backbone)
    pixels = training.batch_size * training.crop**2
    seconds = timing.full if variant.baseline.trains_all else timing.adapted
    return training.iterations * seconds * pixels / PIXELS_OF_AN_ITERATION


def validation_seconds(matrix: Matrix, training: schema.Training, timing: Timing) -> float:
    """Return the seconds that all validations of one run take."""
    validations = 1 + -(-training.iterations // training.validate_every)
    return validations * followed_seconds(matrix, training.validate_images, timing)


def followed_seconds(matrix: Matrix, images: int | None, timing: Timing) -> float:
    """Return the seconds of restoring the validation split once, or so many images of it."""
    sizes = [size_of(matrix.profile, split) for split in matrix.profile.data.followed]
    return sum(min(size.images, images or size.images) * size.lr_pixels / 1e6 * timing.restoring for size in sizes)


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

"""Choices: the grid of a profile's tuning, and the files that hold what was chosen on it. Imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from adaptsr.adaptation.baseline_files import Variant, defined_variants
from adaptsr.config.schema import TrainingChanges
from adaptsr.files import expanded, read_json, validated, write_json
from adaptsr.runs.keys import Inputs

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile

Options = Mapping[str, Any]
"""Options of training or of a method, by name."""


class Tried(pydantic.BaseModel):
    """A point of the grid with the metric's mean over the validation images for each seed; None for a diverged run."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    point: dict[str, Any]
    values: dict[int, float | None]

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None if one of them diverged."""
        values = [value for value in self.values.values() if value is not None]
        return sum(values) / len(values) if len(values) == len(self.values) else None


class Choice(pydantic.BaseModel):
    """What tuning chose for one variant on one backbone, with the curve that it chose from.

    asked: key of what was tried (`Matrix.asked_of_tuning`). options: empty if every point diverged. iterations: of one
    tuning run. seconds: training time of all of them.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    asked: str
    backbone: str
    row: str
    options: dict[str, Any]
    metric: str
    tried: list[Tried]
    iterations: int
    seconds: float
    inputs: Inputs

    @property
    def runs(self) -> int:
        return sum(len(point.values) for point in self.tried)

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


def best(tried: list[Tried], lower_is_better: bool) -> dict[str, Any]:
    """Return the point with the best mean, the first of equals; empty if every point diverged."""
    sign = 1 if lower_is_better else -1
    means = [(sign * one.mean, one.point) for one in tried if one.mean is not None]
    return min(means, key=lambda pair: pair[0])[1] if means else {}


def points_of(profile: Profile, variant: Variant) -> list[dict[str, Any]]:
    """Return the points of the grid for a variant: over training, and over the options that it has and leaves open."""
    if profile.tuning is None:
        return []
    own = defined_variants(variant.baseline, profile.baselines.get(variant.baseline.name))[variant.name]
    grid = {
        key: values
        for key, values in profile.tuning.grid.items()
        if key in TrainingChanges.model_fields or (key in variant.baseline.options and key not in own)
    }
    return [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())] if grid else []


def folder_name(point: Options) -> str:
    """Name the folder of a point's runs, such as `lr=0.002,alpha=4`."""
    text = ",".join(f"{key}={value}" for key, value in point.items())
    return "".join(sign if sign.isalnum() or sign in "=,.+-_" else "_" for sign in text)


def read_choice(path: Path) -> Choice:
    """Read a choice. Raises `UserError` if the file is missing or not a choice."""
    content = read_json(path, "the choice of `adaptsr tune`; run snakemake, which makes it")
    return validated(Choice, content, f"{path}: not a choice of tuning", "delete it and run snakemake")


def choice_path(profile: Profile, results: Path, backbone: str, row: str, asked: str) -> Path:
    """Return the file of a choice: one made before, if it is of this grid, else the one that the workflow makes."""
    name = f"{backbone}/{row}.json"
    if profile.tuning and profile.tuning.choices:
        made_before = expanded(profile.tuning.choices) / name
        if made_before.is_file() and read_choice(made_before).asked == asked:
            return made_before
    return results / "tuning" / "choices" / name

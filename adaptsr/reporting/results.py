"""Everything a report is made of, read once: scores, records and scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from adaptsr.config import UNADAPTED
from adaptsr.data.manifest import read_manifest
from adaptsr.errors import UserError
from adaptsr.records import RunRecord, read_record
from adaptsr.statistics import row_names

if TYPE_CHECKING:
    from adaptsr.config import Profile
    from adaptsr.matrix import Row


@dataclass(frozen=True)
class Results:
    """What there is of one profile.

    scores: the lines of `scores.parquet` that belong to the profile's matrix. records: by backbone, row name and seed.
    scenes: dataset to (image to scene); an image that is not in it is a scene of its own.
    """

    profile: Profile
    rows: tuple[Row, ...]
    scores: pd.DataFrame
    records: Mapping[tuple[str, str, int], RunRecord]
    scenes: Mapping[str, Mapping[str, str]]

    @property
    def datasets(self) -> list[str]:
        """Test datasets in the profile's order."""
        return list(dict.fromkeys(split.dataset for split in self.profile.data.test))

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Digits after the point by metric: 3 for what is of the size of a PSNR, 4 for what is of the size of 1."""
        finite = self.scores[self.scores["value"].abs() < math.inf]
        sizes = finite["value"].abs().groupby(finite["metric"]).median()
        return {str(metric): 3 if size >= 10 else 4 for metric, size in sizes.items()}

    def row_records(self, backbone: str, row: str) -> dict[int, RunRecord]:
        """The records of one row by seed."""
        found = {seed: self.records.get((backbone, row, seed)) for seed in self.profile.seeds}
        return {seed: record for seed, record in found.items() if record is not None}


def read_results(
    profile: Profile, rows: Sequence[Row], results_folder: Path, resources_folder: Path = Path("resources")
) -> Results:
    """Read the profile's results folder (`results/<profile>`) and the manifests of its test datasets.

    Runs that are not there are left out. `UserError` when there are no scores, or a record is damaged.
    """
    return Results(
        profile=profile,
        rows=tuple(rows),
        scores=_read_scores(results_folder / "scores.parquet", profile, rows),
        records=_read_records(results_folder, profile, rows),
        scenes={split.dataset: _read_scenes(resources_folder / split.dataset, profile) for split in profile.data.test},
    )


def _read_scores(path: Path, profile: Profile, rows: Sequence[Row]) -> pd.DataFrame:
    if not path.exists():
        raise UserError(f"{path}: no scores of profile {profile.name}; run `snakemake {path}` or `adaptsr score` first")
    try:
        scores = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a file of scores ({error}); delete it to have it made again") from None
    scores = scores.astype({"seed": "Int64"})
    seeds = scores["seed"].isin(profile.seeds) | (scores["baseline"] == UNADAPTED)
    ours = row_names(scores).isin({row.name for row in rows}) & scores["backbone"].isin(list(profile.backbones)) & seeds
    return scores[ours].reset_index(drop=True)


def _read_records(folder: Path, profile: Profile, rows: Sequence[Row]) -> dict[tuple[str, str, int], RunRecord]:
    records = {}
    for backbone in profile.backbones:
        for row in rows:
            for seed in profile.seeds:
                path = folder / backbone / row.baseline / row.variant / f"seed{seed}" / "record.json"
                if row.baseline != UNADAPTED and path.exists():
                    records[backbone, row.name, seed] = read_record(path)
    return records


def _read_scenes(folder: Path, profile: Profile) -> dict[str, str]:
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    splits = read_manifest(path).splits
    tested = [split.split for split in profile.data.test if split.dataset == folder.name]
    return {item.name: item.scene for split in tested for item in splits.get(split, [])}

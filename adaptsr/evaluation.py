"""Restoring and scoring the test images of finished runs, merged into plain backbones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adaptsr import config, records
from adaptsr.backbones import build, restore
from adaptsr.data.manifest import read_manifest
from adaptsr.data.pairs import PairSet, load_split
from adaptsr.matrix import Matrix, Row, manifest_path
from adaptsr.merging import load_run
from adaptsr.pictures import Picture, find_pictures, keep_pictures, kept_pictures
from adaptsr.scoring import Scorer, weight_files
from adaptsr.training import prepare_device

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "profile",
    "backbone",
    "baseline",
    "variant",
    "seed",
    "dataset",
    "image",
    "metric",
    "value",
    "reason",
    "color_space",
    "crop_border",
)
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One backbone with the decoded test sets and the metrics, shared by all runs scored in this process."""

    matrix: Matrix
    name: str

    @cached_property
    def device(self) -> torch.device:
        return prepare_device(self.matrix.profile.compute)

    @cached_property
    def tests(self) -> list[PairSet]:
        return [load_split(manifest_path(test.dataset), test.split) for test in self.matrix.profile.data.test]

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.matrix.profile.scoring, str(self.device))

    @cached_property
    def _conventions_key(self) -> str:
        """Changes with the metrics, the network weights that are there, and the test images."""
        scoring = self.matrix.profile.scoring
        tests = [
            [test.dataset, test.split, read_manifest(manifest_path(test.dataset)).digest(test.split)]
            for test in self.matrix.profile.data.test
        ]
        weights = [[file.metric, file.path.is_file()] for file in weight_files(scoring)]
        return records.digest({"scoring": scoring.model_dump(mode="json"), "tests": tests, "weights": weights})

    def scores(self, row: Row, seed: int | None, progress: Progress) -> pd.DataFrame | None:
        """Scores of one run, or of the unadapted backbone; None for a run that diverged.

        Kept beside the run under a key of run, metrics and test images, and only made when that is not there. The
        pictures of the profile are restored with the unadapted backbone and the runs of the first seed.
        """
        folder = self.matrix.results / self.name / row.name
        if seed is not None:
            folder = self.matrix.run_folder(self.name, row.name, seed)
            record = records.read_record(folder / "record.json")
            if record.status == "diverged":
                return None
            key = record.key
        else:
            key = records.digest(self.matrix.profile.backbones[self.name].model_dump(mode="json"))
        pictures = self.pictures if seed in (None, self.matrix.profile.seeds[0]) else []
        cached = read_scores(folder / "scores.parquet", self._key(key))
        if cached is not None and kept_pictures(folder, key) >= set(pictures):
            return cached
        model = (load_backbone(self.matrix, self.name) if seed is None else load_run(folder)).to(self.device)
        frame = self._score(model, row, seed) if cached is None else cached
        if pictures:
            keep_pictures(folder, key, pictures, lambda picture: self._restore(model, picture))
        write_scores(frame, folder / "scores.parquet", self._key(key))
        progress(f"{self.name} {row.name}" + (f" seed {seed}" if seed is not None else "") + ": scored")
        return frame

    @cached_property
    def pictures(self) -> list[Picture]:
        return find_pictures(self.matrix.profile.report.pictures, [(test.name, test.names) for test in self.tests])

    def _restore(self, model: nn.Module, picture: Picture) -> torch.Tensor:
        test = next(test for test in self.tests if test.name == picture.dataset and picture.image in test.names)
        lr = test.lr[list(test.names).index(picture.image)]
        return restore(model, lr[None], self.matrix.profile.scale)[0]

    def _key(self, run: str) -> str:
        return records.digest({"run": run, "conventions": self._conventions_key})

    def _score(self, model: nn.Module, row: Row, seed: int | None) -> pd.DataFrame:
        import pandas as pd

        profile = self.matrix.profile
        rows: list[dict[str, Any]] = []
        for test in self.tests:
            restored = [restore(model, lr[None], profile.scale)[0] for lr in test.lr]
            identity = {
                "profile": profile.name,
                "backbone": self.name,
                "baseline": row.baseline,
                "variant": row.variant,
                "seed": seed,
                "dataset": test.name,
            }
            rows += [
                {**identity, **score._asdict()} for score in self.scorer.score(restored, test.hr, list(test.names))
            ]
        return typed(pd.DataFrame(rows))


def load_backbone(matrix: Matrix, name: str) -> nn.Module:
    """The unadapted backbone, in eval mode, built at its own native size."""
    return build(matrix.profile.backbones[name], matrix.profile.scale)


def score_backbone(matrix: Matrix, backbone: str, rows: Sequence[Row], out: Path, progress: Progress) -> None:
    """Score the unadapted backbone and all runs on it; write them as one file."""
    evaluation = Evaluation(matrix, backbone)
    frames = []
    for row in rows:
        seeds: Sequence[int | None] = [None] if row.baseline == config.UNADAPTED else matrix.profile.seeds
        frames += [evaluation.scores(row, seed, progress) for seed in seeds]
    write_scores(sorted_scores([frame for frame in frames if frame is not None]), out, "")


def gather(parts: Sequence[Path], out: Path) -> None:
    """Put the scores of all backbones into one file, sorted by all columns."""
    frames = [read_scores(part, None) for part in parts]
    write_scores(sorted_scores([frame for frame in frames if frame is not None]), out, "")


def sorted_scores(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return typed(pd.concat(frames, ignore_index=True).sort_values(list(COLUMNS), ignore_index=True))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    text = [name for name in COLUMNS if name not in ("seed", "value", "crop_border")]
    kinds = {**dict.fromkeys(text, "string"), "seed": "Int64", "value": "float64", "crop_border": "int64"}
    return frame[list(COLUMNS)].astype(kinds)


def write_scores(frame: pd.DataFrame, path: Path, key: str) -> None:
    """Write scores atomically, the same bytes for the same scores, with `key` in the file's metadata."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata({"adaptsr": key})
    with records.atomic_write(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def read_scores(path: Path, key: str | None) -> pd.DataFrame | None:
    """Scores from a file, or None when it is missing, torn, or of another key (any key is taken for None)."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (FileNotFoundError, pyarrow.ArrowInvalid, OSError):
        return None
    found = (table.schema.metadata or {}).get(b"adaptsr", b"").decode()
    if key is not None and found != key:
        return None
    frame: pd.DataFrame = table.to_pandas()
    return typed(frame) if set(frame.columns) == set(COLUMNS) else None

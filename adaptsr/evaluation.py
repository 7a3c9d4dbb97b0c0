"""Restoring and scoring the test images of finished runs, merged into plain backbones first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from adaptsr import config, records
from adaptsr.backbones import build, resolve_weights, restore
from adaptsr.data.manifest import read_manifest
from adaptsr.data.pairs import PairSet, load_split
from adaptsr.errors import UserError
from adaptsr.matrix import Matrix, Row, manifest_path
from adaptsr.merging import load_run
from adaptsr.outputs import images_digest, output_folder, read_outputs
from adaptsr.pictures import Picture, find_pictures, keep_pictures, kept_pictures
from adaptsr.scores import kept_scores, read_scores, sorted_scores, typed, write_scores
from adaptsr.scoring import Scorer, ScoreRow, weight_files
from adaptsr.training import data_key, prepare_device, run_key

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str], None]
Restorer = Callable[[PairSet], "Sequence[torch.Tensor] | str"]
"""Restores the images of a test dataset, uint8 (3, H, W) each, or says why there are none."""


class Subject(NamedTuple):
    """What is scored: the folder that keeps its scores, the key of what it is, and how to have it restore."""

    folder: Path
    key: str
    load: Callable[[], Restorer]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One backbone with the decoded test sets and the metrics, shared by all runs scored in this process.

    The name `""` stands for no backbone: what is scored then are the outputs of other models.
    """

    matrix: Matrix
    name: str

    @cached_property
    def device(self) -> torch.device:
        return prepare_device(self.matrix.profile.compute)

    @cached_property
    def tests(self) -> list[PairSet]:
        return [load_split(manifest_path(test.dataset), test.split) for test in self.matrix.tests]

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.matrix.profile.scoring, str(self.device))

    @cached_property
    def _conventions_key(self) -> str:
        """Changes with the metrics, the network weights that are there, and the test images."""
        scoring = self.matrix.profile.scoring
        tests = [
            [test.dataset, test.split, read_manifest(manifest_path(test.dataset)).digest(test.split)]
            for test in self.matrix.tests
        ]
        weights = [[file.metric, file.path.is_file()] for file in weight_files(scoring)]
        return records.digest({"scoring": scoring.model_dump(mode="json"), "tests": tests, "weights": weights})

    @cached_property
    def _data_key(self) -> str:
        return data_key(self.matrix, self.name)

    def scores(self, row: Row, seed: int | None, progress: Progress) -> pd.DataFrame | None:
        """Scores of one run, of the unadapted backbone or of outputs; None for a run that diverged.

        Kept beside the run under a key of run, metrics and test images, and only made when that is not there. The
        pictures of the profile are those of the first seed.
        """
        subject = self._subject(row, seed)
        if subject is None:
            return None
        pictures = self._pictures_of(row) if seed in (None, self.matrix.profile.seeds[0]) else []
        path, key = subject.folder / "scores.parquet", self._key(subject.key)
        cached = _sound_scores(path, key, progress)
        if cached is not None and kept_pictures(subject.folder, subject.key) >= set(pictures):
            return cached
        restorer = subject.load()
        frame = self._score(restorer, row, seed) if cached is None else cached
        if pictures:
            keep_pictures(subject.folder, subject.key, pictures, lambda picture: self._restored(restorer, picture))
        write_scores(frame, path, key)
        progress(
            " ".join(part for part in (self.name, row.name, f"seed {seed}" if seed is not None else "") if part)
            + ": scored"
        )
        return frame

    def _subject(self, row: Row, seed: int | None) -> Subject | None:
        if seed is not None:
            run = self.matrix.run_folder(self.name, row.name, seed)
            record = records.read_record(run / "record.json")
            if record.key != run_key(self.matrix, self.name, self.matrix.variant(row.name), seed, self._data_key):
                raise UserError(
                    f"{run / 'record.json'}: a run of another protocol, schedule, data or options than {self.matrix.source} "
                    f"asks for; {records.redo(run)}"
                )
            if record.status == "diverged":
                return None
            return Subject(run, record.key, lambda: self._restoring(load_run(run)))
        folder = self.matrix.results / self.name / row.name
        if row.baseline != config.OUTPUTS:
            return self._unadapted(self.matrix.profile.backbones[self.name], folder)
        declared = self.matrix.profile.outputs[row.variant]
        if declared.weights:
            return self._unadapted(config.Backbone(architecture=config.AUTO, weights=declared.weights), folder)
        folders = self._output_folders(row)
        found = {
            test.name: [str(folders[test.name]), images_digest(folders[test.name], test.names)] for test in self.tests
        }
        return Subject(folder, records.digest(found), lambda: lambda test: read_outputs(folders[test.name], test))

    def _unadapted(self, backbone: config.Backbone, folder: Path) -> Subject:
        weights = records.file_sha256(resolve_weights(backbone.weights)) if backbone.weights else None
        key = records.digest([backbone.model_dump(mode="json", exclude={"title"}), weights])
        return Subject(folder, key, lambda: self._restoring(build(backbone, self.matrix.profile.scale)))

    def _restoring(self, model: nn.Module) -> Restorer:
        scale = self.matrix.profile.scale
        model = model.to(self.device)
        return lambda test: [restore(model, lr[None], scale)[0] for lr in test.lr]

    def _output_folders(self, row: Row) -> dict[str, Path]:
        profile = self.matrix.profile
        return {test.name: output_folder(profile, row.variant, test.name) for test in self.tests}

    def _pictures_of(self, row: Row) -> list[Picture]:
        """The pictures that this row can have: outputs without a folder have none."""
        if row.baseline != config.OUTPUTS or self.matrix.profile.outputs[row.variant].weights:
            return self.pictures
        folders = self._output_folders(row)
        return [picture for picture in self.pictures if folders[picture.dataset].is_dir()]

    @cached_property
    def pictures(self) -> list[Picture]:
        return find_pictures(self.matrix.profile.report.pictures, [(test.name, test.names) for test in self.tests])

    def _restored(self, restorer: Restorer, picture: Picture) -> torch.Tensor:
        test = next(test for test in self.tests if test.name == picture.dataset and picture.image in test.names)
        index = list(test.names).index(picture.image)
        restored = restorer(replace(test, names=[picture.image], lr=[test.lr[index]], hr=[test.hr[index]]))
        assert not isinstance(restored, str)
        return restored[0]

    def _key(self, run: str) -> str:
        return records.digest({"run": run, "conventions": self._conventions_key})

    def _score(self, restorer: Restorer, row: Row, seed: int | None) -> pd.DataFrame:
        import pandas as pd

        identity = {
            "profile": self.matrix.profile.name,
            "backbone": self.name,
            "baseline": row.baseline,
            "variant": row.variant,
            "seed": seed,
        }
        return typed(
            pd.DataFrame(
                [
                    {**identity, "dataset": test.name, **score._asdict()}
                    for test in self.tests
                    for score in self._score_images(test, restorer(test))
                ]
            )
        )

    def _score_images(self, test: PairSet, restored: Sequence[torch.Tensor] | str) -> Sequence[ScoreRow]:
        if isinstance(restored, str):
            return list(self._missing(test, restored))
        return self.scorer.score(restored, test.hr, list(test.names))

    def _missing(self, test: PairSet, reason: str) -> Iterator[ScoreRow]:
        border = self.matrix.profile.scoring.crop_border
        for name in test.names:
            for metric in self.scorer.conventions:
                yield ScoreRow(name, metric.column, None, reason, metric.color_space, border)


def _sound_scores(path: Path, key: str, progress: Progress) -> pd.DataFrame | None:
    try:
        return kept_scores(path, key)
    except UserError as problem:
        progress(f"{str(problem).partition(';')[0]}; scoring again")
        return None


def score_backbone(matrix: Matrix, backbone: str, rows: Sequence[Row], out: Path, progress: Progress) -> None:
    """Score the unadapted backbone and all runs on it, or the outputs for `""`; write them as one file."""
    prepare_device(matrix.profile.compute)  # merging is arithmetic too: its threads are the profile's from the start
    evaluation = Evaluation(matrix, backbone)
    frames = []
    for row in rows:
        seeds: Sequence[int | None] = matrix.profile.seeds if row.seeded else [None]
        frames += [evaluation.scores(row, seed, progress) for seed in seeds]
    write_scores(sorted_scores([frame for frame in frames if frame is not None]), out)


def gather(parts: Sequence[Path], out: Path) -> None:
    """Put the scores of all backbones into one file, sorted by all columns; `UserError` for a part that is not sound."""
    write_scores(sorted_scores([read_scores(part) for part in parts]), out)

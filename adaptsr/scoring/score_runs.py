"""Restoring and scoring the test images of finished runs, merged into plain backbones first."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from adaptsr import files
from adaptsr.backbones.build import build
from adaptsr.backbones.inference import restore
from adaptsr.config import schema
from adaptsr.data.fetch import resolve_weights
from adaptsr.data.manifest import manifest_path, read_manifest
from adaptsr.data.store import PairSet, Split, open_split
from adaptsr.devices import prepare_device
from adaptsr.errors import UserError
from adaptsr.metrics.weights import weight_files
from adaptsr.runs import records
from adaptsr.runs.loading import merge_run
from adaptsr.runs.matrix import AskedFor, Matrix, Row
from adaptsr.scoring.external import images_digest, output_folder, read_outputs
from adaptsr.scoring.pictures import Picture, find_pictures, keep_pictures, kept_pictures
from adaptsr.scoring.scorer import Scorer, ScoreRow
from adaptsr.scoring.table import REMAKE, Basis, kept_scores, read_scores, sorted_scores, typed, write_scores

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str], None]
Restorer = Callable[[PairSet], "Sequence[torch.Tensor] | str"]
"""Restores the images of a test dataset, uint8 (3, H, W) each, or says why there are none."""


SUBJECTS_TOGETHER = 32
"""How many subjects keep their weights in memory while the groups of test images pass by."""
SCORES = "scores.parquet"
PARTS = "scores.parts"


class Subject(NamedTuple):
    """What is scored: its row and seed, the folder that keeps its scores, and how to have it restore.

    `key` says what it is, to the byte; `weights` is the SHA-256 of a run's weights.
    """

    row: Row
    seed: int | None
    folder: Path
    key: str
    weights: str | None
    load: Callable[[], Restorer]


class Piece(NamedTuple):
    """Consecutive images of a test dataset."""

    test: Split
    start: int
    stop: int


Group = Sequence[Piece]
"""Test images that are decoded and scored together."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One backbone with the test sets and the metrics, shared by all runs scored in this process.

    Test images come in groups, and a group is decoded once and scored with every subject before the next: what metrics
    see of an HR image is computed once, however many images there are. The name `""` stands for no backbone: what is
    scored then are the outputs of other models.
    """

    matrix: Matrix
    name: str

    @cached_property
    def device(self) -> torch.device:
        return prepare_device(self.matrix.profile.compute)

    @cached_property
    def tests(self) -> list[Split]:
        """The test datasets; `UserError` for a file of theirs that is not as its manifest says."""
        tests = [open_split(manifest_path(test.dataset), test.split) for test in self.matrix.tests]
        for test in tests:
            test.check()
        return tests

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.matrix.profile.scoring, str(self.device))

    @cached_property
    def groups(self) -> Sequence[Group]:
        """All test images in their order, in groups that fit the scorer's memory."""
        groups: list[list[Piece]] = []
        filled = Fraction(1)
        for test in self.tests:
            for index, size in enumerate(test.hr_sizes()):
                share = Fraction(1, self.scorer.capacity(*size))
                filled += share
                if filled > 1:
                    groups.append([])
                    filled = share
                if groups[-1] and groups[-1][-1].test is test:
                    groups[-1][-1] = groups[-1][-1]._replace(stop=index + 1)
                else:
                    groups[-1].append(Piece(test, index, index + 1))
        return groups

    @cached_property
    def _conventions(self) -> Basis:
        tests = self.matrix.tests
        return Basis.of(
            self.matrix.profile.scoring,
            [(read_manifest(manifest_path(test.dataset)), test.split) for test in tests],
        )

    def basis(self, subjects: Sequence[Subject]) -> Basis:
        """What the scores of these subjects are made of."""
        runs = [subject for subject in subjects if subject.seed is not None]
        return self._conventions.of_runs(
            {records.run_name(self.name, run.row.name, run.seed): run.weights for run in runs if run.weights}
        )

    @cached_property
    def _conventions_key(self) -> str:
        """Changes with the metrics, the network weights that are there, and the test images."""
        scoring = self.matrix.profile.scoring
        weights = [[file.metric, file.path.is_file()] for file in weight_files(scoring)]
        tests = self._conventions.tests
        return files.digest({"scoring": scoring.model_dump(mode="json"), "tests": tests, "weights": weights})

    @cached_property
    def _asked_for(self) -> AskedFor:
        return self.matrix.asked_for()

    def subjects(self, rows: Sequence[Row]) -> Iterator[Subject]:
        """What there is to score of these rows, in their order: diverged runs have nothing.

        `UserError` for a run whose record is missing or of another protocol, schedule, data or options.
        """
        for row in rows:
            seeds: Sequence[int | None] = self.matrix.profile.seeds if row.seeded else [None]
            for seed in seeds:
                if (subject := self._subject(row, seed)) is not None:
                    yield subject

    def scores(self, subjects: Sequence[Subject], progress: Progress) -> list[pd.DataFrame]:
        """Scores of these subjects, in their order.

        Kept beside each under a key of what it is, metrics and test images, and only made when they are not there. The
        pictures of the profile are those of the first seed. Of a job that is killed, every group of images that a
        subject was scored on is kept in its folder `PARTS` until all of them are.
        """
        frames = {subject: self._kept_scores(subject, progress) for subject in subjects}
        wanting = [subject for subject in subjects if frames[subject] is None or self._lacks_pictures(subject)]
        together = 1 if wanting and len(self.groups) == 1 else SUBJECTS_TOGETHER
        for first in range(0, len(wanting), together):
            frames.update(self._made(wanting[first : first + together], frames, progress))
        return [frame for frame in frames.values() if frame is not None]

    def _made(
        self, subjects: Sequence[Subject], kept: Mapping[Subject, pd.DataFrame | None], progress: Progress
    ) -> dict[Subject, pd.DataFrame]:
        """Scores and pictures of subjects that lack one of the two, made and kept; their weights are loaded once."""
        restorer_of = cache(lambda subject: subject.load())
        frames = {subject: frame for subject in subjects if (frame := kept[subject]) is not None}
        frames |= self._score([subject for subject in subjects if subject not in frames], restorer_of, progress)
        for subject, frame in frames.items():
            if pictures := self._pictures_of(subject):
                restored = partial(self._restored, restorer_of(subject))
                keep_pictures(subject.folder, subject.key, pictures, restored)
            write_scores(frame, subject.folder / SCORES, self.basis([subject]), self._key(subject))
            shutil.rmtree(subject.folder / PARTS, ignore_errors=True)
            progress(f"{self._label(subject)}: scored")
        return frames

    def _score(
        self, subjects: Sequence[Subject], restorer_of: Callable[[Subject], Restorer], progress: Progress
    ) -> dict[Subject, pd.DataFrame]:
        parts: dict[Subject, list[pd.DataFrame]] = {subject: [] for subject in subjects}
        for number, group in enumerate(self.groups):
            for subject in subjects:
                parts[subject].append(self._part(subject, number, restorer_of, progress))
            if len(self.groups) > 1 and subjects:
                last = group[-1]
                labels = " to ".join(self._label(subject) for subject in subjects[:: max(1, len(subjects) - 1)])
                progress(f"{labels}: {last.test.name} up to image {last.stop} of {len(last.test)}")
        return {subject: _joined(frames) for subject, frames in parts.items()}

    def _part(
        self, subject: Subject, number: int, restorer_of: Callable[[Subject], Restorer], progress: Progress
    ) -> pd.DataFrame:
        """The scores of one group of images."""
        if len(self.groups) == 1:
            return self._score_group(restorer_of(subject), subject, number)
        path, key = subject.folder / PARTS / f"{number}.parquet", self._part_key(subject, number)
        frame = _sound_scores(path, key, progress)
        if frame is None:
            frame = self._score_group(restorer_of(subject), subject, number)
            write_scores(frame, path, self.basis([subject]), key)
        return frame

    def _score_group(self, restorer: Restorer, subject: Subject, number: int) -> pd.DataFrame:
        import pandas as pd

        identity = {
            "profile": self.matrix.profile.name,
            "backbone": self.name,
            "baseline": subject.row.baseline,
            "variant": subject.row.variant,
            "seed": subject.seed,
        }
        return typed(
            pd.DataFrame(
                [
                    {**identity, "dataset": test.name, **score._asdict()}
                    for test in self._decoded(number)
                    for score in self._score_images(test, restorer(test))
                ]
            )
        )

    @cached_property
    def _decoded(self) -> Callable[[int], list[PairSet]]:
        """The images of a group, remembered until those of another are asked for."""

        @lru_cache(maxsize=1)
        def decoded(number: int) -> list[PairSet]:
            return [test.load(start, stop) for test, start, stop in self.groups[number]]

        return decoded

    def _score_images(self, test: PairSet, restored: Sequence[torch.Tensor] | str) -> Sequence[ScoreRow]:
        if isinstance(restored, str):
            return list(self._missing(test, restored))
        return self.scorer.score(restored, test.hr, list(test.names))

    def _missing(self, test: PairSet, reason: str) -> Iterator[ScoreRow]:
        border = self.matrix.profile.scoring.crop_border
        for name in test.names:
            for metric in self.scorer.conventions:
                yield ScoreRow(name, metric.column, None, reason, metric.color_space, border)

    def _subject(self, row: Row, seed: int | None) -> Subject | None:
        if seed is not None:
            run = self.matrix.run_folder(self.name, row.name, seed)
            if not (run / "record.json").is_file():
                raise UserError(
                    f"{run / 'record.json'}: no such record; the run is not there or not finished; {records.redo(run)}"
                )
            record = records.read_record(run / "record.json")
            if not self._asked_for(self.name, row.name, seed, record):
                raise UserError(records.another_run(run))
            if record.status == "diverged":
                return None
            return Subject(row, seed, run, record.result_key, record.adaptation_sha256, lambda: self._run_restorer(run))
        folder = self.matrix.results / self.name / row.name
        if row.baseline != schema.OUTPUTS:
            return self._unadapted(row, self.matrix.profile.backbones[self.name], folder)
        declared = self.matrix.profile.outputs[row.variant]
        if declared.weights:
            return self._unadapted(row, schema.Backbone(architecture=schema.AUTO, weights=declared.weights), folder)
        folders = self._output_folders(row)
        found = {
            test.name: [str(folders[test.name]), images_digest(folders[test.name], test.names)] for test in self.tests
        }
        return Subject(
            row, None, folder, files.digest(found), None, lambda: lambda test: read_outputs(folders[test.name], test)
        )

    def _unadapted(self, row: Row, backbone: schema.Backbone, folder: Path) -> Subject:
        weights = files.file_sha256(resolve_weights(backbone.weights)) if backbone.weights else None
        key = files.digest([backbone.model_dump(mode="json", exclude={"title"}), weights])

        def load() -> Restorer:
            return partial(self._restore, build(backbone, self.matrix.profile.scale).to(self.device))

        return Subject(row, None, folder, key, weights, load)

    def _run_restorer(self, run: Path) -> Restorer:
        """Keeps the merged weights of a run, not a model: there is one for all runs, since a copy costs milliseconds."""
        merged = merge_run(run)

        def restorer(test: PairSet) -> Sequence[torch.Tensor]:
            self._shared_model.load_state_dict(merged)
            return self._restore(self._shared_model, test)

        return restorer

    @cached_property
    def _shared_model(self) -> nn.Module:
        return build(self.matrix.profile.backbones[self.name], self.matrix.profile.scale).to(self.device)

    def _restore(self, model: nn.Module, test: PairSet) -> Sequence[torch.Tensor]:
        return [restore(model, lr[None], self.matrix.profile.scale)[0] for lr in test.lr]

    def _output_folders(self, row: Row) -> dict[str, Path]:
        profile = self.matrix.profile
        return {test.name: output_folder(profile, row.variant, test.name) for test in self.tests}

    @cached_property
    def pictures(self) -> list[Picture]:
        return find_pictures(self.matrix.profile.report.pictures, [(test.name, test.names) for test in self.tests])

    def _pictures_of(self, subject: Subject) -> list[Picture]:
        """The pictures of the profile that this subject has: those of the first seed, and of outputs with a folder."""
        row = subject.row
        if subject.seed not in (None, self.matrix.profile.seeds[0]):
            return []
        if row.baseline != schema.OUTPUTS or self.matrix.profile.outputs[row.variant].weights:
            return self.pictures
        folders = self._output_folders(row)
        return [picture for picture in self.pictures if folders[picture.dataset].is_dir()]

    def _lacks_pictures(self, subject: Subject) -> bool:
        return not kept_pictures(subject.folder, subject.key) >= set(self._pictures_of(subject))

    def _restored(self, restorer: Restorer, picture: Picture) -> torch.Tensor:
        test = next(test for test in self.tests if test.name == picture.dataset and picture.image in test.names)
        index = test.names.index(picture.image)
        restored = restorer(test.load(index, index + 1))
        assert not isinstance(restored, str)
        return restored[0]

    def _kept_scores(self, subject: Subject, progress: Progress) -> pd.DataFrame | None:
        return _sound_scores(subject.folder / SCORES, self._key(subject), progress)

    def _key(self, subject: Subject) -> str:
        return files.digest({"run": subject.key, "conventions": self._conventions_key})

    def _part_key(self, subject: Subject, number: int) -> str:
        images = [[test.name, *test.names[start:stop]] for test, start, stop in self.groups[number]]
        return files.digest({"scores": self._key(subject), "images": images})

    def _label(self, subject: Subject) -> str:
        seed = "" if subject.seed is None else f"seed {subject.seed}"
        return " ".join(part for part in (self.name, subject.row.name, seed) if part)


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return frames[0] if len(frames) == 1 else typed(pd.concat(frames, ignore_index=True))


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
    subjects = []
    try:
        for subject in evaluation.subjects(rows):
            subjects.append(subject)
    except UserError:
        evaluation.scores(subjects, progress)  # those before the run that is refused
        raise
    write_scores(sorted_scores(evaluation.scores(subjects, progress)), out, evaluation.basis(subjects))


def gather(parts: Sequence[Path], out: Path) -> None:
    """Put the scores of all backbones into one file, sorted by all columns.

    `UserError` for a part that is not sound, or was scored with other metrics or test images than the first.
    """
    scores = [read_scores(part) for part in parts]
    first = scores[0].basis.of_runs({})
    for part, (_, basis, _) in zip(parts, scores, strict=True):
        if basis.of_runs({}) != first:
            raise UserError(f"{part}: scored with other metrics or test images than {parts[0]}; {REMAKE}")
    weights = {name: sha256 for _, basis, _ in scores for name, sha256 in basis.weights.items()}
    write_scores(sorted_scores([part.rows for part in scores]), out, first.of_runs(weights))

"""Restore and score the test images of one dataset with the runs on one backbone, merged into plain models first."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from adaptsr import files
from adaptsr.backbones.build import build
from adaptsr.backbones.gate import facts
from adaptsr.backbones.inference import restore
from adaptsr.config import schema
from adaptsr.data.manifest import manifest_path
from adaptsr.data.store import PairSet, Split, open_split
from adaptsr.devices import prepare_device
from adaptsr.errors import UserError
from adaptsr.metrics.conventions import scoring_of
from adaptsr.progress import Progress
from adaptsr.runs.loading import merge_run
from adaptsr.runs.matrix import Matrix, Row
from adaptsr.runs.origins import without_weights
from adaptsr.runs.run import Run
from adaptsr.scoring.external import external_folder, read_external
from adaptsr.scoring.pictures import Picture, keep_pictures, kept_pictures, pictures_of
from adaptsr.scoring.scorer import Scorer, ScoreRow
from adaptsr.scoring.sources import checked_record, digest_of, find_source
from adaptsr.scoring.table import KeptScores, kept_path, kept_typed, metric_key, read_kept, write_kept

Restorer = Callable[[PairSet], "Sequence[torch.Tensor] | str"]
"""Restores images, uint8 (3, H, W) each, or says why there are none."""

SUBJECTS_TOGETHER = 32
"""How many subjects keep their weights in memory while the batches of test images pass by."""


class Subject(NamedTuple):
    """A run to score: its folder, what restores its images (`KeptScores.restored`), and how to have it restore."""

    run: Run
    folder: Path
    restored: str
    load: Callable[[Progress], Restorer]


class ImageBatch(NamedTuple):
    """Consecutive test images that are decoded and scored together."""

    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class ScoringJob:
    """The runs on one backbone with one test dataset, scored in this process.

    Test images come in batches, and a batch is decoded once and scored with every run before the next: what metrics see
    of an HR image is computed once. backbone: None for external models.
    """

    matrix: Matrix
    backbone: str | None
    test: schema.ScoredSplit

    @cached_property
    def device(self) -> torch.device:
        return prepare_device(self.matrix.profile.compute)

    @cached_property
    def images(self) -> Split:
        """The test images. Raises `UserError` for a file that differs from its manifest."""
        split = open_split(manifest_path(self.test.dataset), self.test.split)
        split.check()
        return split

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.scoring, str(self.device))

    @cached_property
    def scoring(self) -> schema.Scoring:
        return scoring_of(self.matrix.profile, self.test.dataset)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Keys of the profile's metrics to the first column that each has."""
        return {metric_key(self.scoring, column): column for column in reversed(self.scoring.metrics)}

    @cached_property
    def images_digest(self) -> str:
        return digest_of(self.test)

    @cached_property
    def batches(self) -> Sequence[ImageBatch]:
        """All test images in their order, in batches that fit the scorer's memory."""
        batches: list[ImageBatch] = []
        filled = Fraction(1)
        for index, size in enumerate(self.images.hr_sizes()):
            share = Fraction(1, self.scorer.capacity(*size))
            filled += share
            if filled > 1:
                batches.append(ImageBatch(index, index))
                filled = share
            batches[-1] = batches[-1]._replace(stop=index + 1)
        return batches

    def subjects(self, rows: Sequence[Row]) -> Iterator[Subject]:
        """Yield the runs of these rows in the matrix's order, without those that diverged.

        Raises `UserError` for a run whose record is missing or of another run than the profile asks for.
        """
        matches = self.matrix.matches()
        for run in self.matrix.runs_of(self.backbone, rows):
            record = checked_record(self.matrix, run, matches)
            restored = find_source(self.matrix, run, record, self.test)
            if restored is not None:
                folder = run.folder(self.matrix.results)
                yield Subject(run, folder, restored, partial(self._restorer, run))

    def score(self, subjects: Sequence[Subject], progress: Progress) -> None:
        """Score what is missing of these subjects and keep it in their folders, with the profile's pictures.

        An image is restored once for all metrics that are missing. If the job is killed, every batch that a subject was
        scored on is kept until all of them are.
        """
        kept = {subject: self._kept(subject, progress) for subject in subjects}
        wanting = [s for s in subjects if self._missing_keys(kept[s]) or self._lacks_pictures(s)]
        together = 1 if len(wanting) > 0 and len(self.batches) == 1 else SUBJECTS_TOGETHER
        for first in range(0, len(wanting), together):
            self._score_some(wanting[first : first + together], kept, progress)

    def _kept(self, subject: Subject, progress: Progress) -> KeptScores | None:
        return _sound(kept_path(subject.folder, self.test.dataset), subject.restored, self.images_digest, progress)

    def _missing_keys(self, kept: KeptScores | None) -> list[str]:
        """Keys of the metrics that are not scored yet, or that had no network weights and have them now."""
        if kept is None:
            return list(self.keys)
        scored = set(kept.rows["metric"])
        again = {key for key in kept.unmeasured if key in self.keys and not self.scorer.lacks(self.keys[key])}
        return [key for key in self.keys if key not in scored or key in again]

    def _score_some(
        self, subjects: Sequence[Subject], kept: Mapping[Subject, KeptScores | None], progress: Progress
    ) -> None:
        """Score subjects side by side; their weights are loaded once, for scores and pictures."""
        restorer_of = cache(lambda subject: subject.load(progress))
        missing = {subject: keys for subject in subjects if (keys := self._missing_keys(kept[subject]))}
        parts: dict[Subject, list[KeptScores]] = {subject: [] for subject in subjects}
        for number, batch in enumerate(self.batches if missing else []):
            for subject, keys in missing.items():
                parts[subject].append(self._part(subject, number, keys, restorer_of, progress))
            if len(self.batches) > 1:
                labels = " to ".join(subject.run.label for subject in list(missing)[:: max(1, len(missing) - 1)])
                progress(f"{labels}: {self.test.dataset} up to image {batch.stop} of {len(self.images)}")
        for subject in subjects:
            if pictures := self._pictures_of(subject):
                restored = partial(self._restored, restorer_of(subject))
                keep_pictures(subject.folder, self.test.dataset, subject.restored, pictures, restored)
            if parts[subject]:
                path = kept_path(subject.folder, self.test.dataset)
                write_kept(path, _joined(kept[subject], parts[subject]))
                shutil.rmtree(_parts_folder(path), ignore_errors=True)
            progress(f"{subject.run.label}: scored on {self.test.dataset}")

    def _part(
        self,
        subject: Subject,
        number: int,
        keys: Sequence[str],
        restorer_of: Callable[[Subject], Restorer],
        progress: Progress,
    ) -> KeptScores:
        """The scores of one batch of images with the metrics of these keys."""
        if len(self.batches) == 1:
            return self._score_batch(restorer_of(subject), subject, number, keys)
        path = _parts_folder(kept_path(subject.folder, self.test.dataset)) / f"{number}.parquet"
        key = files.digest([subject.restored, list(self.batches[number]), sorted(keys)])
        part = _sound(path, key, self.images_digest, progress)
        if part is None:
            part = self._score_batch(restorer_of(subject), subject, number, keys)
            write_kept(path, part._replace(restored=key))
        return part._replace(restored=subject.restored)

    def _score_batch(self, restorer: Restorer, subject: Subject, number: int, keys: Sequence[str]) -> KeptScores:
        import pandas as pd

        batch = self._decoded(number)
        restored = restorer(batch)
        columns = [self.keys[key] for key in keys]
        if isinstance(restored, str):
            rows = list(self._reasons(batch, restored, columns))
        else:
            rows = self.scorer.score(restored, batch.hr or None, list(batch.names), columns)
        key_of = {column: key for key, column in self.keys.items()}
        frame = pd.DataFrame([row._replace(metric=key_of[row.metric])._asdict() for row in rows])
        unmeasured = frozenset() if isinstance(restored, str) else self.scorer.unmeasured
        missing = frozenset(key for key in keys if self.keys[key] in unmeasured)
        return KeptScores(kept_typed(frame), subject.restored, self.images_digest, missing)

    @cached_property
    def _decoded(self) -> Callable[[int], PairSet]:
        """The images of a batch, remembered until those of another are asked for."""

        @lru_cache(maxsize=1)
        def decoded(number: int) -> PairSet:
            return self.images.load(*self.batches[number])

        return decoded

    def _reasons(self, batch: PairSet, reason: str, columns: Sequence[str]) -> Iterator[ScoreRow]:
        border = self.matrix.profile.scoring.crop_border
        for name in batch.names:
            for metric in self.scorer.conventions:
                if metric.column in columns:
                    yield ScoreRow(name, metric.column, None, reason, metric.color_space, border)

    def _restorer(self, run: Run, progress: Progress) -> Restorer:
        profile = self.matrix.profile
        if run.trained:
            return self._run_restorer(run.folder(self.matrix.results))
        if run.backbone is not None:
            return self._model_restorer(profile.backbones[run.backbone], progress)
        name = run.variant.partition("/")[2]
        if weights := profile.external[name].weights:
            return self._model_restorer(schema.Backbone(architecture=schema.AUTO, weights=weights), progress)
        folder = external_folder(profile, name, self.test.dataset)
        return lambda batch: read_external(folder, batch)

    def _model_restorer(self, declared: schema.Backbone, progress: Progress) -> Restorer:
        model = build(declared, self.matrix.profile.scale)
        for note in facts(model).notes:
            progress(note)
        return partial(self._restore, model.to(self.device))

    def _run_restorer(self, folder: Path) -> Restorer:
        """Keeps the merged weights of a run, not a model: there is one for all runs, since a copy costs milliseconds."""
        folders = {file.path.parent for file in self.matrix.baselines.values()}
        merged = merge_run(folder, sorted(folders))

        def restorer(batch: PairSet) -> Sequence[torch.Tensor]:
            self._shared_model.load_state_dict(merged)
            return self._restore(self._shared_model, batch)

        return restorer

    @cached_property
    def _shared_model(self) -> nn.Module:
        assert self.backbone is not None
        return build(self.matrix.profile.backbones[self.backbone], self.matrix.profile.scale).to(self.device)

    def _restore(self, model: nn.Module, batch: PairSet) -> Sequence[torch.Tensor]:
        return [restore(model, lr[None])[0] for lr in batch.lr]

    @cached_property
    def pictures(self) -> list[Picture]:
        shown = self.test.dataset in (test.dataset for test in self.matrix.profile.data.test)
        return pictures_of(self.matrix.profile.report.pictures, self.test.dataset, self.images.names) if shown else []

    def _pictures_of(self, subject: Subject) -> list[Picture]:
        """The pictures that this subject has: those of the first seed, and of an external model's images that are there."""
        run, profile = subject.run, self.matrix.profile
        if run.seed not in (None, profile.seeds[0]) or without_weights(subject.folder):
            return []
        if run.backbone is None:
            name = run.variant.partition("/")[2]
            there = external_folder(profile, name, self.test.dataset).is_dir()
            return self.pictures if there or profile.external[name].weights else []
        return self.pictures

    def _lacks_pictures(self, subject: Subject) -> bool:
        there = kept_pictures(subject.folder, self.test.dataset, subject.restored)
        return not there >= set(self._pictures_of(subject))

    def _restored(self, restorer: Restorer, picture: Picture) -> torch.Tensor:
        index = self.images.names.index(picture.image)
        restored = restorer(self.images.load(index, index + 1))
        assert not isinstance(restored, str)
        return restored[0]


def _joined(kept: KeptScores | None, parts: Sequence[KeptScores]) -> KeptScores:
    """What was kept, with the new scores in place of those of the same metrics."""
    import pandas as pd

    new = pd.concat([part.rows for part in parts], ignore_index=True)
    unmeasured = frozenset[str]().union(*(part.unmeasured for part in parts))
    if kept is None:
        return parts[0]._replace(rows=kept_typed(new), unmeasured=unmeasured)
    scored = set(new["metric"])
    old = kept.rows[~kept.rows["metric"].isin(scored)]
    rows = kept_typed(pd.concat([old, new], ignore_index=True))
    return kept._replace(rows=rows, unmeasured=(kept.unmeasured - scored) | unmeasured)


def _parts_folder(path: Path) -> Path:
    return path.with_suffix(".parts")


def _sound(path: Path, restored: str, images: str, progress: Progress) -> KeptScores | None:
    try:
        return read_kept(path, restored, images)
    except UserError as problem:
        progress(f"{str(problem).partition(';')[0]}; scoring again")
        return None


def score_block(
    matrix: Matrix,
    backbone: str | None,
    tests: Sequence[schema.ScoredSplit],
    rows: Sequence[Row],
    out: Path,
    progress: Progress,
) -> None:
    """Score the runs of some rows on a backbone (None: external models) with test datasets, and list them in `out`.

    Raises `UserError` for a run that is missing or of another key, after those before it are scored.
    """
    prepare_device(matrix.profile.compute)  # merging is arithmetic too: its threads are the profile's from the start
    scored = []
    for test in tests:
        job = ScoringJob(matrix, backbone, test)
        subjects: list[Subject] = []
        try:
            for subject in job.subjects(rows):
                subjects.append(subject)
        finally:
            job.score(subjects, progress)
        runs = {subject.run.name: subject.restored for subject in subjects}
        scored.append({"dataset": test.dataset, "images": job.images_digest, "runs": runs})
    files.write_json(out, {"backbone": backbone, "scored": scored})

"""Try a variant on a backbone at every point of the profile's grid, and choose the best on the validation split.

Tuning runs are runs like all others, with seeds and a schedule of their own, in `results/<profile>/tuning/<point>/`. Test
images are never restored here.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from adaptsr.data.manifest import manifest_path, read_manifest
from adaptsr.errors import UserError
from adaptsr.metrics.conventions import conventions
from adaptsr.progress import Progress
from adaptsr.runs.choices import Choice, Tried, best, read_choice
from adaptsr.runs.matrix import Matrix, matching
from adaptsr.runs.records import read_record
from adaptsr.runs.run import Run
from adaptsr.scoring.score_runs import ScoringJob, Subject
from adaptsr.scoring.table import kept_path, read_kept
from adaptsr.training.train_runs import ensure_runs


def tune(matrix: Matrix, backbone: str, row: str, progress: Progress) -> Choice:
    """Train and score what is missing of a variant's tuning runs on a backbone, and return its choice.

    Raises `UserError` if the profile has nothing to tune here, or if a validation image is a test image; raises
    `Terminated` on SIGTERM, after a checkpoint.
    """
    profile, points = matrix.profile, matrix.points(row)
    if profile.tuning is None or not points:
        raise UserError(
            f"{matrix.source}: tuning: nothing to tune for {row}; add `tuning` with a `grid` to the profile"
        )
    refuse_shared_images(matrix)
    tried, seconds, iterations = [], 0.0, 0
    for point in points:
        at = matrix.at(point)
        ensure_runs(at, backbone, row, profile.tuning.seeds, partial(_tell, progress, point))
        records = [read_record(Run(backbone, row, seed).record_path(at.results)) for seed in profile.tuning.seeds]
        seconds += sum(record.wall_seconds for record in records)
        iterations = records[0].iterations
        tried.append(Tried(point=point, values=_values(at, backbone, row, progress)))
    scoring = matrix.at(points[0]).profile.scoring
    return Choice(
        asked=matrix.asked_of_tuning(backbone, row),
        backbone=backbone,
        row=row,
        options=best(tried, conventions(scoring)[0].lower_is_better),
        metric=profile.tuning.metric,
        tried=tried,
        iterations=iterations,
        seconds=round(seconds, 1),
        inputs=matrix.inputs(backbone),
    )


def choice_here(matrix: Matrix, backbone: str, row: str, path: Path) -> Choice | None:
    """Return the choice in a file, if it is what `tune` would make: it came with a pack, or the job is repeated."""
    if not path.is_file():
        return None
    choice = read_choice(path)
    same = choice.asked == matrix.asked_of_tuning(backbone, row) and choice.inputs == matrix.inputs(backbone)
    return choice if same else None


def refuse_shared_images(matrix: Matrix) -> None:
    """Raise `UserError` if an image of the validation split is an image of a test dataset too."""
    validation = matrix.profile.validation
    chosen_by = {
        item.hr_sha256: item.name
        for item in read_manifest(manifest_path(validation.dataset)).splits.get(validation.split, [])
    }
    for test in matrix.tests:
        for item in read_manifest(manifest_path(test.dataset)).splits.get(test.split, []):
            if item.hr_sha256 in chosen_by:
                raise UserError(
                    f"{matrix.source}: tuning: HR {chosen_by[item.hr_sha256]} of {validation.dataset} ({validation.split}) is the "
                    f"test image {item.name} of {test.dataset}; choose on other images: change data.validation"
                )


def _values(at: Matrix, backbone: str, row: str, progress: Progress) -> dict[int, float | None]:
    """Return the metric's mean over the validation images for each seed; None for a diverged run."""
    job = ScoringJob(at, backbone, at.tests[0])
    subjects = list(job.subjects(matching(at.rows, [row])))
    job.score(subjects, progress)
    means: dict[int, float | None] = dict.fromkeys(at.profile.seeds)
    for subject in subjects:
        assert subject.run.seed is not None
        means[subject.run.seed] = _mean(job, subject)
    return means


def _mean(job: ScoringJob, subject: Subject) -> float:
    kept = read_kept(kept_path(subject.folder, job.test.dataset), subject.restored, job.images_digest)
    assert kept is not None
    (key,) = job.keys  # scores of a metric that was tuned by before may lie beside
    rows = kept.rows[kept.rows["metric"] == key]
    missing = rows.loc[rows["value"].isna(), "reason"]
    if len(missing):
        raise UserError(
            f"{job.matrix.source}: tuning.metric: an image of {job.test.dataset} has no value: {missing.iloc[0]}"
        )
    return math.fsum(rows["value"]) / len(rows)


def _tell(progress: Progress, point: dict[str, Any], line: str) -> None:
    progress(f"{', '.join(f'{key} {value}' for key, value in point.items())}: {line}")

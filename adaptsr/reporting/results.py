"""Read once what a report is made of: scores, records and scenes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from adaptsr.data.manifest import MANIFEST, Manifest, read_manifest
from adaptsr.errors import UserError
from adaptsr.metrics.conventions import whole_scoring
from adaptsr.runs import records
from adaptsr.runs.matrix import enumerate_runs
from adaptsr.runs.run import Run
from adaptsr.runs.running import Running, in_progress
from adaptsr.scoring.table import Fingerprint, collect_scores, fingerprint_of, read_scores
from adaptsr.statistics import UNSEEDED, row_names, seed_tables

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile
    from adaptsr.runs.choices import Choice
    from adaptsr.runs.matrix import Matches, Row, Selection
    from adaptsr.runs.records import RunRecord

NOT_FINISHED = "not run or not finished"
ERROR = re.compile(r"adaptsr: |[\w.]*(Error|Exception|Interrupt)\b")
"""Matches the start of the last line in the log of a failed job."""


@dataclass(frozen=True)
class Results:
    """The results of one profile, as far as they exist.

    scores: the lines of `scores.parquet` that belong to the profile's matrix. records: of the trained runs. scenes:
    dataset to (image to scene), for the test datasets whose manifest is here. folder: the results folder. failures:
    why runs lack a record, as far as known. choices: what tuning chose, by backbone and row, as far as it has. manifests: of the prepared datasets. partial: whether scores were collected
    from the runs, complete or not; running: the runs in progress, then. selection: set if `profile` and `rows` are a part of a matrix.
    """

    profile: Profile
    rows: tuple[Row, ...]
    scores: pd.DataFrame
    records: Mapping[Run, RunRecord]
    scenes: Mapping[str, Mapping[str, str]]
    folder: Path = Path()
    resources: Path = Path("resources")
    failures: Mapping[Run, str] = field(default_factory=dict)
    choices: Mapping[tuple[str, str], Choice] = field(default_factory=dict)
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    partial: bool = False
    running: Mapping[Run, Running] = field(default_factory=dict)
    selection: Selection | None = None

    @cached_property
    def declared_rows(self) -> tuple[Row, ...]:
        """The rows of the whole matrix, of which `rows` may be a part."""
        return self.selection.whole.rows if self.selection else self.rows

    @cached_property
    def titles(self) -> dict[str, str]:
        """The titles of all declared rows by name."""
        return {row.name: row.title for row in self.declared_rows}

    @cached_property
    def left_out(self) -> list[Run]:
        """The trained runs of the whole matrix that are not in this part."""
        declared = self.selection.whole.runs if self.selection else ()
        return [run for run in declared if run.trained and run not in set(self.runs)]

    @property
    def part_sentence(self) -> str:
        """Say that this is a part of a matrix, and which; empty for a whole one."""
        if self.selection is None:
            return ""
        count = len(self.runs)
        return f"A part of the matrix, {self.selection.words}: {count:,} of its {count + len(self.left_out):,} runs; the others are left out, finished or not."

    @cached_property
    def scored(self) -> set[tuple[str, str, int | str]]:
        """(backbone, row, seed) of everything that is scored on all test datasets.

        Trained runs count only if they have a record and did not diverge.
        """
        scored: dict[tuple[str, str, int | str], set[str]] = {}
        for *key, dataset in self.seed_means[["backbone", "row", "seed", "dataset"]].itertuples(index=False):
            if dataset in self.datasets:
                scored.setdefault((key[0], key[1], key[2]), set()).add(dataset)
        unsound = {run for run in self.runs if run not in self.records or self.records[run].status == "diverged"}
        return {run for run, datasets in scored.items() if len(datasets) == len(self.datasets)} - unsound

    def diverged_seeds(self, backbone: str, row: str) -> set[int]:
        """Return the seeds with which a row diverged on a backbone."""
        return {seed for seed, record in self.row_records(backbone, row).items() if record.status == "diverged"}

    def unfinished(self, rows: Collection[str]) -> list[Run]:
        """Return the declared runs of these rows that a part leaves out, that are not finished, or in a partial report not scored."""
        diverged = {run for run, record in self.records.items() if record.status == "diverged"}
        ended = diverged | self.scored if self.partial else self.records.keys()
        return [run for run in (*self.left_out, *self.runs) if run.variant in rows and run not in ended]

    @cached_property
    def datasets(self) -> list[str]:
        """Test datasets in the profile's order; optional ones only if they are scored."""
        tests = self.profile.data.test
        scored = set(self.scores["dataset"].unique()) if any(test.optional for test in tests) else set()
        return list(dict.fromkeys(test.dataset for test in tests if not test.optional or test.dataset in scored))

    @property
    def adapted_rows(self) -> list[Row]:
        return [row for row in self.rows if row.trained]

    @property
    def runs(self) -> list[Run]:
        """Every run of the matrix that trains, finished or not."""
        return [run for run in enumerate_runs(self.profile, self.rows) if run.trained]

    @cached_property
    def _blocks(self) -> dict[tuple[str | None, str], pd.DataFrame]:
        grouped = self.scores.groupby(["backbone", "dataset"])
        return {(str(backbone) or None, str(dataset)): lines for (backbone, dataset), lines in grouped}

    @cached_property
    def _seed_tables(self) -> dict[tuple[str | None, str], dict[str, dict[str, pd.DataFrame]]]:
        return {}

    def block(self, backbone: str | None, dataset: str) -> pd.DataFrame:
        """Return the scores on one backbone and test dataset, an empty frame if there are none."""
        return self._blocks.get((backbone, dataset), self.scores.iloc[:0])

    def seed_tables(self, backbone: str | None, dataset: str) -> dict[str, dict[str, pd.DataFrame]]:
        """Return, for one backbone and test dataset, metric to row to values (seeds by images); cached."""
        if (backbone, dataset) not in self._seed_tables:
            lines = self.block(backbone, dataset)
            self._seed_tables[backbone, dataset] = {
                str(metric): seed_tables(of_metric) for metric, of_metric in lines.groupby("metric")
            }
        return self._seed_tables[backbone, dataset]

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Digits after the point by metric: 3 if its median size is 10 or more, as for a PSNR, else 4."""
        finite = self.scores[self.scores["value"].abs() < math.inf]
        sizes = finite["value"].abs().groupby(finite["metric"]).median()
        return {str(metric): 3 if size >= 10 else 4 for metric, size in sizes.items()}

    @cached_property
    def seed_means(self) -> pd.DataFrame:
        """Means over the test images, with columns backbone, dataset, row, metric, seed, value and images.

        seed: `unseeded` for rows that are scored once. value: NaN if an image or its value is missing, and for diverged
        runs.
        """
        scores = self.scores
        seeds = scores["seed"].astype(object).where(scores["seed"].notna(), UNSEEDED)
        keys = ["backbone", "dataset", "row", "metric", "seed"]
        grouped = scores.assign(row=row_names(scores), seed=seeds).groupby(keys, sort=False)["value"]
        means = grouped.agg(value="mean", counted="count", images="size").reset_index()
        means["value"] = means["value"].round(12)  # the last bits depend on the order of the scores
        complete = means["images"] == means.groupby(["backbone", "dataset"])["images"].transform("max")
        diverged = [self._diverged(*run) for run in zip(means["backbone"], means["row"], means["seed"], strict=True)]
        sound = complete & (means["counted"] == means["images"]) & ~pd.Series(diverged, dtype=bool, index=means.index)
        return means.assign(value=means["value"].where(sound)).drop(columns="counted")

    def _diverged(self, backbone: str, row: str, seed: int | str) -> bool:
        record = self.records.get(Run(backbone, row, seed)) if isinstance(seed, int) else None
        return record is not None and record.status == "diverged"

    @cached_property
    def means(self) -> dict[tuple[str, str, str, str], dict[int | str, float]]:
        """Seed to mean over the test images, by (backbone, dataset, row, metric); missing values are left out."""
        found: dict[tuple[str, str, str, str], dict[int | str, float]] = {}
        known = self.seed_means.dropna(subset="value")
        for *key, seed, value in known[["backbone", "dataset", "row", "metric", "seed", "value"]].itertuples(
            index=False
        ):
            found.setdefault((key[0], key[1], key[2], key[3]), {})[seed] = float(value)
        return found

    def row_records(self, backbone: str | None, row: str) -> dict[int, RunRecord]:
        """Return the records of one row by seed."""
        found = {seed: self.records.get(Run(backbone, row, seed)) for seed in self.profile.seeds}
        return {seed: record for seed, record in found.items() if record is not None}


def read_results(
    profile: Profile,
    rows: Sequence[Row],
    matches: Matches,
    results_folder: Path,
    resources_folder: Path = Path("resources"),
    *,
    choices: Mapping[tuple[str, str], Choice] | None = None,
    partial: bool = False,
    selection: Selection | None = None,
) -> Results:
    """Read the profile's results folder (`results/<profile>`) and the manifests of its test datasets, there if not prepared here.

    Missing runs are left out. Raises `UserError` if the score file is missing, if a record is damaged or belongs to
    another run than the profile asks for, and if the scores are of other weights, metrics or test images than the present
    ones. partial: collect the scores that the runs keep, complete or not, and count a run that would be refused as
    missing. selection: what makes `profile` and `rows` a part of a matrix.
    """
    found, failures = _read_records(results_folder, profile, rows, matches, partial)
    tested = {split.dataset for split in profile.data.test}
    manifests = {
        name: read_manifest(path)
        for name in profile.datasets
        for path in (results_folder / "manifests" / name / MANIFEST, resources_folder / name / MANIFEST)
        if path.exists()
    }
    tests = {
        test: manifests[test.dataset].digest(test.split) for test in profile.data.scored if test.dataset in manifests
    }
    if partial:
        digests = {test.dataset: digest for test, digest in tests.items()}
        scores = _kept_scores(results_folder, profile, rows, found, digests)
    else:
        named = {f"{test.dataset}/{test.split}": digest for test, digest in tests.items()}
        weights = {run.name: record.adaptation_sha256 for run, record in found.items() if record.adaptation_sha256}
        now = fingerprint_of(whole_scoring(profile), named, weights)
        scores = _gathered_scores(results_folder, profile, rows, now)
    return Results(
        profile=profile,
        rows=tuple(rows),
        scores=_of_matrix(scores, profile, rows),
        records=found,
        scenes={name: _scenes(manifests[name], profile) for name in tested if name in manifests},
        folder=results_folder,
        resources=resources_folder,
        failures=failures,
        choices=choices or {},
        manifests=manifests,
        partial=partial,
        running=dict(in_progress(enumerate_runs(profile, rows), results_folder)) if partial else {},
        selection=selection,
    )


def _gathered_scores(folder: Path, profile: Profile, rows: Sequence[Row], now: Fingerprint) -> pd.DataFrame:
    path = folder / "scores.parquet"
    if not path.exists():
        raise UserError(
            f"{path}: no scores of profile {profile.name}; run snakemake with this profile first, "
            "or add --partial to report the runs that are finished"
        )
    scores = read_scores(path)
    for run in enumerate_runs(profile, rows):
        if scores.fingerprint.weights.get(run.name) not in (None, now.weights.get(run.name)):
            advice = records.redo(run.folder(folder))
            raise UserError(
                f"{path}: the scores of {run.name} belong to weights that are missing or have changed; {advice}"
            )
    if difference := scores.fingerprint.difference(now):
        raise UserError(f"{path}: made {difference}; delete {folder}/scores and run snakemake again")
    return scores.rows


def _kept_scores(
    folder: Path, profile: Profile, rows: Sequence[Row], found: Mapping[Run, RunRecord], digests: Mapping[str, str]
) -> pd.DataFrame:
    """Collect the scores that the runs keep, as far as they belong to their present weights, images and metrics."""
    runs = [run for run in enumerate_runs(profile, rows) if not run.trained or run in found]
    sources = {(run, dataset): found[run].result_key if run.trained else None for run in runs for dataset in digests}
    return collect_scores(profile, folder, sources, digests, partial=True)[0]


def _of_matrix(scores: pd.DataFrame, profile: Profile, rows: Sequence[Row]) -> pd.DataFrame:
    scores = scores.astype({"seed": "Int64"})
    names = row_names(scores)
    once = names.isin({row.name for row in rows if not row.trained})
    seeds = scores["seed"].isin(profile.seeds) | once
    ours = names.isin({row.name for row in rows}) & scores["backbone"].isin([*profile.backbones, ""]) & seeds
    return scores[ours].reset_index(drop=True)


def _read_records(
    folder: Path, profile: Profile, rows: Sequence[Row], matches: Matches, partial: bool
) -> tuple[dict[Run, RunRecord], dict[Run, str]]:
    """Read the records of the matrix; return them, and why the others are missing."""
    found: dict[Run, RunRecord] = {}
    failures: dict[Run, str] = {}
    for run in enumerate_runs(profile, rows):
        if not run.trained:
            continue
        path = run.record_path(folder)
        if not path.exists():
            failures[run] = _why_missing(folder, run)
            continue
        try:
            record = records.read_record(path)
        except UserError:
            if not partial:
                raise
            failures[run] = "its record is damaged"
            continue
        if matches(run, record):
            found[run] = record
        elif partial:
            failures[run] = "its folder holds a run of another protocol, schedule, data or options"
        else:
            raise UserError(records.another_run(path, record))
    return found, failures


def _why_missing(folder: Path, run: Run) -> str:
    """Say why a run is missing, from the log of its job or its newest checkpoint."""
    assert run.backbone is not None
    for log in _logs(folder / "logs" / "train" / run.backbone / run.variant, run.seed):
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if lines and ERROR.match(lines[-1]):
            return f"{NOT_FINISHED}: {lines[-1].removeprefix('adaptsr: ')}"
    checkpoints = sorted((run.folder(folder) / "checkpoints").glob("*.safetensors"))
    if checkpoints and checkpoints[-1].stem.isdigit():
        return f"{NOT_FINISHED}: its newest checkpoint is at iteration {int(checkpoints[-1].stem):,}"
    return NOT_FINISHED


def _logs(folder: Path, seed: int | None) -> Iterator[Path]:
    for log in sorted(folder.glob("*.log")):
        if str(seed) in log.stem.split("-"):
            yield log


def _scenes(manifest: Manifest, profile: Profile) -> dict[str, str]:
    tested = [split.split for split in profile.data.test if split.dataset == manifest.dataset]
    return {item.name: item.scene for split in tested for item in manifest.splits.get(split, [])}

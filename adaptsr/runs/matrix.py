"""The runs of a profile: its rows, its runs, and the key of each. Imports no torch: the workflow parses with it."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from adaptsr import files
from adaptsr.adaptation.baseline_files import FOLDER, BaselineFile, Variant, discover, resolve_variant, select_variants
from adaptsr.config import schema
from adaptsr.data.catalogue import Catalogue, read_catalogue, weights_file
from adaptsr.data.manifest import MANIFEST, SplitName, manifest_path, read_manifest
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.runs import choices, keys
from adaptsr.runs.records import RunRecord
from adaptsr.runs.run import Run

Matches = Callable[[Run, RunRecord], bool]
"""Whether a record is of the run that a profile asks for now."""


@dataclass(frozen=True)
class Row:
    """A row of the tables.

    variant: empty for the unadapted backbone. backbones: those it is run on, (None,) for an external model.
    """

    baseline: str
    variant: str
    title: str
    backbones: tuple[str | None, ...]

    @property
    def name(self) -> str:
        return f"{self.baseline}/{self.variant}" if self.variant else self.baseline

    @property
    def kind(self) -> Literal["unadapted", "adapted", "external"]:
        if self.baseline == schema.UNADAPTED:
            return "unadapted"
        return "external" if self.baseline == schema.EXTERNAL else "adapted"

    @property
    def trained(self) -> bool:
        """Whether it is trained, once for each seed; the other rows are scored once."""
        return self.kind == "adapted"

    def on(self, backbone: str | None) -> bool:
        return backbone in self.backbones


class Selection(NamedTuple):
    """What makes a matrix a part of another: that matrix, the rows that stay, and the words that named them."""

    whole: Matrix
    rows: frozenset[str]
    words: str


@dataclass(frozen=True)
class Matrix:
    """The runs of a profile: its backbones x the selected variants of the baselines x its seeds."""

    profile: schema.Profile
    baselines: Mapping[str, BaselineFile]
    source: str
    """The profile's file, for messages."""
    point: choices.Options | None = None
    """The point of the grid that all runs use in place of their choices, in a matrix of tuning runs (`at`)."""
    folder: Path | None = None
    """A results folder other than `results/<profile>`, such as that of others."""
    selection: Selection | None = None
    """Set in a part of a matrix (`parts.take_part`), whose profile has the part's backbones and seeds alone."""

    @staticmethod
    def of(profile: schema.Profile, source: str, folders: Sequence[Path] = (FOLDER,)) -> Matrix:
        """Find the profile's baselines and variants. Raises `UserError` for one that is missing."""
        baselines = discover(folders)
        for name in profile.baselines:
            if name not in baselines:
                raise UserError(
                    f"{source}: baselines.{name}: no file {name}.py in {', '.join(f'{folder.name}/' for folder in folders)}"
                    f"{suggestion(name, baselines)}; there are {listing(baselines)}"
                )
        matrix = Matrix(profile, baselines, source)
        variants = list(matrix.variants.values())
        for name, changes in profile.baselines.items():
            selected = [variant.name for variant in variants if variant.baseline.name == name]
            for pattern in changes.only:
                if not fnmatch.filter(selected, pattern):
                    raise UserError(
                        f"{source}: baselines.{name}.only: {pattern!r} is none of the rows{suggestion(pattern, selected)}; "
                        f"there are {listing(selected)}"
                    )
        return matrix

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The selected variants by `<baseline>/<variant>`; none if the profile trains nothing."""
        if self.profile.training is None:
            return {}
        selected = [
            variant
            for name in self.baselines
            for variant in select_variants(self.baselines, self.profile.baselines, name, self.source)
        ]
        return {variant.row: variant for variant in selected}

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """All rows: the unadapted backbones, the variants, the external models."""
        everywhere = tuple(self.profile.backbones)
        rows = (
            Row(schema.UNADAPTED, "", "Unadapted", everywhere),
            *(Row(v.baseline.name, v.name, v.title, self._backbones_of(v)) for v in self.variants.values()),
            *(Row(schema.EXTERNAL, name, model.title, (None,)) for name, model in self.profile.external.items()),
        )
        part = self.selection
        return rows if part is None else tuple(row for row in rows if row.name in part.rows and row.backbones)

    @property
    def whole(self) -> Matrix:
        """The matrix that this is a part of, or itself."""
        return self.selection.whole if self.selection else self

    def _backbones_of(self, variant: Variant) -> tuple[str | None, ...]:
        changes = self.profile.baselines.get(variant.baseline.name, schema.Baseline())
        named = [backbones for pattern, backbones in changes.only.items() if fnmatch.fnmatchcase(variant.name, pattern)]
        return tuple(name for name in self.profile.backbones if not named or any(name in part for part in named))

    @cached_property
    def backbones(self) -> tuple[str | None, ...]:
        """The profile's backbones, then None if it has external models."""
        return (*self.profile.backbones, *([None] if self.profile.external else []))

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Everything that is scored, by backbone, row and seed."""
        return enumerate_runs(self.profile, self.rows)

    def rows_on(self, backbone: str | None) -> list[Row]:
        """Return the rows that are run on a backbone, the external models for None."""
        return [row for row in self.rows if row.on(backbone)]

    def runs_of(self, backbone: str | None, rows: Sequence[Row]) -> list[Run]:
        """Return the runs of some rows on a backbone."""
        names = {row.name for row in rows}
        return [run for run in self.runs if run.backbone == backbone and run.variant in names]

    @cached_property
    def tests(self) -> list[schema.ScoredSplit]:
        """The test datasets that are scored: an optional one waits for its manually downloaded archive."""
        return [
            test for test in self.profile.data.scored if not (test.optional and self._waits_for_archive(test.dataset))
        ]

    @cached_property
    def _catalogue(self) -> Catalogue:
        return read_catalogue()

    def _waits_for_archive(self, name: str) -> bool:
        dataset = self.profile.datasets[name]
        if not isinstance(dataset, schema.Archive) or self.manifest(name).is_file():
            return False
        archives = self._catalogue.archives_of(dataset.row)
        return any(archive.fetch == "manual" and not archive.path.is_file() for archive in archives)

    def variant(self, row: str, backbone: str | None = None) -> Variant:
        """Return any variant that the baseline files or the profile define, selected or not; with its choice on a backbone."""
        variant = resolve_variant(self.baselines, self.profile.baselines, row, self.source)
        if backbone is None:
            return variant
        chosen = {key: value for key, value in self.chosen(backbone, row).items() if key in variant.baseline.options}
        return replace(variant, options={**variant.options, **chosen}) if chosen else variant

    def training(self, variant: Variant, backbone: str) -> schema.Training:
        """Return how a variant trains: by the profile, by what differs for its baseline and itself, and by its choice.

        What the profile does not state is as in the baseline file's RECIPE.
        """
        baseline = self.profile.baselines.get(variant.baseline.name, schema.Baseline())
        parts = [baseline.training, baseline.variants.get(variant.name, schema.VariantChanges()).training]
        if self.profile.tuning and self.point:
            parts.append(self.profile.tuning.training)
        stated = {**variant.recipe, **self.profile.schedule.model_dump(exclude_unset=True)}
        for part in parts:
            stated |= part.model_dump(exclude_none=True)
        chosen = self.chosen(backbone, variant.row)
        stated |= {key: value for key, value in chosen.items() if key in schema.TrainingChanges.model_fields}
        return schema.Training.model_validate(stated)

    @property
    def objectives(self) -> list[schema.Objective]:
        """What the selected variants minimise, tuning included, each objective once. It needs no choice."""
        found: list[schema.Objective] = []
        for variant in self.variants.values():
            for point in ({}, *self.points(variant.row)):
                objective = replace(self, point=point).training(variant, next(iter(self.profile.backbones))).objective
                found += [] if objective in found else [objective]
        return found

    def variant_key(self, backbone: str, row: str) -> str:
        """Return what a profile asks of a variant on a backbone (`keys.variant_key`); it needs no file but a choice."""
        variant, start = self.variant(row, backbone), self.start(row)
        key = keys.variant_key(self.profile, backbone, variant, self.training(variant, backbone))
        return files.digest([key, self.variant_key(backbone, start)]) if start else key

    def start(self, row: str) -> str | None:
        """Return the row whose runs those of `row` go on from; None if they start from the backbone."""
        baseline, _, name = row.partition("/")
        changes = self.profile.baselines.get(baseline, schema.Baseline()).variants.get(name)
        return changes.start if changes else None

    # Tuning

    @property
    def untuned(self) -> Matrix:
        """The same matrix without any choice, which Snakemake can compare before there are any."""
        return replace(self, point={})

    def at(self, point: choices.Options) -> Matrix:
        """Return the matrix of the tuning runs at a point of the grid: their seeds, scored on the validation split."""
        tuning = self.profile.tuning
        assert tuning is not None
        scoring = self.profile.scoring.model_copy(
            update={"metrics": {tuning.metric: self.profile.scoring.metrics[tuning.metric]}}
        )
        validation = schema.ScoredSplit.model_validate(self.profile.validation.model_dump())
        changes = {
            "seeds": tuning.seeds,
            "data": self.profile.data.model_copy(update={"test": [validation], "drift": None}),
            "scoring": scoring,
            "report": self.profile.report.model_copy(update={"pictures": []}),
        }
        return replace(self, profile=self.profile.model_copy(update=changes), point=point)

    def points(self, row: str) -> list[dict[str, Any]]:
        """Return the points of the grid for a row; none if the profile has no tuning, does not run it, or nothing is open."""
        return choices.points_of(self.profile, self.variant(row)) if row in self.variants else []

    def asked_of_tuning(self, backbone: str, row: str) -> str:
        """Hash what tuning tries for a variant on a backbone, and what it selects by. It needs no file."""
        tuning = self.profile.tuning
        assert tuning is not None
        metric = self.profile.scoring.metrics[tuning.metric].model_dump(mode="json", exclude={"title"})
        tried = [[point, self.at(point).variant_key(backbone, row)] for point in self.points(row)]
        return files.digest([tried, tuning.seeds, metric, self.profile.scoring.crop_border])

    def choice_path(self, backbone: str, row: str) -> Path | None:
        """Return the file with the choice of a variant on a backbone; None if there is nothing to choose."""
        if self.point is not None or not self.points(row):
            return None
        asked = self.asked_of_tuning(backbone, row)
        return choices.choice_path(self.profile, self.results, backbone, row, asked)

    def choice(self, backbone: str, row: str) -> choices.Choice | None:
        """Return what tuning chose for a variant on a backbone; None if there is nothing to choose.

        Raises `UserError` if it is not chosen yet, or on another grid.
        """
        path = self.choice_path(backbone, row)
        if path is None:
            return None
        choice = choices.read_choice(path)
        if choice.asked != self.asked_of_tuning(backbone, row):
            raise UserError(f"{path}: chosen on another grid, schedule or metric than the profile's; run snakemake")
        return choice

    def made_choices(self) -> dict[tuple[str, str], choices.Choice]:
        """Return all choices that are made, by backbone and row."""
        found = {}
        for backbone in self.profile.backbones:
            for row in self.rows_on(backbone):
                with contextlib.suppress(UserError):  # not chosen yet
                    if row.trained and (choice := self.choice(backbone, row.name)):
                        found[backbone, row.name] = choice
        return found

    def chosen(self, backbone: str, row: str) -> choices.Options:
        """Return the options that tuning chose for a variant on a backbone, or in a matrix of tuning runs its point."""
        if self.point is not None:
            return self.point
        choice = self.choice(backbone, row)
        return choice.options if choice else {}

    def inputs(self, backbone: str) -> keys.Inputs:
        """Digest the images and weights that the runs on a backbone are made from.

        Raises `UserError` for a manifest that is missing or damaged, and for weights that are missing.
        """
        from adaptsr.data.fetch import resolve_weights  # it takes as long to import as all the rest

        weights = self.profile.backbones[backbone].weights
        return keys.Inputs(
            weights=files.file_sha256(resolve_weights(weights)) if weights else None,
            train=tuple(_digest(source.dataset, source.split) for source in self.profile.data.train),
            validation=_digest(self.profile.validation.dataset, self.profile.validation.split),
        )

    def matches(self) -> Matches:
        """Return a cached predicate: is this record of the run that the profile asks for?

        Skips images and weights that are not on this machine. Each file is read once, however many records are asked
        about.
        """
        variant_key = cache(self.variant_key)
        inputs = cache(lambda backbone: self.inputs(backbone) if self.inputs_are_here(backbone) else None)

        def match(run: Run, record: RunRecord) -> bool:
            assert run.backbone is not None
            here = inputs(run.backbone)
            same_inputs = record.inputs is not None and here in (None, record.inputs)
            try:
                key = variant_key(run.backbone, run.variant)
            except UserError:  # not tuned yet
                return False
            return same_inputs and record.seed == run.seed and record.variant_key == key

        return match

    def inputs_are_here(self, backbone: str) -> bool:
        """Return whether the images and weights that runs on a backbone are made from are on this machine."""
        weights = self.profile.backbones[backbone].weights
        data = self.profile.data
        paths = [
            manifest_path(name) for name in (*(part.dataset for part in data.train), self.profile.validation.dataset)
        ]
        if weights:
            paths.append(weights_file(weights) or files.expanded(weights))
        return all(path.is_file() for path in paths)

    @property
    def results(self) -> Path:
        folder = self.folder or Path("results") / self.profile.name
        return folder / "tuning" / choices.folder_name(self.point) if self.point else folder

    def manifest(self, dataset: str) -> Path:
        """Return the manifest of a dataset: of the prepared one, else the copy that came with the results of others."""
        prepared, copied = manifest_path(dataset), self.results / "manifests" / dataset / MANIFEST
        return copied if copied.is_file() and not prepared.is_file() else prepared

    @property
    def reports(self) -> Path:
        return Path("reports") / (self.folder.resolve().name if self.folder else self.profile.name)

    @property
    def seed_groups(self) -> list[str]:
        """The seeds of each training job as text: `1-2-3`."""
        size = self.profile.compute.seeds_per_job
        seeds = self.profile.seeds
        return ["-".join(map(str, seeds[start : start + size])) for start in range(0, len(seeds), size)]

    def blocks(self, backbone: str | None) -> dict[str, list[Row]]:
        """Return the rows of each scoring job on a backbone: whole rows, `scoring.rows_per_job` in each.

        A block is named after its first row, so that with one row a job a new variant makes its own block only.
        """
        rows, size = self.rows_on(backbone), self.profile.scoring.rows_per_job
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return {part[0].name.replace("/", "."): part for part in parts}


def enumerate_runs(profile: schema.Profile, rows: Sequence[Row]) -> tuple[Run, ...]:
    """Return everything that is scored, by backbone, row and seed; no other code forms this product."""
    return tuple(
        Run(backbone, row.name, seed)
        for backbone in (*profile.backbones, None)
        for row in rows
        if row.on(backbone)
        for seed in (profile.seeds if row.trained else [None])
    )


def _digest(dataset: str, split: SplitName) -> str:
    return read_manifest(manifest_path(dataset)).digest(split)


def matching(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """Return the rows in the order of the patterns that name them (`lora/*`), each once."""
    found = [row for pattern in patterns for row in rows if fnmatch.fnmatchcase(row.name, pattern)]
    return list(dict.fromkeys(found))

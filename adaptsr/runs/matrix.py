"""The runs of a profile: rows, variants, and where their files lie. Imports no torch: the workflow parses with it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from adaptsr import files
from adaptsr.adaptation.baseline_files import FOLDER, BaselineFile, Variant, discover, resolve_variant, select_variants
from adaptsr.config import schema
from adaptsr.data.catalogue import Catalogue, read_catalogue, weights_file
from adaptsr.data.manifest import manifest_path, read_manifest
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.runs import records

AskedFor = Callable[[str, str, int, records.RunRecord], bool]
"""Whether a record is of the run of this backbone, row and seed that a profile asks for now."""


@dataclass(frozen=True)
class Row:
    """A row of the tables."""

    baseline: str
    variant: str
    title: str
    backbones: tuple[str, ...] | None = None
    """The backbones that it is on: all of the profile for None, and `("",)` for outputs, which have none."""

    @property
    def name(self) -> str:
        return f"{self.baseline}/{self.variant}" if self.variant else self.baseline

    @property
    def seeded(self) -> bool:
        """Whether it is trained, once for each seed; the other rows are scored once."""
        return self.baseline not in (schema.UNADAPTED, schema.OUTPUTS)

    def on(self, backbone: str) -> bool:
        """Whether it is run on this backbone; `""` stands for none."""
        return bool(backbone) if self.backbones is None else backbone in self.backbones


@dataclass(frozen=True)
class Matrix:
    """The runs of a profile: its backbones x the selected variants of the baselines x its seeds."""

    profile: schema.Profile
    baselines: Mapping[str, BaselineFile]
    source: str
    """The profile's file, for messages."""

    @staticmethod
    def of(profile: schema.Profile, source: str, folder: Path = FOLDER) -> Matrix:
        """`UserError` for a baseline or variant that is not there."""
        baselines = discover(folder)
        for name in profile.baselines:
            if name not in baselines:
                raise UserError(
                    f"{source}: baselines.{name}: no file {name}.py in {folder.name}/"
                    f"{suggestion(name, baselines)}; there are {listing(baselines)}"
                )
        matrix = Matrix(profile, baselines, source)
        for variant in matrix.variants.values():
            matrix.references(variant)
        for name, changes in profile.baselines.items():
            selected = [variant.name for variant in matrix.variants.values() if variant.baseline.name == name]
            for pattern in changes.only:
                if not fnmatch.filter(selected, pattern):
                    raise UserError(
                        f"{source}: baselines.{name}.only: {pattern!r} is none of the rows{suggestion(pattern, selected)}; "
                        f"there are {listing(selected)}"
                    )
        return matrix

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The selected variants by `<baseline>/<variant>`."""
        selected = [
            variant
            for name, file in self.baselines.items()
            for variant in select_variants(file, self.profile.baselines.get(name), f"{self.source}: baselines.{name}")
        ]
        return {variant.row: variant for variant in selected}

    @cached_property
    def rows(self) -> list[Row]:
        unadapted = Row(schema.UNADAPTED, "", "Unadapted")
        adapted = (Row(v.baseline.name, v.name, v.title, self._backbones_of(v)) for v in self.variants.values())
        outputs = (Row(schema.OUTPUTS, name, output.title, ("",)) for name, output in self.profile.outputs.items())
        return [unadapted, *adapted, *outputs]

    def rows_on(self, backbone: str) -> list[Row]:
        """The rows that are run on a backbone, those of outputs for `""`."""
        return [row for row in self.rows if row.on(backbone)]

    def _backbones_of(self, variant: Variant) -> tuple[str, ...] | None:
        changes = self.profile.baselines.get(variant.baseline.name, schema.Baseline())
        named = [backbones for pattern, backbones in changes.only.items() if fnmatch.fnmatchcase(variant.name, pattern)]
        return tuple(name for name in self.profile.backbones if any(name in part for part in named)) if named else None

    @cached_property
    def tests(self) -> list[schema.ScoredSplit]:
        """The test datasets that are scored: an optional one waits for the archive that only a person can get."""
        return [test for test in self.profile.data.test if not (test.optional and self._has_to_be_got(test.dataset))]

    @cached_property
    def _catalogue(self) -> Catalogue:
        return read_catalogue()

    def _has_to_be_got(self, name: str) -> bool:
        dataset = self.profile.datasets[name]
        if not isinstance(dataset, schema.Archive) or manifest_path(name).is_file():
            return False
        archives = self._catalogue.archives_of(dataset.row)
        return any(archive.fetch == "manual" and not archive.path.is_file() for archive in archives)

    def variant(self, row: str) -> Variant:
        """Any variant that the baseline files or the profile define, selected or not."""
        name, _, variant = row.partition("/")
        if name not in self.baselines:
            raise UserError(
                f"{self.source}: no baseline {name!r}{suggestion(name, self.baselines)}; there are {listing(self.baselines)}"
            )
        changes = self.profile.baselines.get(name)
        return resolve_variant(self.baselines[name], changes, variant, f"{self.source}: baselines.{name}")

    def references(self, variant: Variant) -> dict[str, Variant]:
        """Options that name another variant (`budget: lora/r8`) and what they name.

        Such an option arrives in the baseline's `plan` as the number of parameters that variant trains.
        """
        named = {key: value for key, value in variant.options.items() if key == "budget" and isinstance(value, str)}
        found = {}
        for key, value in named.items():
            if "/" not in value or value == variant.row:
                raise UserError(
                    f"{self.source}: {variant.row}: {key}: `<baseline>/<variant>`, a number of parameters or `ranks: N` was expected, found {value!r}"
                )
            found[key] = self.variant(value)
        return found

    def training(self, variant: Variant) -> schema.Training:
        """The schedule of a variant: the profile's, with what differs for its baseline."""
        changes = self.profile.baselines.get(variant.baseline.name, schema.Baseline()).training
        return self.profile.training.model_copy(update=changes.model_dump(exclude_none=True))

    def job_key(self, backbone: str, variant: Variant) -> str:
        """Hash of everything in the profile and the baseline file that determines a variant's runs on a backbone."""
        profile = self.profile
        used = {profile.data.validation.dataset, *(source.dataset for source in profile.data.train)}
        named = self._catalogue.weights.get(profile.backbones[backbone].weights or "")
        return files.digest(
            {
                "protocol": profile.protocol,
                "scale": profile.scale,
                "compute": {"threads": profile.compute.threads, "deterministic": profile.compute.deterministic},
                "backbone": profile.backbones[backbone].model_dump(mode="json", exclude={"title"}),
                **({"weights": [named.version, named.checksum]} if named else {}),
                "baseline": variant.baseline.name,
                "baseline_protocol": variant.baseline.protocol,
                "options": _key_options(variant),
                "references": {key: _key_options(other) for key, other in self.references(variant).items()},
                "training": _key_training(self.training(variant)),
                "data": {
                    "train": [source.model_dump(mode="json") for source in profile.data.train],
                    "validation": profile.data.validation.model_dump(mode="json"),
                    "datasets": {name: profile.datasets[name].model_dump(mode="json") for name in sorted(used)},
                },
            }
        )

    def data_key(self, backbone: str) -> str:
        """Hash of the images that a backbone's runs see and of the weights they start from.

        `UserError` for a manifest that is missing or damaged, and for weights that are missing.
        """
        from adaptsr.data.fetch import resolve_weights  # it takes as long to import as all the rest

        weights = self.profile.backbones[backbone].weights
        digests = [[s.dataset, s.split, read_manifest(manifest_path(s.dataset)).digest(s.split)] for s in self._learned]
        return files.digest(
            {"weights": files.file_sha256(resolve_weights(weights)) if weights else None, "data": digests}
        )

    def asked_for(self) -> AskedFor:
        """The check of records against this profile, which reads files once, however many records it is given.

        Data and weights that are not on this disk cannot be compared, and pass.
        """
        job_key = cache(lambda backbone, row: self.job_key(backbone, self.variant(row)))
        data_key = cache(lambda backbone: self.data_key(backbone) if self._data_is_here(backbone) else None)

        def asked(backbone: str, row: str, seed: int, record: records.RunRecord) -> bool:
            data = data_key(backbone) or record.data
            return record.key == records.run_key(job_key(backbone, row), data, seed)

        return asked

    def _data_is_here(self, backbone: str) -> bool:
        weights = self.profile.backbones[backbone].weights
        paths = [manifest_path(split.dataset) for split in self._learned]
        if weights:
            paths.append(weights_file(weights) or files.expanded(weights))
        return all(path.is_file() for path in paths)

    @property
    def _learned(self) -> list[schema.Source | schema.Split]:
        """The parts of the datasets that training sees."""
        return [*self.profile.data.train, self.profile.data.validation]

    @property
    def results(self) -> Path:
        return Path("results") / self.profile.name

    @property
    def reports(self) -> Path:
        return Path("reports") / self.profile.name

    def run_folder(self, backbone: str, row: str, seed: int) -> Path:
        return self.results / records.run_name(backbone, row, seed)

    @property
    def seed_groups(self) -> list[str]:
        """The seeds of each training job as text: `1-2-3`."""
        size = self.profile.compute.seeds_per_job
        seeds = self.profile.seeds
        return ["-".join(map(str, seeds[start : start + size])) for start in range(0, len(seeds), size)]


def _key_options(variant: Variant) -> dict[str, Any]:
    return {key: value for key, value in variant.options.items() if key != "title"}


def _key_training(training: schema.Training) -> dict[str, Any]:
    """Without what changes only when things are written down, not what comes out."""
    return training.model_dump(mode="json", exclude={"checkpoint_minutes", "checkpoint_iterations"})


def matching(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """Rows in the order of the patterns that name them (`lora/*`), each once."""
    found = [row for pattern in patterns for row in rows if fnmatch.fnmatchcase(row.name, pattern)]
    return list(dict.fromkeys(found))

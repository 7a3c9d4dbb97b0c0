"""Estimate what a profile costs before anything starts: GPU hours, downloads and disk. Imports no torch.

Training and restoring times are those that the profile's paper publishes (`papers/<name>/timings.py`), metric
times those of `metrics/costs.py`, image sizes those of `config/datasets.tsv`. What is not published is derived from these, and the estimate says how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adaptsr import files
from adaptsr.adaptation.baseline_files import Variant
from adaptsr.config import schema
from adaptsr.data.catalogue import Catalogue, read_catalogue
from adaptsr.data.fetch import State, as_text, status
from adaptsr.data.kinds import ASSUMED_IMAGES, ASSUMED_LR_PIXELS
from adaptsr.data.manifest import manifest_path
from adaptsr.errors import UserError
from adaptsr.files import size_text
from adaptsr.metrics.conventions import scoring_of
from adaptsr.metrics.weights import weight_files
from adaptsr.papers import Timing, load_paper
from adaptsr.runs import durations, records
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.run import Run

ASSUMED_SHARE = 0.1
"""Share of a backbone's parameters that an adaptation trains, for a profile without a paper."""
BYTES_OF_A_SCORE = 2 * 12
"""Each score is in two files: its run's and the profile's."""


@dataclass(frozen=True)
class BackboneEstimate:
    """What the runs on one backbone cost. Hours are None if no published time leads to them."""

    name: str
    runs: int
    finished: int
    training_hours: float | None
    validation_hours: float | None
    scoring_hours: float | None
    how: str

    @property
    def hours(self) -> float | None:
        return _sum_of_known([self.training_hours, self.validation_hours, self.scoring_hours])


@dataclass(frozen=True)
class Estimate:
    profile: str
    backbones: tuple[BackboneEstimate, ...]
    notes: tuple[str, ...]
    downloads: tuple[State, ...]
    metric_weights: tuple[tuple[str, bool], ...]
    archive_bytes: int
    image_bytes: int
    decoded_bytes: int
    result_bytes: int
    adapted_share: float
    """Assumed share of a backbone's parameters that an adaptation trains."""

    @property
    def hours(self) -> float | None:
        return _sum_of_known([backbone.hours for backbone in self.backbones])


def _sum_of_known(values: Sequence[float | None]) -> float | None:
    """Return the sum, or None if one of the values is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def estimate(matrix: Matrix, card: str | None = None) -> Estimate:
    """Estimate what a profile costs from the profile and the files on disk; nothing is fetched or started.

    card: one of `config/timings.tsv`, whose measured times count instead of the paper's.
    """
    catalogue = read_catalogue()
    profile = matrix.profile
    names = [*_archive_datasets(profile).values(), *_named_weights(profile, catalogue)]
    downloads = tuple(status(sorted(set(names)))) if names else ()
    archives = [state for state in downloads if state.source.name in catalogue.archives]
    networks = {file.title: file.path.is_file() for file in weight_files(profile.scoring, matrix.objectives)}
    return Estimate(
        profile=profile.name,
        backbones=tuple(_estimate_backbone(matrix, name, card) for name in profile.backbones),
        notes=tuple(_notes(matrix, card)),
        downloads=downloads,
        metric_weights=tuple(networks.items()),
        archive_bytes=sum(state.source.bytes or 0 for state in archives),
        image_bytes=_image_bytes(profile, catalogue),
        decoded_bytes=_decoded_bytes(matrix),
        result_bytes=_result_bytes(matrix),
        adapted_share=_adapted_share(profile),
    )


def _adapted_share(profile: schema.Profile) -> float:
    return load_paper(profile.paper).ADAPTED_SHARE if profile.paper else ASSUMED_SHARE


def _archive_datasets(profile: schema.Profile) -> dict[str, str]:
    """Map the datasets that the profile reads from archives to their rows in config/datasets.tsv."""
    used: list[schema.Source | schema.Split] = [*profile.data.train, *profile.data.followed, *profile.data.scored]
    named = {split.dataset: profile.datasets[split.dataset] for split in used}
    return {name: dataset.row for name, dataset in named.items() if isinstance(dataset, schema.Archive)}


def _named_weights(profile: schema.Profile, catalogue: Catalogue) -> list[str]:
    models: list[schema.Backbone | schema.External] = [*profile.backbones.values(), *profile.external.values()]
    return [model.weights for model in models if model.weights and model.weights in catalogue.weights]


def _estimate_backbone(matrix: Matrix, name: str, card: str | None) -> BackboneEstimate:
    profile = matrix.profile
    timing = durations.timings(profile, card).get(profile.backbones[name].weights or "")
    runs = [run for run in matrix.runs if run.backbone == name and run.trained]
    finished = _finished(matrix, runs)
    left = Counter(run.variant for run in runs)
    left.subtract({row: len(found) for row, found in finished.items()})
    waiting = [matrix.variant(row) for row, count in left.items() if count]
    training = [
        (left[v.row], _training_seconds(matrix.untuned, name, v, timing, finished.get(v.row, []))) for v in waiting
    ]
    untuned = matrix.untuned
    validated = [(left[v.row], untuned.training(v, name)) for v in waiting]
    tuned = 0  # each restores the whole validation split once more, to be scored
    for at, variant in _tuning_runs(matrix, name):
        seeds = len(at.profile.seeds)
        training.append((seeds, _training_seconds(at, name, variant, timing, [])))
        validated.append((seeds, at.training(variant, name)))
        tuned += seeds
    validation = None
    if timing:
        validation = tuned * durations.followed_seconds(matrix, None, timing)
        validation += sum(count * durations.validation_seconds(matrix, each, timing) for count, each in validated)
    restored = 1 + len(runs)
    return BackboneEstimate(
        name=name,
        runs=len(runs),
        finished=sum(len(found) for found in finished.values()),
        training_hours=_total_hours(training),
        validation_hours=None if validation is None else validation / 3600,
        scoring_hours=restored * durations.scoring_seconds(matrix, matrix.tests, timing) / 3600 if timing else None,
        how=timing.how if timing else "no times are published for these weights; finished runs are the only measure",
    )


def _finished(matrix: Matrix, runs: Sequence[Run]) -> dict[str, list[records.RunRecord]]:
    """Return the records of the finished runs that belong to this profile, by row."""
    matches = matrix.matches()
    found: dict[str, list[records.RunRecord]] = {}
    for run in runs:
        try:
            record = records.read_record(run.record_path(matrix.results))
            if matches(run, record):
                found.setdefault(run.variant, []).append(record)
        except UserError:
            continue
    return found


def _total_hours(runs: Sequence[tuple[int, float | None]]) -> float | None:
    return _sum_of_known([count * each / 3600 if each is not None else None for count, each in runs])


def _tuning_runs(matrix: Matrix, backbone: str) -> Iterator[tuple[Matrix, Variant]]:
    """Yield each point of the grid at which a variant is still to be tried, as its matrix."""
    for row in matrix.rows_on(backbone):
        path = matrix.choice_path(backbone, row.name) if row.trained else None
        if path and not path.is_file():
            yield from ((matrix.at(point), matrix.variant(row.name)) for point in matrix.points(row.name))


def _training_seconds(
    matrix: Matrix, backbone: str, variant: Variant, timing: Timing | None, finished: Sequence[records.RunRecord]
) -> float | None:
    """Return the seconds of one run: the mean of its finished seeds if there are any, else from published times."""
    if finished:
        return sum(record.wall_seconds for record in finished) / len(finished)
    return durations.training_seconds(matrix, backbone, variant, timing) if timing else None


def _image_bytes(profile: schema.Profile, catalogue: Catalogue) -> int:
    """Return the bytes of images still to be unpacked, as their share of the archives; ready datasets add nothing."""
    waiting = {name: row for name, row in _archive_datasets(profile).items() if not manifest_path(name).is_file()}
    return sum(_unpacked_bytes(catalogue, row) for row in waiting.values())


def _decoded_bytes(matrix: Matrix) -> int:
    """Return the bytes of the decoded images of the splits that are used; ready datasets add nothing."""
    profile, scale = matrix.profile, matrix.profile.scale
    used: list[schema.Source | schema.Split] = [*profile.data.train, *profile.data.followed, *matrix.tests]
    parts = {(split.dataset, split.split): split for split in used if not manifest_path(split.dataset).is_file()}
    sizes = [durations.size_of(profile, split) for split in parts.values()]
    return sum(3 * size.images * size.lr_pixels * (1 + scale**2) for size in sizes)


def _unpacked_bytes(catalogue: Catalogue, row: str) -> int:
    total = 0.0
    for archive in catalogue.archives_of(row):
        everywhere = _image_counts(catalogue, catalogue.datasets, archive.name)
        here = _image_counts(catalogue, [row], archive.name)
        total += (archive.bytes or 0) * sum(here.values()) / sum(everywhere.values())
    return round(total)


def _image_counts(catalogue: Catalogue, rows: Iterable[str], archive: str) -> dict[str, int]:
    """Count the images that these datasets take from an archive, by pattern: two datasets may take the same ones."""
    return {
        images.pattern: part.pairs or ASSUMED_IMAGES
        for row in rows
        for part in catalogue.dataset(row)
        for images in part.sides.values()
        if images.archive == archive
    }


def _result_bytes(matrix: Matrix) -> int:
    profile = matrix.profile
    scores = sum(
        durations.size_of(profile, test).images * len(scoring_of(profile, test.dataset).metrics)
        for test in matrix.tests
    )
    total = 0.0
    for name, backbone in profile.backbones.items():
        weights = _weights_bytes(profile, backbone)
        for row in matrix.rows_on(name):
            runs = len(profile.seeds) if row.trained else 1
            total += runs * scores * BYTES_OF_A_SCORE
            if row.trained:
                share = 1 if matrix.variant(row.name).baseline.trains_all else _adapted_share(profile)
                total += runs * weights * share
    return round(total)


def _weights_bytes(profile: schema.Profile, backbone: schema.Backbone) -> int:
    """Return the bytes of a whole backbone: its parameters in single precision if their number is known, else the file's size."""
    timing = durations.timings(profile).get(backbone.weights or "")
    if timing:
        return 4 * timing.parameters
    path = files.expanded(backbone.weights or "")
    return path.stat().st_size if path.is_file() else 0


def _notes(matrix: Matrix, card: str | None) -> Iterator[str]:
    profile = matrix.profile
    if matrix.selection:
        count, of = (sum(run.trained for run in runs) for runs in (matrix.runs, matrix.whole.runs))
        yield f"A part of the matrix, {matrix.selection.words}: {count:,} of {of:,} runs."
    left_out = [test.dataset for test in profile.data.test if test not in matrix.tests]
    if left_out:
        yield f"Left out until its archive is there: {', '.join(left_out)}."
    if not any(backbone.weights in durations.timings(profile) for backbone in profile.backbones.values()):
        return
    if card:
        found = durations.measured(durations.timings(profile), card)
        yield (
            f"Hours are of one {card}, by steps measured on {found.when}, with {found.recipe}; batch 8 and HR crop 256, in proportion to "
            "the pixels of an iteration; metric times of a V100. Data loading and compiling are not in them."
        )
        training = profile.training
        own = f"training.precision: {training.precision}, training.compile: {training.compile}" if training else None
        if own != found.recipe:
            yield f"This profile has {own}, which this table does not have for this card: these are the hours that it would take with the other."
    else:
        yield (
            "Hours are of one RTX 4090: published times per iteration at batch 8 and HR crop 256, in proportion to the pixels of an "
            "iteration; half-precision restoring times doubled; metric times of a V100. Data loading is not in them."
        )
    if any(source.degradation for source in profile.data.train):
        yield "LR that is degraded on the fly makes an iteration longer than the published ones; by how much is not published."
    if tuning := sum(len(at.profile.seeds) for name in profile.backbones for at, _ in _tuning_runs(matrix, name)):
        yield f"Training and validation hours include {tuning:,} tuning runs, which `RUNS` does not count."
    splits = [(split.dataset, durations.size_of(profile, split)) for split in (*profile.data.followed, *matrix.tests)]
    sizes = sorted({dataset for dataset, size in splits if not size.lr_pixels_known})
    if sizes:
        yield f"The size of the images of {', '.join(sizes)} is not known beforehand: {ASSUMED_LR_PIXELS:,} LR pixels are assumed."
    counts = sorted({dataset for dataset, size in splits if not size.images_known})
    if counts:
        yield f"The number of images of {', '.join(counts)} is not known beforehand: {ASSUMED_IMAGES} are assumed."
    if profile.external:
        yield "Restoring and scoring the outputs of other models is not in them."


def to_text(made: Estimate, gpus: int = 1) -> str:
    """Write the estimate out for the terminal; gpus: over how many the hours spread."""
    finished = sum(backbone.finished for backbone in made.backbones)
    runs = sum(backbone.runs for backbone in made.backbones)
    lines = [f"Profile {made.profile}: {runs:,} runs, {finished:,} of them finished", "", *_hours_text(made, gpus), ""]
    lines += [*made.notes, ""] if made.notes else []
    lines += ["Downloads", *as_text(made.downloads).splitlines()] if made.downloads else ["No downloads"]
    lines += [f"metric weights: {title}, {'there' if there else 'missing'}" for title, there in made.metric_weights]
    unknown = [state.source.name for state in made.downloads if not state.source.bytes]
    more = f", without {', '.join(unknown)}, whose size is not published" if unknown else ""
    archives = f"archives {size_text(made.archive_bytes)} and their images {size_text(made.image_bytes)}{more}; "
    decoded = f"decoded images {size_text(made.decoded_bytes)}; "
    lines += [
        "",
        f"Disk: {archives if made.downloads else ''}{decoded}results about {size_text(made.result_bytes)} (weights of all runs, with {made.adapted_share:.0%} of a backbone where not all of it trains, and scores)",
    ]
    return "\n".join(lines) + "\n"


def _hours_text(made: Estimate, gpus: int) -> Iterator[str]:
    cells = [("BACKBONE", "RUNS", "FINISHED", "TRAINING", "VALIDATION", "SCORING", "HOURS")]
    for b in made.backbones:
        hours = (b.training_hours, b.validation_hours, b.scoring_hours, b.hours)
        cells.append((b.name, str(b.runs), str(b.finished), *(_hours(value) for value in hours)))  # type: ignore[arg-type]
    cells.append(("all", "", "", "", "", "", _hours(made.hours)))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        yield "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
    if gpus > 1 and made.hours is not None:
        yield f"On {gpus} GPUs: {_hours(made.hours / gpus)} hours, if their jobs end together."
    yield from (f"{backbone.name}: {backbone.how}" for backbone in made.backbones)


def _hours(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def to_json(made: Estimate) -> dict[str, Any]:
    """Return the estimate as `json.dumps` takes it."""
    return {
        "profile": made.profile,
        "gpu_hours": made.hours,
        "backbones": [{**asdict(backbone), "hours": backbone.hours} for backbone in made.backbones],
        "notes": list(made.notes),
        "downloads": [
            {
                "name": state.source.name,
                "state": state.state,
                "bytes": state.source.bytes,
                "fetch": state.source.fetch,
                "licence": state.source.licence,
            }
            for state in made.downloads
        ],
        "metric_weights": dict(made.metric_weights),
        "bytes": {
            "archives": made.archive_bytes,
            "images": made.image_bytes,
            "decoded": made.decoded_bytes,
            "results": made.result_bytes,
        },
    }

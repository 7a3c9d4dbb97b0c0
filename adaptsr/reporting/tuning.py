"""Show what tuning chose: the values, the curve over the grid that they were chosen from, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adaptsr.config import schema
from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.model import number_text
from adaptsr.reporting.render import write_frame

if TYPE_CHECKING:
    from adaptsr.reporting.results import Results
    from adaptsr.runs.choices import Choice, Options

TUNING = "tuning.csv"
DIRECTION = {False: "rising", True: "falling"}
"""Where a curve leads as its metric improves, by whether lower is better."""


@dataclass(frozen=True)
class CurveLine:
    """The curve of a row as text: chosen values, the mean at each point with whether it is the chosen one, a remark."""

    row: str
    title: str
    chosen: str
    points: tuple[tuple[str, bool], ...]
    remark: str


@dataclass(frozen=True)
class CurveTable:
    """The curves of the rows of a backbone that were tried at the same points."""

    backbone: str
    points: tuple[str, ...]
    lines: tuple[CurveLine, ...]


@dataclass(frozen=True)
class TuningReport:
    """Everything that the section on tuning shows. file: the table of all points with their seeds."""

    metric: str
    sentences: tuple[str, ...]
    tables: tuple[CurveTable, ...]
    file: str = TUNING


def settings_sentence(results: Results) -> str:
    """Say how fairly the rows were set: tuned and how thoroughly, at the paper's settings, or neither; empty if nothing trains."""
    profile, choices = results.profile, results.choices
    if profile.training is None:
        return ""
    if tuning := profile.tuning:
        schedule = tuning.training.model_fields_set & {"schedule", "milestones", "decay", "warmup"}
        size = _size(results)
        edges = sum(bool(at_edge(choice)) for choice in choices.values())
        chosen = _counted(len(choices), "choice")
        return (
            f"Every row is tuned on every backbone{_but_untuned(results)}: {option_names(tuning.grid)} is the best of "
            f"{_points_tried(results)} tried, by the mean over {_counted(len(tuning.seeds), 'seed')}, "
            f"{_tuned_for(results)} iterations each with {'a schedule of their own' if schedule else 'the schedule in proportion'} "
            f"(reported runs: {profile.training.iterations:,}), on the validation split{f', {size}' if size else ''}."
            f"{f' At the edge of the values tried: {edges} of {chosen}.' if edges else ''}"
        )
    if profile.report.comparable_with_paper:
        return "Every row is at the paper's settings, not tuned."
    return "Every row is trained at one learning rate, not tuned: another one may change what is said here."


def build_tuning(results: Results) -> TuningReport | None:
    """Build the section on tuning; None if the profile has no tuning, or nothing is chosen yet."""
    tuning, choices = results.profile.tuning, results.choices
    if tuning is None or not choices:
        return None
    (metric,) = metric_columns(results.profile, [tuning.metric])
    return TuningReport(
        metric=f"{metric.title}{f' ({metric.unit})' if metric.unit else ''} {metric.arrow}",
        sentences=tuple(_sentences(results, metric)),
        tables=tuple(_tables(results, metric)),
    )


def write_tuning(results: Results, folder: Path) -> None:
    """Write `tuning.csv`: every point of every curve, each seed; nothing without choices."""
    lines: list[dict[str, Any]] = [
        {
            "backbone": backbone,
            "row": row,
            **tried.point,
            "seed": seed,
            choice.metric: value,
            "chosen": tried.point == choice.options,
        }
        for (backbone, row), choice in results.choices.items()
        for tried in choice.tried
        for seed, value in tried.values.items()
    ]
    if lines:
        write_frame(folder / TUNING, pd.DataFrame(lines))


def is_flat(choice: Choice, metric: MetricColumn, digits: int) -> bool:
    """Return whether the values tried differ within the metric's margin on the validation images, or in no digit shown without one."""
    means = [tried.mean for tried in choice.tried]
    known = [mean for mean in means if mean is not None]
    if len(known) < len(means):
        return False
    spread = max(known) - min(known)
    return (
        spread <= metric.margin
        if metric.margin is not None
        else len({number_text(mean, digits) for mean in known}) == 1
    )


def at_edge(choice: Choice) -> list[str]:
    """Return the options whose chosen number is the least or the greatest of several tried: beyond it was not tried."""
    found = []
    for key, value in choice.options.items():
        values = {tried.point[key] for tried in choice.tried}
        numbers = len(values) > 1 and all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
        if numbers and value in (min(values), max(values)):
            found.append(key)
    return found


def _sentences(results: Results, metric: MetricColumn) -> Iterator[str]:
    tuning, choices = results.profile.tuning, results.choices
    assert tuning
    digits = results.decimals.get(metric.name, 4)
    runs, seconds = sum(one.runs for one in choices.values()), sum(one.seconds for one in choices.values())
    reported = sum(record.wall_seconds for record in results.records.values())
    validation = results.profile.validation
    yield (
        f"{_tried_alike(results)} of {option_names(tuning.grid)}, with seed{'s' if len(tuning.seeds) > 1 else ''} "
        f"{', '.join(map(str, tuning.seeds))}, which no reported run uses, for {_tuned_for(results)} "
        f"iterations. The best mean {metric.title} on {validation.dataset} ({validation.split}) was chosen; no test image was "
        "looked at."
    )
    yield (
        f"Tuning took {runs:,} runs and {_duration(seconds)} of training; the {len(results.records):,} reported runs took "
        f"{_duration(reported)}."
    )
    flat = sum(is_flat(one, metric, digits) for one in choices.values())
    edges = sum(bool(at_edge(one)) for one in choices.values())
    yield f"Of {len(choices)} curves, {flat} {'is' if flat == 1 else 'are'} flat ({_flatness(metric, digits)})."
    if edges:
        yield f"{edges} choice{' lies' if edges == 1 else 's lie'} at the edge of the grid: values beyond it were not tried and may be better."
    declared = [(backbone, row) for row in results.adapted_rows for backbone in row.backbones]
    missing = len(declared) - len(choices) if _all_have_points(results) else 0
    if missing > 0 and results.partial:
        yield f"{_counted(missing, 'choice')} of {len(declared)} {'is' if missing == 1 else 'are'} still to be made."
    other = {
        run.backbone
        for run, record in results.records.items()
        if (choice := results.choices.get((str(run.backbone), run.variant))) and choice.inputs != record.inputs
    }
    if other:
        yield f"The choices for {', '.join(sorted(map(str, other)))} were made with other images or weights than the reported runs: make them again."


def _all_have_points(results: Results) -> bool:
    """Return whether the grid has a key of training, which every row has; options of methods only some have."""
    tuning = results.profile.tuning
    return tuning is not None and any(key in schema.TrainingChanges.model_fields for key in tuning.grid)


def _but_untuned(results: Results) -> str:
    """Name the rows that have none of the options tried; empty while that is not known."""
    if _all_have_points(results) or results.partial:
        return ""
    tuned = {row for _, row in results.choices}
    names = [row.title for row in results.adapted_rows if row.name not in tuned]
    return f", but for {', '.join(names)}, which {'have' if len(names) > 1 else 'has'} no such option" if names else ""


def _points_tried(results: Results) -> str:
    """Write `4 points`, or `2 to 6 points` where rows have different options."""
    assert results.profile.tuning
    whole = math.prod(map(len, results.profile.tuning.grid.values()))
    counts = {len(choice.tried) for choice in results.choices.values()} or {whole}
    return f"{f'{min(counts)} to ' if len(counts) > 1 else ''}{_counted(max(counts), 'point')}"


def _tried_alike(results: Results) -> str:
    points = {tuple(point_text(tried.point) for tried in choice.tried) for choice in results.choices.values()}
    alike = len(points) == 1 and not _but_untuned(results)
    return "Every row was tried at the same values" if alike else "Every row was tried at those values that it has"


def _tables(results: Results, metric: MetricColumn) -> Iterator[CurveTable]:
    titles = {row.name: row.title for row in results.rows}
    digits = results.decimals.get(metric.name, 4)
    for backbone, declared in results.profile.backbones.items():
        found: dict[tuple[str, ...], list[CurveLine]] = {}
        for row in results.adapted_rows:
            if choice := results.choices.get((backbone, row.name)):
                points = tuple(point_text(tried.point) for tried in choice.tried)
                found.setdefault(points, []).append(_line(choice, titles[row.name], metric, digits))
        for points, lines in found.items():
            yield CurveTable(declared.title or backbone, points, tuple(lines))


def _line(choice: Choice, title: str, metric: MetricColumn, digits: int) -> CurveLine:
    cells = [
        ("diverged" if tried.mean is None else number_text(tried.mean, digits), tried.point == choice.options)
        for tried in choice.tried
    ]
    return CurveLine(choice.row, title, point_text(choice.options), tuple(cells), _remark(choice, metric, digits))


def _remark(choice: Choice, metric: MetricColumn, digits: int) -> str:
    if not choice.options:
        return "every point diverged: the profile's own settings are used"
    edge = at_edge(choice)
    if not is_flat(choice, metric, digits):
        return f"{option_names(edge)} at the edge of the grid" if edge else ""
    means = [tried.mean for tried in choice.tried if tried.mean is not None]
    moving = edge and means.count((max, min)[metric.lower_better](means)) == 1
    return (
        f"flat {_flatness(metric, digits)}{f', still {DIRECTION[metric.lower_better]} at the edge' if moving else ''}"
    )


def _flatness(metric: MetricColumn, digits: int) -> str:
    return f"within {metric.margin:g}{metric.in_unit}" if metric.margin is not None else f"equal in {digits} digits"


def point_text(point: Options) -> str:
    """Write a point of the grid: `lr 0.002, alpha 4`."""
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in point.items()
    )


def option_names(keys: Sequence[str] | Mapping[str, Any]) -> str:
    """List options by name, such as `learning rate (lr) and alpha`."""
    return " and ".join("learning rate (lr)" if key == "lr" else key for key in keys)


def validation_size(results: Results, training: schema.Training | None = None) -> str:
    """Say on how few images rows are validated, in tuning or in `training`, as a sentence and a space; empty if not known."""
    size = _size(results, training)
    return f"Validation is on {size}: not for ranking. " if size else ""


def _size(results: Results, training: schema.Training | None = None) -> str:
    """Write `6 images of 3 scenes`; empty where the validation images are not known here."""
    validation = results.profile.validation
    manifest = results.manifests.get(validation.dataset)
    items = manifest.splits.get(validation.split, []) if manifest else []
    if training:
        items = [items[index] for index in training.validated(len(items))]
    scenes = len({item.scene for item in items})
    return f"{_counted(len(items), 'image')} of {_counted(scenes, 'scene')}" if items else ""


def _tuned_for(results: Results) -> str:
    """List the numbers of iterations that tuning runs have."""
    assert results.profile.tuning
    declared = results.profile.tuning.training.iterations or results.profile.schedule.iterations
    return " or ".join(f"{n:,}" for n in sorted({one.iterations for one in results.choices.values()} or {declared}))


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def _duration(seconds: float) -> str:
    units = (("hours", 3600), ("minutes", 60), ("seconds", 1))
    unit, length = next((unit for unit in units if seconds >= 2 * unit[1]), units[-1])
    return f"{seconds / length:,.1f} {unit}"

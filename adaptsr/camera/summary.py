"""Write the one page of an adaptation: what was gained, with its interval, and test pictures before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from adaptsr import files
from adaptsr.reporting.gallery import PictureView, build_gallery
from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.model import number_text, signed
from adaptsr.reporting.render import render
from adaptsr.reporting.results import Results, read_results
from adaptsr.reporting.sentences import ABOUT
from adaptsr.reporting.significance import compare_rows, interval_text
from adaptsr.runs.matrix import Matrix
from adaptsr.statistics import SCOPES

PAGE = "report.html"


@dataclass(frozen=True)
class Summary:
    """The page, and its first sentence."""

    page: Path
    gain: str


def write_summary(matrix: Matrix, folder: Path) -> Summary:
    """Write `report.html` with its pictures into a folder. Raises `UserError` if the profile's scores are not complete."""
    choices = matrix.made_choices()
    results = read_results(matrix.profile, matrix.rows, matrix.matches(), matrix.results, choices=choices)
    frame = compare_rows(results)
    lines = [(metric, frame[frame["metric"] == metric.name].iloc[0]) for metric in metric_columns(matrix.profile)]
    gain = _gain(*lines[0])
    with files.refusal_explained(folder / "pictures"):
        gallery = build_gallery(results, folder)
    render(
        "compared.html",
        folder / PAGE,
        title=matrix.profile.title,
        text=" ".join([gain, *_notes(matrix, results)]),
        table={
            "first": "Metric",
            "last": "Verdict",
            "headings": HEADINGS,
            "rows": [_row(results, *line) for line in lines],
        },
        pictures=[_before_and_after(view) for view in gallery.pictures],
    )
    return Summary(folder / PAGE, gain)


HEADINGS = ("before", "after", "difference", "95% interval")


def _gain(metric: MetricColumn, line: pd.Series[Any]) -> str:
    scope, interval = _widest(line, 2)
    known = f" ({interval} {ABOUT[scope]}, {line[f'verdict_{scope}']})" if scope else ""
    return (
        f"{metric.title} on {line['images']} test pictures of {line['scenes']} scenes that were not trained on: "
        f"{line['compared_mean']:.2f}{metric.in_unit} before, {line['row_mean']:.2f}{metric.in_unit} after, a {'difference' if metric.lower_better else 'gain'} of "
        f"{signed(line['difference'], 2)}{metric.in_unit}{known}."
    )


def _widest(line: pd.Series[Any], digits: int) -> tuple[str, str]:
    """Return the widest scope that has an interval, and the interval; empty texts if there is none."""
    for scope in reversed(SCOPES):
        if not math.isnan(line[f"low_{scope}"]):
            return scope, interval_text(line[f"low_{scope}"], line[f"high_{scope}"], digits)
    return "", ""


def _row(results: Results, metric: MetricColumn, line: pd.Series[Any]) -> tuple[str, list[str], str]:
    digits = results.decimals.get(metric.name, 4)
    scope, interval = _widest(line, digits)
    numbers = [number_text(line[key], digits) for key in ("compared_mean", "row_mean")]
    reasons = results.scores.loc[results.scores["metric"] == metric.name, "reason"].dropna().unique()
    verdict = (
        f"{line[f'verdict_{scope}']} {ABOUT[scope]}"
        if scope
        else f"not tested{': ' if len(reasons) else ''}{'; '.join(reasons)}"
    )
    return f"{metric.title} {metric.arrow}", [*numbers, signed(line["difference"], digits), interval or "-"], verdict


def _notes(matrix: Matrix, results: Results) -> Iterator[str]:
    yield matrix.profile.report.note
    for record in results.records.values():
        if record.kept and record.seed == matrix.profile.seeds[0]:
            yield f"The model that is handed on is of seed {record.seed}, iteration {record.kept.iteration} of {record.iterations}."
    for choice in results.choices.values():
        tried = ", ".join(f"{point.point['lr']:g}" for point in choice.tried)
        yield f"The learning rate {choice.options.get('lr', '-')} was chosen of {tried} on the validation split."


def _before_and_after(view: PictureView) -> tuple[PictureView, str]:
    """Return a view whose slider has before on its left and after on its right."""
    before, after = view.groups[0].tiles
    hr, lr = view.references
    shown = (replace(after, title="After"), hr, replace(before, title="Before"), lr)
    return replace(view, references=shown, groups=()), f"{view.width}x{view.height} pixels; the box is what is shown."

"""Draw the training time and peak memory of every row."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes

from adaptsr.reporting.figures.canvas import Drawing, panels, set_title
from adaptsr.reporting.figures.convergence import time_unit
from adaptsr.reporting.figures.palette import looks
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import backbone_title
from adaptsr.runs.records import RunRecord
from adaptsr.statistics import seed_mean

GIBIBYTE = 2.0**30


def costs(results: Results) -> Drawing | None:
    """Draw a column of panels per backbone, time above and memory below, with a bar per row. None without records."""
    if not results.records:
        return None
    rows, backbones = results.adapted_rows, list(results.profile.backbones)
    unit, seconds = time_unit([record.wall_seconds for record in results.records.values()])
    figure, grid = panels(2, len(backbones), 0.5 + 0.19 * len(rows) + 0.35, sharey=True)
    measures: tuple[tuple[str, Callable[[RunRecord], float]], ...] = (
        (f"training time of a run ({unit})", lambda record: record.wall_seconds / seconds),
        ("peak memory (GiB)", lambda record: record.peak_memory_bytes / GIBIBYTE),
    )
    for (label, measure), line in zip(measures, grid, strict=True):
        for backbone, axes in zip(backbones, line, strict=True):
            _panel(axes, results, backbone, measure)
            axes.set_xlabel(label)
            if label is measures[0][0]:
                set_title(axes, backbone_title(results.profile, backbone))
        line[0].set_yticks(range(len(rows)), [row.title for row in rows])
        line[0].set_ylim(len(rows) - 0.5, -0.5)
    return Drawing(
        name="costs",
        kind="costs",
        title="Training time and memory",
        caption="Bars are means over the runs of a row, dots are single runs. Time is that of the optimizer steps. Memory is the peak on the GPU; without a GPU it is the peak of the whole training process, which also holds libraries and data and may have trained other seeds before.",
        alt=f"Bar charts of training time and peak memory per row, one column per backbone. {_extremes(results, unit, seconds)}",
        figure=figure,
    )


def _panel(axes: Axes, results: Results, backbone: str, measure: Callable[[RunRecord], float]) -> None:
    look = looks(results.rows)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    for place, row in enumerate(results.adapted_rows):
        values = [measure(record) for record in results.row_records(backbone, row.name).values()]
        if values:
            axes.barh(place, seed_mean(values), height=0.62, color=look[row.name].color, alpha=0.45)
            axes.plot(
                values, [place] * len(values), linestyle="none", marker=".", markersize=3, color=look[row.name].color
            )
    axes.set_xlim(left=0)


def _extremes(results: Results, unit: str, seconds: float) -> str:
    titles = {row.name: row.title for row in results.rows}
    times = {
        (backbone, row.name): seed_mean(record.wall_seconds / seconds for record in records)
        for backbone in results.profile.backbones
        for row in results.adapted_rows
        if (records := list(results.row_records(backbone, row.name).values()))
    }
    least, most = min(times, key=lambda key: times[key]), max(times, key=lambda key: times[key])
    named = {key: f"{titles[key[1]]} on {backbone_title(results.profile, key[0])}" for key in (least, most)}
    return f"Shortest is {named[least]} with {times[least]:.1f} {unit}, longest {named[most]} with {times[most]:.1f} {unit}."

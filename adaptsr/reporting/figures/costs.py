"""Draw the time and memory that training takes for every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from adaptsr.reporting.figures.canvas import Drawing, fitted, panels, set_title
from adaptsr.reporting.figures.convergence import time_unit
from adaptsr.reporting.figures.palette import looks
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import backbone_title
from adaptsr.runs.records import SHARED_GPU, RunRecord
from adaptsr.statistics import seed_mean

MEBIBYTE = 2.0**20
Measure = Callable[[RunRecord], float | None]


def costs(results: Results) -> Drawing | None:
    """Draw a column of panels per backbone, time above and memory below, with a bar per row.

    None without a record that holds either.
    """
    records = list(results.records.values())
    unit, seconds = time_unit([used_seconds(record) or 0 for record in records])
    measures: dict[str, Measure] = {
        f"{_clock(records)} ({unit})": lambda record: (used_seconds(record) or 0) / seconds or None,
        "memory of a step (MiB)": lambda record: (record.step_memory_bytes or 0) / MEBIBYTE or None,
    }
    measures = {label: measure for label, measure in measures.items() if any(map(measure, records))}
    if not measures:
        return None
    rows, backbones = results.adapted_rows, list(results.profile.backbones)
    figure, grid = panels(len(measures), len(backbones), 0.5 + 0.19 * len(rows) + 0.35, share_y="all")
    for (label, measure), line in zip(measures.items(), grid, strict=True):
        for backbone, axes in zip(backbones, line, strict=True):
            _panel(axes, results, backbone, measure)
            axes.set_xlabel(label)
        line[0].set_yticks(range(len(rows)), [fitted(row.title) for row in rows])
        line[0].set_ylim(len(rows) - 0.5, -0.5)
    for backbone, axes in zip(backbones, grid[0], strict=True):
        set_title(axes, backbone_title(results.profile, backbone))
    return Drawing(
        name="costs",
        kind="costs",
        title="Time and memory of training",
        caption="Bars are means over the runs of a row, dots are single runs. Time is that of the optimizer steps: processor time of all threads, which other jobs hardly change, or time on the GPU; runs whose GPU was shared have none. Memory is what a step holds besides the model, counted from the tensors and so the same on every machine: kept for the backward pass, gradients and the optimizer's state.",
        alt=f"Bar charts per row, one column per backbone. {' '.join(_extremes(results, label, measure) for label, measure in measures.items())}",
        figure=figure,
    )


def used_seconds(record: RunRecord) -> float | None:
    """Return the processor time of a run's steps, or the time on its GPU; None if unknown or shared."""
    if record.provenance.device == "cpu":
        return record.processor_seconds
    return None if any(SHARED_GPU in note for note in record.notes) else record.wall_seconds


def _clock(records: Sequence[RunRecord]) -> str:
    """Say what `used_seconds` counts in these runs."""
    clocks = {"processor time" if record.provenance.device == "cpu" else "time on the GPU" for record in records}
    return " or ".join(sorted(clocks))


def _panel(axes: Axes, results: Results, backbone: str, measure: Measure) -> None:
    look = looks(results.rows)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    for place, row in enumerate(results.adapted_rows):
        values = _values(results, backbone, row.name, measure)
        if values:
            axes.barh(place, seed_mean(values), height=0.62, color=look[row.name].color, alpha=0.45)
            axes.plot(
                values, [place] * len(values), linestyle="none", marker=".", markersize=3, color=look[row.name].color
            )
    axes.set_xlim(left=0)


def _values(results: Results, backbone: str, row: str, measure: Measure) -> list[float]:
    measured = map(measure, results.row_records(backbone, row).values())
    return [value for value in measured if value is not None]


def _extremes(results: Results, label: str, measure: Measure) -> str:
    found = {
        f"{row.title} on {backbone_title(results.profile, backbone)}": seed_mean(values)
        for backbone in results.profile.backbones
        for row in results.adapted_rows
        if (values := _values(results, backbone, row.name, measure))
    }
    least, most = min(found, key=lambda name: found[name]), max(found, key=lambda name: found[name])
    return f"Least {label}: {least} with {found[least]:.1f}; most: {most} with {found[most]:.1f}."

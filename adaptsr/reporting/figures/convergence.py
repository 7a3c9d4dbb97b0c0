"""Draw validation PSNR-Y during training, by iterations and by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from adaptsr.reporting.figures.canvas import QUIET, Drawing, add_legend, empty_panel, label_y, panels, set_title
from adaptsr.reporting.figures.complexity import short_number
from adaptsr.reporting.figures.palette import Look, looks
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import backbone_title
from adaptsr.reporting.tuning import validation_size
from adaptsr.runs.records import RunRecord
from adaptsr.runs.running import Running
from adaptsr.statistics import seed_mean

MOST_DOTS = 8
"""Most validations of a curve that are still marked by dots."""


@dataclass(frozen=True)
class Curve:
    """Mean validation PSNR-Y (dB) of a row's runs at each iteration, with their mean training seconds.

    Only runs that reached an iteration count there.
    """

    row: str
    iterations: tuple[int, ...]
    seconds: tuple[float, ...]
    mean: tuple[float, ...]


def convergence(results: Results) -> Drawing | None:
    """Draw a column of panels per backbone: iterations above, time below. None without any run."""
    if not results.records and not results.running:
        return None
    backbones = list(results.profile.backbones)
    curves = {backbone: curves_of(results, backbone) for backbone in backbones}
    unit, seconds = time_unit([curve.seconds[-1] for found in curves.values() for curve in found])
    figure, grid = panels(2, len(backbones), 2.35, share_y="col")
    look = looks(results.rows)
    for backbone, upper, lower in zip(backbones, grid[0], grid[1], strict=True):
        set_title(upper, backbone_title(results.profile, backbone))
        for axes, label in ((upper, "iterations"), (lower, f"wall time ({unit}),\nmachine may be shared")):
            axes.set_xlabel(label)
            if not curves[backbone]:
                empty_panel(axes, "no run is finished")
        for curve in curves[backbone]:
            _draw(upper, curve, curve.iterations, look[curve.row])
            _draw(lower, curve, [value / seconds for value in curve.seconds], look[curve.row])
        for axes, ends in (
            (upper, [curve.iterations[-1] for curve in curves[backbone]]),
            (lower, [curve.seconds[-1] / seconds for curve in curves[backbone]]),
        ):
            _final_levels(axes, curves[backbone], ends)
        _follow_means(upper, curves[backbone])
        upper.xaxis.set_major_formatter(lambda value, _position: short_number(value))
    for line in grid:
        label_y(line, "validation PSNR-Y (dB) ↑")
    add_legend(figure, _legend(results, look))
    return Drawing(
        name="convergence",
        kind="convergence",
        title="Training against validation PSNR-Y",
        caption=f"Lines are means over the seeds. A row that ends early goes on as a thin gray line at its last value. One panel counts iterations, the other seconds. The seconds are those of training steps, without validation, and depend on what else ran on the machine. {validation_size(results, results.profile.schedule)}{'Runs in progress are drawn as far as they are. ' if results.running else ''}{'Tuning chose by the validation images, with other seeds.' if results.profile.tuning else 'Nothing is chosen by the validation images.'}",
        alt=f"Line plots of validation PSNR-Y against iterations and against time, one column per backbone. {_ends(results, curves)}",
        figure=figure,
    )


def curves_of(results: Results, backbone: str) -> list[Curve]:
    """Return the curves of all rows with validated runs on a backbone."""
    found = {
        row.name: list[RunRecord | Running](results.row_records(backbone, row.name).values())
        for row in results.adapted_rows
    }
    for run, running in results.running.items():
        if run.backbone == backbone and run not in results.records:
            found[run.variant].append(running)
    return [curve for name, runs in found.items() if (curve := _curve(name, runs)) is not None]


def _curve(row: str, runs: Sequence[RunRecord | Running]) -> Curve | None:
    points: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        for point in run.validation:
            points.setdefault(point.iteration, []).append((point.psnr_y, point.seconds))
    if not points:
        return None
    order = sorted(points)
    return Curve(
        row=row,
        iterations=tuple(order),
        seconds=tuple(seed_mean(seconds for _, seconds in points[iteration]) for iteration in order),
        mean=tuple(seed_mean(psnr for psnr, _ in points[iteration]) for iteration in order),
    )


def _draw(axes: Axes, curve: Curve, x: Sequence[float], look: Look) -> None:
    marker = "." if len(x) <= MOST_DOTS else None
    axes.plot(x, curve.mean, color=look.color, linestyle=look.dash, marker=marker, markersize=3)


def _follow_means(axes: Axes, curves: Sequence[Curve]) -> None:
    """Fit the panel to the means."""
    levels = [level for curve in curves for level in curve.mean]
    if levels and min(levels) < max(levels):
        margin = 0.08 * (max(levels) - min(levels))
        axes.set_ylim(min(levels) - margin, max(levels) + margin)


def _final_levels(axes: Axes, curves: Sequence[Curve], ends: Sequence[float]) -> None:
    longest = max(ends, default=0)
    for curve, end in zip(curves, ends, strict=True):
        if end < 0.98 * longest:
            axes.plot([end, longest], [curve.mean[-1]] * 2, color=QUIET, linewidth=0.5, zorder=1)


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """Return the name and length in seconds of the unit that suits the longest of these times."""
    longest = max(seconds, default=0)
    units = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
    return next((unit for unit in units if longest >= 2 * unit[1]), units[-1])


def _legend(results: Results, look: Mapping[str, Look]) -> list[Line2D]:
    return [
        Line2D([], [], color=look[row.name].color, linestyle=look[row.name].dash, label=row.title)
        for row in results.adapted_rows
    ]


def _ends(results: Results, curves: Mapping[str, Sequence[Curve]]) -> str:
    titles = {row.name: row.title for row in results.rows}
    parts = []
    for backbone, found in curves.items():
        if found:
            best = max(found, key=lambda curve: curve.mean[-1])
            first = found[0]
            parts.append(
                f"{backbone_title(results.profile, backbone)} starts at {first.mean[0]:.2f} dB; highest at the end is {titles[best.row]} with {best.mean[-1]:.2f} dB"
            )
    return f"{'. '.join(parts)}." if parts else "No run is finished."

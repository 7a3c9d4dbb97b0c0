"""Draw trained parameters against quality, with the Pareto front."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from adaptsr.config.schema import UNADAPTED
from adaptsr.reporting.figures.canvas import QUIET, Drawing, add_legend, empty_panel, label_y, panels, set_title
from adaptsr.reporting.figures.palette import Look, looks
from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import backbone_title
from adaptsr.statistics import seed_mean


class Point(NamedTuple):
    """A row: trained parameters and score, means over seeds, whether all seeds have a score, and the score's spread."""

    row: str
    parameters: float
    score: float
    complete: bool
    sd: float = 0.0


def complexity(results: Results, dataset: str) -> Drawing | None:
    """Draw the figure of one test dataset: a column of panels per backbone, a line per metric. None if nothing is adapted or scored."""
    metrics = headline_metrics(results, dataset)
    backbones = list(results.profile.backbones)
    if not metrics or not backbones:
        return None
    figure, grid = panels(len(metrics), len(backbones), 2.35)
    look = looks(results.rows)
    fronts = []
    for metric, line in zip(metrics, grid, strict=True):
        for backbone, axes in zip(backbones, line, strict=True):
            points = points_of(results, backbone, dataset, metric.name)
            front = pareto_front([point for point in points if point.complete], metric.lower_better)
            _panel(axes, results, points, front, look)
            unadapted = results.means.get((backbone, dataset, UNADAPTED, metric.name))
            if unadapted:
                axes.axhline(seed_mean(unadapted.values()), color=QUIET, linewidth=1, linestyle=(0, (1, 1.5)))
            if metric is metrics[0]:
                set_title(axes, backbone_title(results.profile, backbone))
            if metric is metrics[-1]:
                axes.set_xlabel("trained parameters, logarithmic")
            if front:
                names = _titles(results, [point.row for point in front])
                fronts.append(f"{backbone_title(results.profile, backbone)}, {metric.title}: {names}")
        label_y(line, f"{metric.title} {metric.arrow}{f' ({metric.unit})' if metric.unit else ''}")
    add_legend(figure, _legend([look[row.name] for row in results.adapted_rows]))
    return Drawing(
        name=f"complexity-{dataset}",
        kind="complexity",
        title=f"Trained parameters against quality, {dataset}",
        caption="Each point is a row, mean over seeds, with a bar of one standard deviation to either side; dashed bars lack seeds. The line is the Pareto front: it joins the rows, among those with all their seeds, whose mean no other row with at most as many parameters equals or exceeds in quality; it compares means and is not a test. The dotted line is the unadapted backbone.",
        alt=f"Scatter plots of trained parameters against {' and '.join(m.title for m in metrics)}, one per backbone. On the Pareto front: {'; '.join(fronts) or 'no row'}.",
        figure=figure,
        missing=tuple(metric.title for metric in _headline(results) if metric not in metrics),
    )


def headline_metrics(results: Results, dataset: str) -> list[MetricColumn]:
    """Return those of the profile's first metric and LPIPS that are measured on a dataset."""
    measured = {(key[1], key[3]) for key in results.means}
    return [column for column in _headline(results) if (dataset, column.name) in measured]


def _headline(results: Results) -> list[MetricColumn]:
    first, *others = metric_columns(results.profile)
    return [first, *(column for column in others if column.measure.startswith("lpips"))][:2]


def points_of(results: Results, backbone: str, dataset: str, metric: str) -> list[Point]:
    """Return a point for every adapted row with recorded and scored runs."""
    points = []
    for row in results.adapted_rows:
        scores = results.means.get((backbone, dataset, row.name, metric), {})
        counts = [record.trainable_parameters for record in results.row_records(backbone, row.name).values()]
        if scores and counts:
            complete = len(scores) == len(results.profile.seeds)
            finite = all(map(math.isfinite, scores.values()))
            sd = statistics.stdev(scores.values()) if finite and len(scores) > 1 else 0.0
            points.append(Point(row.name, seed_mean(counts), seed_mean(scores.values()), complete, sd))
    return [point for point in points if math.isfinite(point.score) and point.parameters > 0]


def pareto_front(points: Sequence[Point], lower_better: bool) -> list[Point]:
    """Return the points that no other point equals or beats in both parameters and score, sorted by parameters."""
    sign = 1 if lower_better else -1
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.parameters, sign * p.score)):
        if not front or sign * point.score < sign * front[-1].score:
            front.append(point)
    return front


def _panel(
    axes: Axes, results: Results, points: Sequence[Point], front: Sequence[Point], look: Mapping[str, Look]
) -> None:
    if not points:
        empty_panel(axes, "nothing measured")
        return
    axes.plot([p.parameters for p in front], [p.score for p in front], color=QUIET, linewidth=1, zorder=2)
    for point in points:
        seen = look[point.row]
        bar = axes.errorbar(
            point.parameters,
            point.score,
            yerr=point.sd,
            marker=seen.marker,
            color=seen.color,
            markerfacecolor="none",  # rows of one size lie on each other: hollow marks stay visible
            markeredgewidth=1.2,
            elinewidth=0.9,
            linestyle="none",
            zorder=3,
        )
        if not point.complete:
            bar.lines[2][0].set_linestyle((0, (1, 1)))
        if seen.variant:
            axes.annotate(
                seen.variant,
                (point.parameters, point.score),
                xytext=(0, -9),
                textcoords="offset points",
                ha="center",
                fontsize=6,
                color=QUIET,
            )
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.15)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _position: short_number(value))


def short_number(value: float) -> str:
    """Format `1500` as `1.5k` and `12000000` as `12M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _titles(results: Results, names: Sequence[str]) -> str:
    titles = {row.name: row.title for row in results.rows}
    return ", ".join(titles[name] for name in names)


def _legend(look: Sequence[Look]) -> list[Line2D]:
    """Make one entry per method, and those of the lines."""
    entries = {
        seen.method: Line2D([], [], color=seen.color, marker=seen.marker, linestyle="none", label=seen.method)
        for seen in look
    }
    dotted = Line2D([], [], color=QUIET, linewidth=1, linestyle=(0, (1, 1.5)), label="Unadapted")
    front = Line2D([], [], color=QUIET, linewidth=1, label="Pareto front")
    return [*entries.values(), dotted, front]

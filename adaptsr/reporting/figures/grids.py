"""Draw the curves of tuning: the metric over the points of the grid, with what was chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from adaptsr.reporting.figures.canvas import Drawing, add_legend, label_y, panels, set_title
from adaptsr.reporting.figures.palette import Look, looks
from adaptsr.reporting.metrics import metric_columns
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import backbone_title
from adaptsr.reporting.tuning import option_names, point_text, validation_size
from adaptsr.runs.choices import Choice


def grids(results: Results) -> Drawing | None:
    """Draw a panel per backbone with a curve per row. None without choices."""
    tuning = results.profile.tuning
    if tuning is None or not results.choices:
        return None
    (metric,) = metric_columns(results.profile, [tuning.metric])
    backbones = [name for name in results.profile.backbones if any(of == name for of, _ in results.choices)]
    figure, (row_of_panels,) = panels(1, len(backbones), 2.35)
    look = looks(results.rows)
    for backbone, axes in zip(backbones, row_of_panels, strict=True):
        set_title(axes, backbone_title(results.profile, backbone))
        curves = [
            results.choices[backbone, row.name]
            for row in results.adapted_rows
            if (backbone, row.name) in results.choices
        ]
        for choice in curves:
            _draw(axes, choice, look[choice.row])
        _follow_best(axes, curves, lower_better=metric.lower_better)
    unit = f" ({metric.unit})" if metric.unit else ""
    label_y(row_of_panels, f"validation {metric.title}{unit} {metric.arrow}")
    handles = [
        Line2D([], [], color=look[row.name].color, linestyle=look[row.name].dash, label=row.title)
        for row in results.adapted_rows
    ]
    add_legend(figure, handles)
    return Drawing(
        name="tuning",
        kind="tuning",
        title="What tuning chose from",
        caption=f"The mean over validation images and tuning seeds at each point of the grid ({option_names(tuning.grid)}); a dot marks the chosen one. Where a curve is flat the values tried differ little on these images; where the dot is at its end a value beyond may be better. Points at which a run diverged are left out, and the worst may leave the panel. {validation_size(results)}".rstrip(),
        alt=f"Line plots of {metric.title} over the points of the tuning grid, one panel per backbone; the section on tuning has the numbers.",
        figure=figure,
    )


def _draw(axes: Axes, choice: Choice, look: Look) -> None:
    means = [math.nan if tried.mean is None else tried.mean for tried in choice.tried]
    names = [point_text(tried.point) for tried in choice.tried]
    axes.plot(names, means, color=look.color, linestyle=look.dash)
    for name, mean, tried in zip(names, means, choice.tried, strict=True):
        if tried.point == choice.options:
            axes.plot([name], [mean], color=look.color, marker="o", markersize=5)
    axes.tick_params(axis="x", labelrotation=45)


def _follow_best(axes: Axes, choices: Sequence[Choice], *, lower_better: bool) -> None:
    """Fit the panel to the better four fifths of the points: one that nearly diverged would flatten all others."""
    means = [tried.mean for choice in choices for tried in choice.tried if tried.mean is not None]
    if len(set(means)) > 1:
        shares = (0.0, 0.8) if lower_better else (0.2, 1.0)
        low, high = np.quantile(means, shares)
        margin = 0.08 * (high - low)
        axes.set_ylim(low - margin, high + margin)

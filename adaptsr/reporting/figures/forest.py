"""Draw mean differences with their intervals, one forest plot per comparison and test dataset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from adaptsr.reporting.figures.canvas import INK, PANEL_WIDTH, QUIET, Drawing, panels
from adaptsr.reporting.figures.palette import Look, looks
from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import families, short_titles
from adaptsr.statistics import ALPHA, Family


def forests(results: Results, frame: pd.DataFrame) -> Iterable[Drawing]:
    """Draw every comparison on every test dataset where it has a difference. frame: from `compare_rows`."""
    for number, family in enumerate(families(results.profile, results.rows), start=1):
        for dataset in results.datasets:
            lines = frame[(frame["comparison"] == family.title) & (frame["dataset"] == dataset)]
            lines = lines[lines["difference"].notna()]
            if len(lines):
                yield _drawing(results, lines, family, dataset, f"forest-{number}-{dataset}")


def _drawing(results: Results, lines: pd.DataFrame, family: Family, dataset: str, name: str) -> Drawing:
    metrics = [m for m in metric_columns(results.profile) if (lines["metric"] == m.name).any()]
    titles = {row.name: row.title for row in results.rows}
    backbones = [backbone for backbone in results.profile.backbones if (lines["backbone"] == backbone).any()]
    rows = [row for row in family.rows if (lines["row"] == row).any()]
    places, labels, heads = _places(backbones, rows)
    height = 0.19 * (len(places) + len(backbones)) + 1.1
    figure, grid = panels(1, len(metrics), height, sharey=True)
    if len(metrics) == 1:
        figure.set_size_inches(2.4 * PANEL_WIDTH, height)
    look = looks(results.rows)
    for metric, axes in zip(metrics, grid[0], strict=True):
        _panel(axes, lines[lines["metric"] == metric.name], places, look, metric)
    first = grid[0][0]
    ticks = sorted([*labels, *heads])
    names = short_titles(results.profile)
    texts = [titles[labels[tick]] if tick in labels else names[heads[tick]] for tick in ticks]
    first.set_yticks(ticks, texts)
    for tick, label in zip(ticks, first.get_yticklabels(), strict=True):
        if tick in heads:
            label.set_fontweight("bold")
    first.set_ylim(max(ticks) + 0.7, -0.7)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3)
    compared = titles[family.compared_with]
    surviving = lines[lines["significant"]]
    return Drawing(
        name=name,
        kind="forest",
        title=f"{family.title}, {dataset}",
        caption=f"Mean differences to {compared} with 95% intervals over other seeds and other scenes. Filled marks survive Holm's correction over the tests of one comparison, backbone and metric ({ALPHA:.0%} level); hollow marks do not, which is no evidence of equality; crosses were not tested.",
        alt=f"Forest plot of differences to {compared} in {', '.join(m.title for m in metrics)}, per backbone and row. {len(surviving)} of {int(lines['p'].notna().sum())} tests survive Holm's correction.",
        figure=figure,
    )


def _places(
    backbones: Sequence[str], rows: Sequence[str]
) -> tuple[dict[tuple[str, str], int], dict[int, str], dict[int, str]]:
    """Place headings of backbones and their rows from the top down.

    Return the place of each (backbone, row), and the rows and the headings by place. A single row goes on the headings.
    """
    if len(rows) == 1:
        return {(b, rows[0]): i for i, b in enumerate(backbones)}, {}, dict(enumerate(backbones))
    places, labels, heads = {}, {}, {}
    position = 0
    for backbone in backbones:
        heads[position] = backbone
        for i, row in enumerate(rows, start=position + 1):
            places[backbone, row], labels[i] = i, row
        position += len(rows) + 1
    return places, labels, heads


def _panel(
    axes: Axes,
    lines: pd.DataFrame,
    places: Mapping[tuple[str, str], int],
    look: Mapping[str, Look],
    metric: MetricColumn,
) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    columns = ["backbone", "row", "difference", "low", "high", "p", "significant"]
    for backbone, row, difference, low, high, p, significant in lines[columns].itertuples(index=False):
        seen, place = look[row], places[backbone, row]
        if not math.isnan(low):
            axes.plot([low, high], [place, place], color=seen.color, linewidth=1.2, solid_capstyle="butt")
        axes.plot(
            difference,
            place,
            linestyle="none",
            marker="x" if math.isnan(p) else seen.marker,
            markersize=5,
            color=seen.color,
            markerfacecolor=seen.color if significant else "#ffffff",
        )
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    better = "left" if metric.lower_better else "right"
    arrow = "← better" if better == "left" else "better →"
    axes.set_title(metric.title, loc="center")
    axes.set_xlabel(f"difference{f' ({metric.unit})' if metric.unit else ''}, {arrow}")
    axes.locator_params(axis="x", nbins=5)


def _legend() -> list[Line2D]:
    marks = [("survives Holm's correction", QUIET, "o"), ("not significant", "#ffffff", "o"), ("no test", QUIET, "x")]
    return [
        Line2D([], [], color=QUIET, marker=marker, markerfacecolor=fill, label=label, linewidth=1.2)
        for label, fill, marker in marks
    ]

"""Draw mean differences with their intervals, one forest plot per comparison and test dataset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from adaptsr.reporting.figures.canvas import (
    GROUND,
    INK,
    LINE,
    PANEL_WIDTH,
    Drawing,
    add_legend,
    fitted,
    is_narrow,
    panels,
)
from adaptsr.reporting.figures.palette import Look, looks
from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.results import Results
from adaptsr.reporting.sentences import family_size
from adaptsr.reporting.significance import comparisons_shown, short_titles
from adaptsr.statistics import ALPHA, EXPLORATORY, PRIMARY, SCOPES, VERDICTS, Comparison
from adaptsr.statistics.comparison import BETTER, EQUIVALENT, UNDECIDED, WORSE

NO_TEST = "no test"


def forests(results: Results, frame: pd.DataFrame) -> Iterable[Drawing]:
    """Draw every comparison on every test dataset where it has a difference. frame: from `compare_rows`."""
    for number, comparison in enumerate(comparisons_shown(results), start=1):
        for dataset in results.datasets:
            whole = frame[frame["comparison"] == comparison.title]
            lines = whole[(whole["dataset"] == dataset) & whole["difference"].notna()]
            if len(lines):
                yield _drawing(results, lines, comparison, dataset, f"forest-{number}-{dataset}", _families(whole))


def _drawing(
    results: Results, lines: pd.DataFrame, comparison: Comparison, dataset: str, name: str, families: str
) -> Drawing:
    metrics = [m for m in metric_columns(results.profile) if (lines["metric"] == m.name).any()]
    titles = results.titles
    backbones = [backbone for backbone in results.profile.backbones if (lines["backbone"] == backbone).any()]
    rows = [row for row in comparison.rows if (lines["row"] == row).any()]
    places, labels, heads = _places(backbones, rows)
    height = 0.19 * (len(places) + len(backbones)) + 1.1
    figure, grid = panels(1, len(metrics), height, share_y="all")
    if len(metrics) == 1 and not is_narrow():
        figure.set_size_inches(2.4 * PANEL_WIDTH, height)
    look = looks(results.rows)
    for metric, axes in zip(metrics, grid[0], strict=True):
        _panel(axes, lines[lines["metric"] == metric.name], places, look, metric)
    first = grid[0][0]
    ticks = sorted([*labels, *heads])
    names = short_titles(results.profile)
    texts = [fitted(titles[labels[tick]] if tick in labels else names[heads[tick]]) for tick in ticks]
    first.set_yticks(ticks, texts)
    for tick, label in zip(ticks, first.get_yticklabels(), strict=True):
        if tick in heads:
            label.set_fontweight("bold")
    first.set_ylim(max(ticks) + 0.7, -0.7)
    legend = _legend(lines, metrics, look[rows[0]].color)
    add_legend(figure, legend, 2 if len(metrics) < 3 else len(legend))
    compared = titles[comparison.compared_with]
    verdicts = lines[f"verdict_{SCOPES[1]}"].value_counts()
    forms = ", ".join(f"{form} for {meaning}" for form, meaning in _explained(lines).values())
    counts = ", ".join(f"{verdicts[word]} {word}" for word in VERDICTS if word in verdicts)
    return Drawing(
        name=name,
        kind="forest",
        title=f"{comparison.title}, {dataset}",
        caption=f"Mean differences to {compared}. Thick lines are 95% intervals over other seeds on these images, thin ones over other seeds and other scenes. Marks show the verdict for other seeds and other scenes at the {ALPHA:.0%} level, in families of {families}: {forms}; a hollow mark is no evidence of equality. A line clear of 0 may be undecided: lines are uncorrected, marks are corrected. An equivalent one may reach beyond the band, as equivalence is that of an interval of 90%. The gray band is the margin within which a difference does not matter.",
        alt=f"Forest plot of differences to {compared} in {', '.join(m.title for m in metrics)}, per backbone and row. For other seeds and other scenes: {counts or 'no verdicts'}.",
        figure=figure,
    )


def _families(lines: pd.DataFrame) -> str:
    parts = [(family, lines[lines["family"] == family]) for family in (PRIMARY, EXPLORATORY)]
    return " and ".join(f"{family} tests{family_size(part)}" for family, part in parts if len(part))


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
    if metric.margin is not None:
        axes.axvspan(-metric.margin, metric.margin, color=LINE, alpha=0.5, linewidth=0, zorder=0)
    axes.axvline(0, color=INK, linewidth=0.8)
    for line in lines.to_dict("records"):
        seen, place, verdict = look[line["row"]], places[line["backbone"], line["row"]], line[f"verdict_{SCOPES[1]}"]
        for scope, width in zip(SCOPES, (2.4, 0.9), strict=True):
            low, high = line[f"low_{scope}"], line[f"high_{scope}"]
            if not math.isnan(low):
                axes.plot([low, high], [place, place], color=seen.color, linewidth=width, solid_capstyle="butt")
        tested = not math.isnan(line[f"p_{SCOPES[0]}"])
        for mark in marks_of(verdict if tested else NO_TEST, seen.color, seen.marker):
            axes.plot(line["difference"], place, **mark)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    better = "left" if metric.lower_better else "right"
    arrow = "← better" if better == "left" else "better →"
    axes.set_title(metric.title, loc="center")
    axes.set_xlabel(f"difference{f' ({metric.unit})' if metric.unit else ''}, {arrow}")
    axes.locator_params(axis="x", nbins=5)


def marks_of(verdict: str, color: str, marker: str) -> list[dict[str, Any]]:
    """Return the marks of a verdict, to be drawn on each other: filled, a ring with a dot, hollow, or a cross."""
    shared = {"linestyle": "none", "color": color, "markersize": 6.5}
    if verdict == NO_TEST:
        return [shared | {"marker": "x"}]
    if verdict in (BETTER, WORSE):
        return [shared | {"marker": marker}]
    dot = shared | {"marker": "o", "markersize": 2.5, "markeredgewidth": 0}
    return [shared | {"marker": marker, "markerfacecolor": GROUND}, *([dot] if verdict == EQUIVALENT else [])]


def _explained(lines: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return what is to be explained: verdict to its form and its meaning."""
    marks = {
        BETTER: ("filled", "better or worse"),
        EQUIVALENT: ("a ring with a dot", "equivalent"),
        UNDECIDED: ("hollow", "undecided, or no statement on other scenes"),
        NO_TEST: ("a cross", "no test"),
    }
    untested = lines[f"p_{SCOPES[0]}"].isna().any()
    return {verdict: mark for verdict, mark in marks.items() if verdict != NO_TEST or untested}


def _legend(lines: pd.DataFrame, metrics: Sequence[MetricColumn], color: str) -> list[tuple[Line2D, ...] | Patch]:
    """Explain the marks in a row's color, and the band if any metric has a margin."""
    entries: list[tuple[Line2D, ...] | Patch] = [
        tuple(Line2D([], [], label=label, **mark) for mark in marks_of(verdict, color, "o"))
        for verdict, (_, label) in _explained(lines).items()
    ]
    if any(metric.margin is not None for metric in metrics):
        entries.append(Patch(color=LINE, alpha=0.5, label="within the margin"))
    return entries

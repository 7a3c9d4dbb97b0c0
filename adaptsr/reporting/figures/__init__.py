"""Draw the figures of a report from scores, records and plans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from adaptsr.reporting.figures.canvas import Drawing, DrawnFigure, narrow, style, write_figure
from adaptsr.reporting.figures.complexity import complexity
from adaptsr.reporting.figures.convergence import convergence
from adaptsr.reporting.figures.costs import costs
from adaptsr.reporting.figures.forest import forests
from adaptsr.reporting.figures.grids import grids
from adaptsr.reporting.figures.ranks import rank_maps
from adaptsr.reporting.results import Results

__all__ = ["DrawnFigure", "draw_figures"]


def draw_figures(results: Results, comparisons: pd.DataFrame, folder: Path) -> list[DrawnFigure]:
    """Draw and write every figure that has data; `comparisons` is the frame of `compare_rows`."""
    with style():
        with narrow():
            stacked = list(_drawings(results, comparisons))
        drawings = zip(_drawings(results, comparisons), stacked, strict=True)
        return [write_figure(drawing, below, folder) for drawing, below in drawings]


def _drawings(results: Results, comparisons: pd.DataFrame) -> Iterator[Drawing]:
    yield from forests(results, comparisons)
    for dataset in results.datasets:
        drawing = complexity(results, dataset)
        if drawing:
            yield drawing
    yield from rank_maps(results)
    for drawing in (grids(results), convergence(results), costs(results)):
        if drawing:
            yield drawing

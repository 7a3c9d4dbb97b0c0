"""Write figures: SVG that follows the reader's light or dark page, and PNG for papers; same data, same bytes."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from PIL import Image

GROUND, INK, QUIET, LINE = "#ffffff", "#1c1e21", "#5b6168", "#d5d9de"
DARK = {GROUND: "#15171a", INK: "#e6e8ea", QUIET: "#a3aab2", LINE: "#3a3f45"}
"""Colors of the style sheet on a light page, and their counterparts on a dark one."""
FONT = """ font-family="'DejaVu Sans', 'Verdana', 'Arial', 'Helvetica', sans-serif\""""
LONG_NUMBER = re.compile(r"-?\d+\.\d{4,}")
SHORTER: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"<!DOCTYPE[^>]*>\n| *<metadata>.*?</metadata>\n", re.DOTALL), ""),
    (re.compile(r" font-family: [^;\"]*;"), ""),
    (re.compile(r' transform="rotate\(-0 [^"]*\)"'), ""),
    (re.compile(r"<[^>]+>"), lambda tag: LONG_NUMBER.sub(lambda number: f"{float(number.group()):.2f}", tag.group())),
    (re.compile(r"\n +"), "\n"),
)
PANEL_WIDTH = 2.75
NARROW_WIDTH = 3.9
"""Inches that fit a telephone without scaling, so that the text stays as large as on a desk."""
LEGEND_HEIGHT, LEGEND_LINE = 0.5, 0.18
MOST_SIGNS = 24
"""Longest label of a narrow legend with two columns."""
DPI = 144

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.5,
    "figure.facecolor": GROUND,
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "adaptsr",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Drawing:
    """A figure before it is written. alt: what it shows, for readers who cannot see it. caption: what it means.

    missing: titles of metrics that it lacks because they are not measured.
    """

    name: str
    kind: str
    title: str
    caption: str
    alt: str
    figure: Figure
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrawnFigure:
    """A figure in the report's folder: `figures/<name>.svg`, `.png` and, with its panels stacked, `<name>-narrow.svg`.

    width, height, narrow: in CSS pixels. missing: titles of metrics that it lacks because they are not measured.
    """

    name: str
    kind: str
    title: str
    caption: str
    alt: str
    missing: tuple[str, ...]
    width: int
    height: int
    narrow: tuple[int, int]


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of all figures inside the context."""
    with matplotlib.rc_context(STYLE):
        yield


_stacked: ContextVar[bool] = ContextVar("stacked", default=False)


@contextmanager
def narrow() -> Iterator[None]:
    """Stack the panels of all figures made inside the context, for a small screen."""
    token = _stacked.set(True)
    try:
        yield
    finally:
        _stacked.reset(token)


def is_narrow() -> bool:
    return _stacked.get()


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure; width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
    return figure


def panels(
    rows: int, columns: int, panel_height: float, *, share_y: Literal["all", "col", "none"] = "none"
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of panels, each `PANEL_WIDTH` by `panel_height` inches, with room for a legend.

    In a narrow figure the columns lie below each other, each with its rows.
    """
    if not is_narrow():
        figure = new_figure(max(2, columns) * PANEL_WIDTH, rows * panel_height + LEGEND_HEIGHT)
        return figure, figure.subplots(rows, columns, squeeze=False, sharey=share_y).tolist()
    figure = new_figure(NARROW_WIDTH, rows * columns * panel_height + LEGEND_HEIGHT)
    stack = figure.subplots(rows * columns, 1, squeeze=False, sharey=share_y == "all")[:, 0].tolist()
    grid = [stack[row::rows] for row in range(rows)]
    for below in grid[1:] if share_y == "col" else []:
        for axes, first in zip(below, grid[0], strict=True):
            axes.sharey(first)
    return figure, grid


def fitted(text: str, most: int = 28) -> str:
    """Shorten a text that would leave no room for the panels of a narrow figure."""
    return text if not is_narrow() or len(text) <= most else f"{text[: most - 1]}…"


def label_y(line: Sequence[Axes], label: str) -> None:
    """Label the vertical axis of a line of panels: of the first, and of all where they are stacked."""
    for axes in line if is_narrow() else line[:1]:
        axes.set_ylabel(label)


def add_legend(figure: Figure, handles: Sequence[Any], columns: int = 5) -> Legend:
    """Put a legend below the panels; in a narrow figure with two columns, or one for long labels, and with room for its lines."""
    if is_narrow():
        columns = 2 if max(len(_label(one)) for one in handles) <= MOST_SIGNS else 1
        extra = LEGEND_LINE * max(0, -(-len(handles) // columns) - 2)
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + extra)
    return figure.legend(
        handles=list(handles),
        labels=[fitted(_label(one), 56) for one in handles],
        loc="outside lower center",
        ncols=columns,
    )


def _label(handle: Any) -> str:
    """Return the label of an entry; marks that lie on each other are one entry."""
    return str((handle[0] if isinstance(handle, tuple) else handle).get_label())


def set_title(axes: Axes, title: str) -> None:
    """Set the title of a panel, broken into lines that fit its width."""
    head, parenthesis, rest = title.partition(" (") if len(title) > 26 else (title, "", "")
    lines = [*textwrap.wrap(head, 26), *textwrap.wrap(f"({rest}" if parenthesis else "", 30)]
    axes.set_title("\n".join(lines))


def empty_panel(axes: Axes, reason: str) -> None:
    """Write into a panel why it is empty."""
    axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", color=QUIET, wrap=True)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)


def write_figure(drawing: Drawing, stacked: Drawing, folder: Path) -> DrawnFigure:
    """Write `<name>.svg`, `<name>.png` and, from the same figure with stacked panels, `<name>-narrow.svg` under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = _write_svg(drawing.figure, folder / f"{drawing.name}.svg")
    png = io.BytesIO()
    FigureCanvasAgg(drawing.figure).print_figure(png, format="png", dpi=DPI, metadata={"Software": None})
    # Charts have few colors, so a palette takes a third of the space.
    Image.open(png).convert("RGB").quantize(256).save(folder / f"{drawing.name}.png", optimize=True)
    return DrawnFigure(
        drawing.name,
        drawing.kind,
        drawing.title,
        drawing.caption,
        drawing.alt,
        drawing.missing,
        width,
        height,
        _write_svg(stacked.figure, folder / f"{drawing.name}-narrow.svg"),
    )


def _write_svg(figure: Figure, path: Path) -> tuple[int, int]:
    """Write a figure and return its width and height in CSS pixels."""
    _settle_layout(figure)
    svg = io.StringIO()
    FigureCanvasSVG(figure).print_figure(svg, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    path.write_text(follow_page(svg.getvalue()), encoding="utf-8", newline="\n")
    width, height = figure.get_size_inches() * 96
    return round(width), round(height)


def _settle_layout(figure: Figure) -> None:
    """Compute the layout once, so that both files have the same."""
    FigureCanvasAgg(figure)
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    figure.set_layout_engine("none")


def follow_page(svg: str) -> str:
    """Add a style that swaps the figure's greys on a dark page; editors that ignore it show the light version.

    Also halve the size: move what all texts share to the root, and round positions to hundredths of a point.
    """
    rules = [
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    ]
    block = f"<style>@media screen and (prefers-color-scheme: dark){{{''.join(rules)}}}</style>"
    for pattern, short in SHORTER:
        svg = pattern.sub(short, svg)
    return re.sub(r"<svg\b([^>]*)>", lambda found: f"<svg{FONT}{found.group(1)}>\n{block}", svg, count=1)

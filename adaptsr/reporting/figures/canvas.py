"""Write figures: SVG that follows the reader's light or dark page, and PNG for papers; same data, same bytes."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
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
LEGEND_HEIGHT = 0.5
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
    """A figure before it is written. alt: what it shows, for readers who cannot see it. caption: what it means."""

    name: str
    kind: str
    title: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class DrawnFigure:
    """A figure in the report's folder: `figures/<name>.svg` and `.png`; width and height in CSS pixels."""

    name: str
    kind: str
    title: str
    caption: str
    alt: str
    width: int
    height: int


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of all figures inside the context."""
    with matplotlib.rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure; width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
    return figure


def panels(rows: int, columns: int, panel_height: float, **options: Any) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    """Make a figure of panels, each `PANEL_WIDTH` by `panel_height` inches, with room for a legend."""
    figure = new_figure(max(2, columns) * PANEL_WIDTH, rows * panel_height + LEGEND_HEIGHT)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


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


def write_figure(drawing: Drawing, folder: Path) -> DrawnFigure:
    """Write `<name>.svg` and `<name>.png` under `folder`."""
    figure = drawing.figure
    _settle_layout(figure)
    png, svg = io.BytesIO(), io.StringIO()
    FigureCanvasAgg(figure).print_figure(png, format="png", dpi=DPI, metadata={"Software": None})
    FigureCanvasSVG(figure).print_figure(svg, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    folder.mkdir(parents=True, exist_ok=True)
    # Charts have few colors, so a palette takes a third of the space.
    Image.open(png).convert("RGB").quantize(256).save(folder / f"{drawing.name}.png", optimize=True)
    (folder / f"{drawing.name}.svg").write_text(follow_page(svg.getvalue()), encoding="utf-8", newline="\n")
    width, height = figure.get_size_inches() * 96
    return DrawnFigure(
        drawing.name, drawing.kind, drawing.title, drawing.caption, drawing.alt, round(width), round(height)
    )


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

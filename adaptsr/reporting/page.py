"""Write the report as one page: summary, tables, significance, figures, pictures and provenance in one folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from adaptsr.papers import load_paper
from adaptsr.reporting.bundle import RECORDS, SEEDS, clear, copy_records, record_link, write_seed_means, write_zip
from adaptsr.reporting.conventions import scale_warning, training_differences, words
from adaptsr.reporting.costs import CostTable, read_costs
from adaptsr.reporting.figures import DrawnFigure, draw_figures
from adaptsr.reporting.figures.palette import looks
from adaptsr.reporting.gallery import Gallery, build_gallery
from adaptsr.reporting.headline import headline
from adaptsr.reporting.inventory import Inventory, take_inventory
from adaptsr.reporting.metrics import metric_columns
from adaptsr.reporting.model import TableModel, images_text
from adaptsr.reporting.provenance import Origin, trace_origin
from adaptsr.reporting.render import render
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import (
    ComparisonReport,
    SignificanceReport,
    build_report,
    compare_rows,
    write_significance,
)
from adaptsr.reporting.tables import build_table, write_table
from adaptsr.reporting.tuning import TuningReport, build_tuning, settings_sentence, write_tuning
from adaptsr.runs.run import Run

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile

FOLDERS = ("figures", "pictures", RECORDS)


@dataclass(frozen=True)
class Outcome:
    """One comparison, and its forest plots."""

    comparison: ComparisonReport
    figures: tuple[DrawnFigure, ...]


@dataclass(frozen=True)
class Page:
    """Everything that the template shows.

    paper: title of the profile's paper, or empty. part: which part of a matrix. words: what the page's first words mean.
    differences: which rows were trained with other settings.
    """

    profile: Profile
    paper: str
    warning: str
    partial: bool
    part: str
    words: str
    metrics: str
    differences: str
    headline: tuple[str, ...]
    inventory: Inventory
    test_images: str
    tables: tuple[TableModel, ...]
    significance: SignificanceReport
    outcomes: tuple[Outcome, ...]
    tuning: TuningReport | None
    figures: tuple[DrawnFigure, ...]
    gallery: Gallery
    costs: CostTable | None
    origin: Origin
    audit: bool
    stability: bool
    zip_name: str
    colors: dict[str, str]
    recorded: frozenset[Run]

    def record(self, backbone: str, row: str, seed: int | str) -> str:
        """Return the link to a run's record, or to the seed means if it has none (the unadapted backbone)."""
        run = Run(backbone, row, seed) if isinstance(seed, int) else None
        return record_link(run) if run is not None and run in self.recorded else SEEDS

    def note(self, metric: str) -> str:
        """Return the name of the first note that says why a metric, by its title, is missing; empty without one."""
        places = ((table.name, place, text) for table in self.tables for place, text in enumerate(table.notes, start=1))
        return next(
            (f"{name}-note-{place}" for name, place, text in places if text.startswith(f"{metric} is missing")), ""
        )


def write_report(results: Results, out_folder: Path, command: str) -> list[Path]:
    """Write `index.html`, everything that it links to, and `<out_folder>.zip`; return the paths of page and zip.

    The same results give the same bytes. The page is written after everything that it shows, so a page is never
    incomplete. command: what remakes the page, as a reader would type it.
    """
    tables = [build_table(results, name) for name in results.profile.report.tables]
    comparisons = compare_rows(results)
    for table in tables:
        write_table(table, out_folder)
    write_significance(results, comparisons, out_folder)
    (out_folder / "index.html").unlink(missing_ok=True)
    clear(out_folder, FOLDERS)
    copy_records(results, out_folder)
    write_seed_means(results, out_folder)
    write_tuning(results, out_folder)
    zip_path = out_folder.with_name(f"{out_folder.name}.zip")
    page = build_page(results, tables, comparisons, out_folder, command)
    render("index.html", out_folder / "index.html", page=page)
    return [out_folder / "index.html", write_zip(out_folder, zip_path)]


def build_page(
    results: Results, tables: Sequence[TableModel], comparisons: pd.DataFrame, folder: Path, command: str
) -> Page:
    """Draw figures and pictures under `folder` and gather everything that the page shows."""
    figures = draw_figures(results, comparisons, folder / "figures")
    report = build_report(results, comparisons)
    return Page(
        profile=results.profile,
        paper=load_paper(results.profile.paper).TITLE if results.profile.paper else "",
        warning=scale_warning(results.profile),
        partial=results.partial,
        part=results.part_sentence,
        words=words(results),
        metrics="; ".join(metric.meaning for metric in metric_columns(results.profile)),
        differences=training_differences(results),
        headline=tuple(filter(None, [*headline(results, comparisons), settings_sentence(results)])),
        inventory=take_inventory(results),
        test_images=_test_images(results),
        tables=tuple(tables),
        significance=report,
        outcomes=tuple(_outcomes(report, figures)),
        tuning=build_tuning(results),
        figures=tuple(figure for figure in figures if figure.kind != "forest"),
        gallery=build_gallery(results, folder),
        costs=read_costs(results),
        origin=trace_origin(results, command),
        audit=(folder / "audit.html").is_file(),
        stability=(folder / "stability.html").is_file(),
        zip_name=f"{folder.name}.zip",
        recorded=frozenset(results.records),
        colors={name: look.color for name, look in looks(results.rows).items()},
    )


def _test_images(results: Results) -> str:
    """Format the size of each test dataset, as in `degraded: 12 test images of 4 scenes`."""
    scores = results.scores
    counts = scores.groupby("dataset")["image"].nunique()
    parts = []
    for dataset in results.datasets:
        images = int(counts.get(dataset, 0))
        scenes = len(set(results.scenes.get(dataset, {}).values()))
        parts.append(f"{dataset}: {images_text(images, scenes) if images else 'nothing scored'}")
    return "; ".join(parts)


def _outcomes(report: SignificanceReport, figures: Sequence[DrawnFigure]) -> Iterable[Outcome]:
    for number, comparison in enumerate(report.comparisons, start=1):
        forests = tuple(figure for figure in figures if figure.name.startswith(f"forest-{number}-"))
        yield Outcome(comparison, forests)

"""Tables of measured numbers with the published ones beside them: one block per backbone and test dataset.

`build_table` makes a model that holds every number; `write_table` renders it as HTML, Markdown, CSV and LaTeX.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from adaptsr.config.schema import DRIFT, EXTERNAL, UNADAPTED
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.papers import load_paper
from adaptsr.reporting.conventions import as_sentence, scale_warning, table_conventions
from adaptsr.reporting.metrics import MetricColumn, drift_columns, metric_columns
from adaptsr.reporting.model import Block, Cell, ColumnHead, Line, Mark, Parameters, TableModel
from adaptsr.reporting.published import PublishedRow, read_published
from adaptsr.reporting.render import render, write_frame
from adaptsr.reporting.results import NOT_FINISHED, Results
from adaptsr.runs.matrix import Row, matching
from adaptsr.runs.run import Run
from adaptsr.scoring.external import NO_HR, NOT_MEASURED
from adaptsr.statistics import UNSEEDED, row_names, seed_mean

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile, Table
    from adaptsr.runs.records import RunRecord

DAGGERS = ("†", "‡", "§", "¶")
NOT_RUN = "Published row that is not in this profile."
NOT_IN_PART = "Published row that is not in this part of the matrix."


class Hole(NamedTuple):
    """Why a number is missing; `of_run` tells whether the whole run lacks numbers or only this metric."""

    reason: str
    of_run: bool


@dataclass
class _Footnotes:
    """Footnotes of a table: each different text has one number, in the order of first use."""

    notes: list[str] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        text = as_sentence(text)
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1

    def dagger(self, text: str | None) -> str:
        if not text:
            return ""
        text = as_sentence(text)
        if text not in self.extensions:
            self.extensions.append(text)
        return dagger_sign(self.extensions.index(text))


def dagger_sign(index: int) -> str:
    return DAGGERS[index % len(DAGGERS)] * (1 + index // len(DAGGERS))


def write_table(table: TableModel, out_folder: Path) -> list[Path]:
    """Write `<out_folder>/<name>.html`, `.md`, `.tex` and `.csv`, and return their paths.

    The same results give the same bytes.
    """
    name = table.name
    paths = [out_folder / f"{name}.{kind}" for kind in ("html", "md", "tex")]
    for path in paths:
        render(f"table{path.suffix}", path, table=table)
    write_frame(out_folder / f"{name}.csv", table_frame(table))
    return [*paths, out_folder / f"{name}.csv"]


def build_table(results: Results, name: str) -> TableModel:
    """Build the model of one table of the profile. Raises `UserError` if the profile has no such table."""
    profile = results.profile
    if name not in profile.report.tables:
        known = profile.report.tables
        raise UserError(
            f"profile {profile.name}: no table {name!r}{suggestion(name, known)}; report.tables has {listing(known)}"
        )
    table = profile.report.tables[name]
    published = _published(profile, table)
    metrics = [*metric_columns(profile, table.metrics), *drift_columns(profile)]
    footnotes = _Footnotes()
    datasets = [name for name in results.datasets if name in (table.datasets or results.datasets)]
    blocks = _blocks(results, table, datasets, metrics, published, footnotes)
    return TableModel(
        name=name,
        title=table.title,
        profile=profile.name,
        profile_title=profile.title,
        warning=scale_warning(profile),
        columns=tuple(ColumnHead(metric, any(metric.name in row.values for row in published)) for metric in metrics),
        published=bool(published),
        blocks=blocks,
        notes=tuple(footnotes.notes),
        daggers=tuple((dagger_sign(i), text) for i, text in enumerate(footnotes.extensions)),
        conventions=tuple(table_conventions(results, table, datasets, metrics)),
    )


def _published(profile: Profile, table: Table) -> list[PublishedRow]:
    """Read the published rows of those datasets that the table names a test dataset for."""
    if not table.published:
        return []
    rows = read_published(str(profile.paper), table.published)
    known = sorted({row.dataset for row in rows})
    for test, dataset in table.published_datasets.items():
        if dataset not in known:
            raise UserError(
                f"profile {profile.name}: report.tables: published_datasets.{test}: {table.published} has no dataset {dataset!r}{suggestion(dataset, known)}; it has {listing(known)}"
            )
    return [row for row in rows if row.dataset in table.published_datasets.values()]


def table_rows(profile: Profile, rows: Sequence[Row], table: Table) -> list[Row]:
    """Return the rows of one table in their order, followed by the rows of the profile that no table names."""
    named = {row.name for other in profile.report.tables.values() for row in matching(rows, other.rows)}
    return matching(rows, table.rows) + [row for row in rows if row.name not in named]


def match(rows: Sequence[Row], published: Sequence[PublishedRow]) -> dict[str, PublishedRow]:
    """Map row names to the published rows shown beside them."""
    found: dict[str, PublishedRow] = {}
    for paper in published:
        name = paper.match(row.name for row in rows)
        if name:
            found.setdefault(name, paper)
    return found


def arrange(rows: Sequence[Row], published: Sequence[PublishedRow]) -> list[Row | PublishedRow]:
    """Insert published rows that this profile does not run among its rows, where the paper has them."""
    beside = {paper.label: name for name, paper in match(rows, published).items()}
    places = {row.name: row for row in rows}
    entries: list[Row | PublishedRow] = list(rows)
    matched = [entries.index(places[name]) for name in beside.values()]
    position = max(matched, default=len(rows) - 1) + 1
    for paper in reversed(published):
        if paper.label in beside:
            position = entries.index(places[beside[paper.label]])
        else:
            entries.insert(position, paper)
    return entries


def _blocks(
    results: Results,
    table: Table,
    datasets: Sequence[str],
    metrics: Sequence[MetricColumn],
    published: Sequence[PublishedRow],
    footnotes: _Footnotes,
) -> tuple[Block, ...]:
    rows, beside = table_rows(results.profile, results.rows, table), table.published_datasets
    blocks = []
    for dataset in datasets:
        for backbone in [*results.profile.backbones, None]:
            paper = [row for row in published if (row.backbone or None, row.dataset) == (backbone, beside.get(dataset))]
            measured = [row for row in rows if row.on(backbone)]
            if measured or paper:
                block = _BlockBuilder(results, backbone, dataset, metrics, footnotes).build(measured, paper)
                blocks.append(block.with_seeds() if table.per_seed else block)
    return tuple(blocks)


@dataclass
class _BlockBuilder:
    """Builds the block of one backbone on one test dataset."""

    results: Results
    backbone: str | None
    dataset: str
    metrics: Sequence[MetricColumn]
    footnotes: _Footnotes

    @cached_property
    def scores(self) -> pd.DataFrame:
        return self.results.block(self.backbone, self.dataset)

    @cached_property
    def reasons(self) -> dict[tuple[Hashable, ...], str]:
        """Reasons that scoring recorded for missing values, by row, metric and seed."""
        drift = self.results.block(self.backbone, self.place(DRIFT))
        scores = pd.concat([self.scores, drift[drift["metric"] == DRIFT]])
        holes = scores[scores["value"].isna()].dropna(subset="reason")
        seeds = holes["seed"].astype(object).where(holes["seed"].notna(), UNSEEDED)
        grouped = holes["reason"].groupby([row_names(holes), holes["metric"], seeds])
        return {key: "; ".join(sorted(set(reasons))) for key, reasons in grouped}

    def place(self, metric: str) -> str:
        """Return the dataset on which a metric of this block is measured."""
        drift = self.results.profile.data.drift
        return drift.dataset if drift and metric == DRIFT else self.dataset

    def build(self, rows: Sequence[Row], published: Sequence[PublishedRow]) -> Block:
        images = sorted(self.scores["image"].unique())
        scenes = self.results.scenes.get(self.dataset, {})
        beside = match(rows, published)
        lines = [
            self.line(entry, beside.get(entry.name)) if isinstance(entry, Row) else self.published_line(entry)
            for entry in arrange(rows, published)
        ]
        return Block(
            backbone=self.backbone,
            backbone_title=self.title,
            dataset=self.dataset,
            images=len(images),
            scenes=len({scenes[image] for image in images if image in scenes}),
            published_dataset=", ".join(sorted({self.published_title(row.dataset) for row in published})),
            total_parameters=self.total_parameters,
            lines=mark_best(lines, self.metrics),
        )

    def published_title(self, dataset: str) -> str:
        return load_paper(str(self.results.profile.paper)).DATASET_TITLES.get(dataset, dataset)

    @property
    def title(self) -> str:
        if self.backbone is None:
            return "Other methods"
        return self.results.profile.backbones[self.backbone].title or self.backbone

    @property
    def total_parameters(self) -> int | None:
        """Number of parameters of the backbone, or None if its records disagree or are missing."""
        totals = {record.total_parameters for (of, _, _), record in self.results.records.items() if of == self.backbone}
        return totals.pop() if len(totals) == 1 else None

    def line(self, row: Row, paper: PublishedRow | None) -> Line:
        cells = [self.cell(row, metric, paper) for metric in self.metrics]
        shared = set(cells[0].notes).intersection(*(cell.notes for cell in cells))
        if row.baseline == EXTERNAL:
            shared |= {self.footnotes.number(_origin(self.results.profile, row))}
        records = list(self.results.row_records(self.backbone, row.name).values())
        shared |= {self.footnotes.number(note) for record in records for note in record.plan_notes}
        extension = next((record.extension for record in records if record.extension), None)
        left_out = {loss: reason for record in records for loss, reason in record.left_out.items()}
        shared |= {self.footnotes.number(f"Trained without {loss}: {left_out[loss]}.") for loss in sorted(left_out)}
        return Line(
            name=row.name,
            title=f"{row.title} (without {', '.join(sorted(left_out))})" if left_out else row.title,
            dagger=self.footnotes.dagger(extension),
            notes=tuple(sorted(shared)),
            parameters=_parameters(self.results.profile, row, records),
            published_label=paper.label if paper else "",
            published_parameters=(paper.parameters if paper else "") or "-",
            cells=tuple(replace(cell, notes=tuple(sorted(set(cell.notes) - shared))) for cell in cells),
        )

    def published_line(self, paper: PublishedRow) -> Line:
        """Make the line of a published row that this profile does not run."""
        return Line(
            name="",
            title=paper.label,
            dagger="",
            notes=(self.footnotes.number(NOT_IN_PART if self.results.selection else NOT_RUN),),
            parameters=Parameters(),
            published_label=paper.label,
            published_parameters=paper.parameters or "-",
            cells=tuple(Cell({}, 0, 0, paper.values.get(metric.name, "-")) for metric in self.metrics),
        )

    def cell(self, row: Row, metric: MetricColumn, paper: PublishedRow | None) -> Cell:
        expected = list(self.results.profile.seeds) if row.trained else [UNSEEDED]
        found = {seed: self.run_mean(row, metric, seed) for seed in expected}
        means = {seed: value for seed, value in found.items() if not isinstance(value, Hole)}
        holes = {seed: value for seed, value in found.items() if isinstance(value, Hole)}
        notes = tuple(self.footnotes.number(note) for note in hole_notes(holes, len(expected), bool(means)))
        printed = paper.values.get(metric.name, "-") if paper else "-"
        return Cell(means, len(expected), self.results.decimals.get(metric.name, 4), printed, notes)

    def run_mean(self, row: Row, metric: MetricColumn, seed: int | str) -> float | Hole:
        """Return the mean of one run over the images, or why it is missing."""
        record = self.results.records.get(Run(self.backbone, row.name, seed)) if isinstance(seed, int) else None
        if record is not None and record.status == "diverged":
            return Hole("diverged in training", of_run=True)
        tables = self.results.seed_tables(self.backbone, self.place(metric.name))
        values = tables.get(metric.name, {}).get(row.name, pd.DataFrame())
        if seed in values.index:
            mean = seed_mean(values.loc[seed].to_numpy(dtype=float))
            reason = self.reasons.get((row.name, metric.name, seed)) or "some images have no value"
            if reason.startswith(NOT_MEASURED):
                return Hole(reason, of_run=reason != NO_HR)
            return Hole(_without_value(metric, reason), of_run=False) if math.isnan(mean) else mean
        if record is None and seed != UNSEEDED:
            return Hole(self.results.failures.get(Run(self.backbone, row.name, int(seed)), NOT_FINISHED), of_run=True)
        return Hole(f"{metric.title} is not scored", of_run=False)


def _without_value(metric: MetricColumn, reason: str) -> str:
    if metric.reference:
        return f"{metric.title} is missing: {reason}"
    return f"{metric.title} is not measured, because {reason.replace('weights not available', 'weights are not available')}"


def _origin(profile: Profile, row: Row) -> str:
    """Say where the restored images of an external model come from."""
    output = profile.external[row.variant]
    made = f"Restored here with the weights {output.weights}" if output.weights else "Restored by others, scored here"
    source = f" ({output.source})" if output.source else ""
    stated = " The number of parameters is the one that its authors state." if output.parameters else ""
    return f"{made}{source}.{stated}"


def _parameters(profile: Profile, row: Row, records: Sequence[RunRecord]) -> Parameters:
    if row.baseline == UNADAPTED:
        return Parameters((0,), (1,))
    if row.baseline == EXTERNAL:
        stated = profile.external[row.variant].parameters
        return Parameters((stated,), ()) if stated else Parameters()
    return Parameters(
        tuple(record.trainable_parameters for record in records),
        tuple(record.total_parameters for record in records),
        tuple(record.seed for record in records),
    )


def hole_notes(holes: Mapping[int | str, Hole], expected: int, some_measured: bool) -> list[str]:
    """Write one sentence per reason for missing numbers.

    The sentence lists the seeds concerned, unless a metric is missing for all of them.
    """
    notes = []
    for hole in sorted(set(holes.values())):
        seeds = [str(seed) for seed, other in holes.items() if other == hole]
        counted = expected > 1 and (hole.of_run or some_measured)
        of = f"{len(seeds)} of {expected} seeds: " if counted else ""
        listed = f" (seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)})"
        notes.append(as_sentence(f"{of}{hole.reason.rstrip('.')}{listed if counted and len(seeds) < expected else ''}"))
    return notes


def mark_best(lines: Sequence[Line], metrics: Sequence[MetricColumn]) -> tuple[Line, ...]:
    """Mark the best and second best value of each metric, by the digits shown; ties get the same mark.

    Only adapted rows with all their seeds take part: a mean over the seeds that did not fail would be unfair.
    """
    marked = [list(line.cells) for line in lines]
    for column, metric in enumerate(metrics):
        fair = [i for i, line in enumerate(lines) if _is_adapted(line) and marked[i][column].complete]
        shown = {i: float(f"{marked[i][column].mean:.{marked[i][column].decimals}f}") for i in fair}
        order = sorted({value for value in shown.values() if not math.isnan(value)}, reverse=not metric.lower_better)
        marks: dict[float, Mark] = dict(zip(order, ("best", "second"), strict=False))
        for i, value in shown.items():
            marked[i][column] = replace(marked[i][column], mark=marks.get(value, ""))
    return tuple(replace(line, cells=tuple(cells)) for line, cells in zip(lines, marked, strict=True))


def _is_adapted(line: Line) -> bool:
    return line.name.partition("/")[0] not in ("", UNADAPTED, EXTERNAL)


def table_frame(table: TableModel) -> pd.DataFrame:
    """Return the table as one line per backbone, dataset and row; `notes` explains missing numbers, which are empty."""
    return pd.DataFrame([_frame_line(table, block, line) for block in table.blocks for line in block.lines])


def _frame_line(table: TableModel, block: Block, line: Line) -> dict[str, object]:
    trainable = line.parameters.trainable
    numbers: dict[str, object] = {}
    for head, cell in zip(table.columns, line.cells, strict=True):
        name = head.metric.name
        numbers |= {f"{name}_mean": cell.mean, f"{name}_sd": cell.sd, f"{name}_seeds": len(cell.seeds)}
        numbers |= {f"{name}_mark": cell.mark}
        if head.published:
            numbers[f"{name}_published"] = cell.published
    used = sorted({note for cell in line.cells for note in cell.notes} | set(line.notes))
    published = {"published_label": line.published_label, "published_parameters": line.published_parameters}
    extension = dict(table.daggers).get(line.dagger, "")
    return {
        "table": table.name,
        "profile": table.profile,
        "backbone": block.backbone,
        "dataset": block.dataset,
        "row": line.name,
        "title": line.title,
        "trainable_parameters_min": min(trainable, default=None),
        "trainable_parameters_max": max(trainable, default=None),
        "trainable_percent": line.parameters.percent,
        **numbers,
        **(published if table.published else {}),
        "extension": extension,
        "notes": " ".join(table.notes[note - 1] for note in used),
        "comparable_with_paper": not table.warning,
    }

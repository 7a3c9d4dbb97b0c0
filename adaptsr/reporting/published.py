"""Read the tables that a paper published, digit for digit.

`papers/<paper>/published/<table>.csv` has one line per table row and dataset: `label` (as printed), `row` (our
`<baseline>/<variant>`, alternatives separated by `|`; `external/<name>` for a method that this suite does not have),
`backbone` (empty if this suite does not have it), `dataset`, `parameters`, and metrics under the names that profiles use.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adaptsr.errors import UserError, listing, suggestion
from adaptsr.papers import published_tables

IDENTITY = ("label", "row", "backbone", "dataset", "parameters", "inference_parameters")


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table. rows: our rows that it may stand beside. values: printed digits by metric."""

    label: str
    rows: tuple[str, ...]
    backbone: str
    dataset: str
    parameters: str
    values: Mapping[str, str]

    def match(self, names: Iterable[str]) -> str | None:
        """Return the first of `rows` that is among `names`, or None."""
        present = set(names)
        return next((row for row in self.rows if row in present), None)


def read_published(paper: str, table: str) -> list[PublishedRow]:
    """Read one published table (`table2.csv`) of a paper, in the paper's order.

    Raises `UserError` if there is no such paper or table.
    """
    tables = published_tables(paper)
    if table not in tables:
        raise UserError(
            f"report.tables: papers/{paper}/published has no {table!r}{suggestion(table, tables)}; there are {listing(tables)}"
        )
    with tables[table].open(encoding="utf-8-sig", newline="") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: Mapping[str, str]) -> PublishedRow:
    return PublishedRow(
        label=line["label"],
        rows=tuple(part for part in line["row"].split("|") if part),
        backbone=line["backbone"],
        dataset=line["dataset"],
        parameters=line["parameters"],
        values={key: value for key, value in line.items() if key not in IDENTITY and value},
    )

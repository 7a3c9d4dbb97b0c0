"""The numbers of the AdaptSR paper's tables, as printed there.

`published/<table>.csv` has one line per table row and dataset: `label` (the paper's words), `row` (ours: `<baseline>/<variant>`,
alternatives separated by `|`; `outputs/<name>` for a method that is not in this suite), `backbone` (empty where it is
none of ours), `dataset`, `parameters`, and the paper's metrics under the names that profiles give them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptsr.config import listing
from adaptsr.errors import UserError

FOLDER = Path(__file__).parent / "published"
IDENTITY = ("label", "row", "backbone", "dataset", "parameters", "inference_parameters")
DATASET_TITLES = {"realsr": "RealSR", "drealsr": "DRealSR", "div2k": "DIV2K"}


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table; `values` are the printed digits by metric."""

    label: str
    rows: tuple[str, ...]
    backbone: str
    dataset: str
    parameters: str
    values: Mapping[str, str]

    def match(self, names: Iterable[str]) -> str | None:
        """The first of its rows that is among `names`."""
        present = set(names)
        return next((row for row in self.rows if row in present), None)


def read_published(name: str, folder: Path = FOLDER) -> list[PublishedRow]:
    """The rows of one published table (`table2` or `table2.csv`), in the paper's order."""
    tables = {path.stem: path for path in folder.glob("table*.csv")}
    path = tables.get(name.removesuffix(".csv"))
    if path is None:
        raise UserError(
            f"report.tables: no published table {name!r}; adaptsr/reporting/published has {listing(tables)}"
        )
    with path.open(encoding="utf-8", newline="") as file:
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


def shown_beside(published: Sequence[PublishedRow], datasets: Sequence[str]) -> dict[str, str]:
    """Which published dataset stands beside each test dataset of a profile.

    `realsr` stands beside `realsr_crops`, the StableSR crops that the paper measured on, or else beside `realsr`. Where
    a profile tests on none of the published datasets, the first of them stands beside its first test dataset.
    """
    available = list(dict.fromkeys(row.dataset for row in published))
    beside = {}
    for name in available:
        measured = next((dataset for dataset in (f"{name}_crops", name) if dataset in datasets), None)
        if measured:
            beside[measured] = name
    if beside or not available or not datasets:
        return beside
    return {datasets[0]: available[0]}

"""The tables of the catalogue, written by a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from adaptsr.data.catalogue import ArchiveFile, DatasetPart, WeightsFile

Rows = Iterable[Mapping[str, str]]


def write_tables(folder: Path, archives: Rows, datasets: Rows, weights: Rows) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tables = (
        ("archives", ArchiveFile, archives),
        ("datasets", DatasetPart, datasets),
        ("weights", WeightsFile, weights),
    )
    for name, model, rows in tables:
        columns = list(model.model_fields)
        lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
        (folder / f"{name}.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    return folder

"""Make the report folder self-contained: copy records, write seed means, and pack everything into one zip."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

from adaptsr import files
from adaptsr.reporting.render import write_frame
from adaptsr.reporting.results import Results
from adaptsr.runs.run import Run

RECORDS = "records"
SEEDS = "seeds.csv"
COMPRESSED = (".html", ".csv", ".md", ".tex", ".json", ".svg")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold; a fixed time makes the same files give the same bytes."""


def clear(folder: Path, names: Iterable[str]) -> None:
    """Empty the named subfolders, so that nothing of an earlier report remains."""
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)


def record_link(run: Run) -> str:
    """Return the path of the copy of a run's record, relative to the page."""
    return f"{RECORDS}/{run.name}.json"


def copy_records(results: Results, folder: Path) -> None:
    """Copy the records of all runs, unchanged."""
    for run in results.records:
        target = folder / record_link(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.record_path(results.folder), target)


def write_seed_means(results: Results, folder: Path) -> None:
    """Write `seeds.csv`: the mean over the test images of every run, metric and test dataset."""
    keys = ["backbone", "dataset", "row", "metric", "seed"]
    means = results.seed_means.assign(seed=results.seed_means["seed"].astype(str))
    write_frame(folder / SEEDS, means[[*keys, "value", "images"]].sort_values(keys, ignore_index=True))


def write_zip(folder: Path, out: Path) -> Path:
    """Pack all files of a folder except hidden ones into the zip `out`, under the folder's name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                entry = zipfile.ZipInfo(f"{folder.name}/{inside.as_posix()}", EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED if path.suffix in COMPRESSED else zipfile.ZIP_STORED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())
    with files.atomic_write(out) as temporary:
        temporary.write_bytes(content.getvalue())
    return out

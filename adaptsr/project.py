"""Find the project's folders (this checkout, the working folder) and the versions of installed packages."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

from adaptsr.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[1]
"""The checkout that contains this code; `baselines/`, `papers/` and the tables of `config/` are read from it."""
VARIABLE = "ADAPTSR_ROOT"


def find_root(start: Path) -> Path:
    """Find the folder that holds `config/`, `resources/`, `results/` and `reports/`, for a command started in `start`.

    Tries `ADAPTSR_ROOT`, then the nearest folder at or above `start` with a `Snakefile`, then this checkout.
    Raises `UserError` if `ADAPTSR_ROOT` is not a folder.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_dir():
            raise UserError(f"{VARIABLE}: no folder {named}; set it to the folder that holds config/ and results/")
        return Path(named).resolve()
    above = (folder for folder in (start, *start.parents) if (folder / "Snakefile").is_file())
    return next(above, CHECKOUT)


def installed_version(distribution: str) -> str:
    """Return the version of a package, or `not installed`."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"

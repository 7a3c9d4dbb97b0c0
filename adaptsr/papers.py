"""Load a paper from `papers/` by its path when a profile names one. `papers/README.md` says how to add one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from adaptsr.errors import UserError, listing, suggestion
from adaptsr.project import CHECKOUT

FOLDER = CHECKOUT / "papers"


@dataclass(frozen=True)
class Timing:
    """Published or derived speeds of one full-size backbone on the paper's GPU.

    adapted, full: seconds per training iteration (batch 8, HR crop 256) of an adaptation and of full fine-tuning.
    restoring: seconds per million LR pixels, in single precision. how: `published`, or how the numbers were derived.
    """

    adapted: float
    full: float
    restoring: float
    parameters: int
    how: str


class Audit(Protocol):
    """The paper's claims, each with a verdict."""

    def text(self) -> str:
        """Format the findings for a terminal."""

    def to_json(self) -> Sequence[Mapping[str, Any]]:
        """Return the findings as plain data."""

    def write_page(self, profile: str, profile_title: str, path: Path) -> None:
        """Write the findings as an HTML page of a profile's report."""


class Paper(Protocol):
    """The content of `papers/<name>/__init__.py`. The published tables are `published/table*.csv` beside it."""

    TITLE: str
    GPU: str
    """The GPU of `TIMINGS`."""
    DATASET_TITLES: Mapping[str, str]
    """Titles of the datasets in its tables."""
    TIMINGS: Mapping[str, Timing]
    """Timings by name in `config/weights.tsv`."""
    ADAPTED_SHARE: float
    """Share of a backbone's parameters that an adaptation trains, on average."""

    def audit(self) -> Audit:
        """Check the paper's numbers and claims by arithmetic."""


def paper_folder(name: str) -> Path:
    """Return the folder of a paper without importing it. Raises `UserError` if the paper is unknown."""
    known = sorted(path.parent.name for path in FOLDER.glob("*/__init__.py"))
    if name not in known:
        raise UserError(f"paper: no folder papers/{name}{suggestion(name, known)}; there are {listing(known)}")
    return FOLDER / name


def published_tables(name: str) -> dict[str, Path]:
    """Return the files of a paper's published tables by file name. Raises `UserError` if the paper is unknown."""
    return {path.name: path for path in sorted((paper_folder(name) / "published").glob("table*.csv"))}


def load_paper(name: str) -> Paper:
    """Import a paper by its path, once. Raises `UserError` if there is none of this name."""
    paper_folder(name)
    # The checkout is not on the path of an installed command, so the folder becomes a package by hand.
    guests = sys.modules.setdefault("papers", ModuleType("papers"))
    guests.__path__ = [str(FOLDER)]
    return cast(Paper, importlib.import_module(f"papers.{name}"))

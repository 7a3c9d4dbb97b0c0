"""A run: backbone x variant x seed, its name and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """What is trained and scored as one: a variant on a backbone with a seed.

    backbone: None for an external model. variant: the name of its row, `<baseline>/<variant>`, `unadapted` or
    `external/<name>`. seed: None for what is scored without being trained.
    """

    backbone: str | None
    variant: str
    seed: int | None

    @property
    def name(self) -> str:
        """`<backbone>/<variant>/seed<seed>`, also the run's folder below the results of its profile."""
        parts = [self.backbone, self.variant, None if self.seed is None else f"seed{self.seed}"]
        return "/".join(part for part in parts if part is not None)

    @property
    def label(self) -> str:
        """The run in a line of progress: `swinir lora/r8 seed 1`."""
        parts = [self.backbone, self.variant, None if self.seed is None else f"seed {self.seed}"]
        return " ".join(part for part in parts if part is not None)

    @property
    def trained(self) -> bool:
        """Whether it is trained; the others are scored as they are."""
        return self.seed is not None

    def folder(self, results: Path) -> Path:
        """Return its folder below `results`, the results of its profile."""
        return results / self.name

    def record_path(self, results: Path) -> Path:
        return self.folder(results) / "record.json"

"""A table as numbers: what the writers render and nothing else."""

from __future__ import annotations

import math
import statistics as moments
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adaptsr.reporting.metrics import MetricColumn

Mark = Literal["", "best", "second"]
SeedMeans = Mapping[int | str, float]


@dataclass(frozen=True)
class Cell:
    """A measured metric. `seeds`: mean over images by seed; `notes`: footnote numbers; `published`: as printed."""

    seeds: SeedMeans
    expected: int
    decimals: int
    published: str
    notes: tuple[int, ...] = ()
    mark: Mark = ""

    @property
    def mean(self) -> float:
        return moments.fmean(self.seeds.values()) if self.seeds else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation over seeds (n - 1); NaN below two."""
        values = list(self.seeds.values())
        return moments.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan

    @property
    def complete(self) -> bool:
        return len(self.seeds) == self.expected

    @property
    def partial(self) -> bool:
        """Whether some, but not all, seeds are there."""
        return 0 < len(self.seeds) < self.expected

    @property
    def mean_text(self) -> str:
        return number_text(self.mean, self.decimals)

    @property
    def difference_text(self) -> str:
        """Measured minus published, with the digits that are printed; empty where one of the two is missing."""
        try:
            published = float(self.published)
        except ValueError:
            return ""
        digits = len(self.published.partition(".")[2])
        return f"{self.mean - published:+.{digits}f}" if math.isfinite(self.mean) else ""

    @property
    def seed_texts(self) -> list[tuple[int | str, str]]:
        """The mean of each seed, one digit more than the mean over them."""
        return [(seed, number_text(value, self.decimals + 1)) for seed, value in self.seeds.items()]

    @property
    def sd_text(self) -> str:
        return "" if math.isnan(self.sd) else f"{self.sd:.{self.decimals}f}"


@dataclass(frozen=True)
class Parameters:
    """Trainable parameters of a row's runs, each counted; they may differ between seeds. `seeds`: whose they are."""

    trainable: tuple[int, ...] = ()
    total: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def by_seed(self) -> list[tuple[int, str]]:
        """The count of each recorded run; nothing for the unadapted backbone."""
        return [(seed, f"{count:,}") for seed, count in zip(self.seeds, self.trainable, strict=False)]

    @property
    def text(self) -> str:
        if not self.trainable:
            return "-"
        low, high = min(self.trainable), max(self.trainable)
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    @property
    def percent(self) -> float:
        """Mean share of the trainable parameters, percent; NaN where no total is known."""
        shares = [100 * part / whole for part, whole in zip(self.trainable, self.total, strict=False)]
        return moments.fmean(shares) if shares else math.nan

    @property
    def percent_text(self) -> str:
        return "" if math.isnan(self.percent) or not self.percent else f"{self.percent:.1f}%"


@dataclass(frozen=True)
class Line:
    """A row of a block. `name` is empty for a published row that this profile does not run.

    `notes`: footnotes that hold for every cell; `dagger` marks an extension of the published method.
    """

    name: str
    title: str
    dagger: str
    notes: tuple[int, ...]
    parameters: Parameters
    published_label: str
    published_parameters: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """One backbone on one test dataset; `backbone` is None for external models and for published methods that are not in this suite."""

    backbone: str | None
    backbone_title: str
    dataset: str
    images: int
    scenes: int
    published_dataset: str
    total_parameters: int | None
    lines: tuple[Line, ...]

    @property
    def heading(self) -> str:
        return f"{self.backbone_title} on {self.dataset}"

    @property
    def details(self) -> str:
        parts = [f"{self.total_parameters:,} parameters"] if self.total_parameters else []
        if self.images:
            parts.append(f"{self.images} test images of {self.scenes} scenes")
        if self.published_dataset:
            parts.append(f"published numbers are for {self.published_dataset}")
        return "; ".join(parts) or "nothing measured"

    @property
    def published_parameters(self) -> bool:
        """Whether the paper prints a number of parameters for any of its lines."""
        return any(line.published_parameters != "-" for line in self.lines)

    @property
    def published(self) -> bool:
        """Whether the paper prints anything for any of its lines."""
        return self.published_parameters or any(map(self.published_column, range(len(self.lines[0].cells))))

    def published_column(self, column: int) -> bool:
        """Whether the paper prints a value of this metric for any of its lines."""
        return any(line.cells[column].published != "-" for line in self.lines)

    @property
    def notes(self) -> tuple[int, ...]:
        """The footnotes that its lines use."""
        numbers = {note for line in self.lines for cell in line.cells for note in cell.notes}
        return tuple(sorted(numbers.union(*(line.notes for line in self.lines))))

    @property
    def daggers(self) -> set[str]:
        return {line.dagger for line in self.lines}


@dataclass(frozen=True)
class ColumnHead:
    metric: MetricColumn
    published: bool


@dataclass(frozen=True)
class TableModel:
    """A whole table; `notes` are numbered from 1, `daggers` mark extensions of the published methods."""

    name: str
    title: str
    profile: str
    profile_title: str
    warning: str
    columns: tuple[ColumnHead, ...]
    published: bool
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    daggers: tuple[tuple[str, str], ...]
    conventions: tuple[str, ...]


def number_text(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.{decimals}f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")

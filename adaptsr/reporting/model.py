"""A table as numbers: everything that the templates of tables render."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from adaptsr.reporting.metrics import MetricColumn
from adaptsr.statistics import seed_mean

MISSING = "\N{EN DASH}"
"""Stands for a missing number; a hyphen with the number of a note behind it would read as minus one."""
Mark = Literal["", "best", "second"]
SeedMeans = Mapping[int | str, float]


@dataclass(frozen=True)
class Cell:
    """A measured metric of one row.

    seeds: mean over the images, by seed. expected: how many seeds there should be. published: as printed, `-` if the
    paper prints none. notes: numbers of footnotes.
    """

    seeds: SeedMeans
    expected: int
    decimals: int
    published: str
    notes: tuple[int, ...] = ()
    mark: Mark = ""

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN without seeds."""
        return seed_mean(self.seeds.values())

    @property
    def sd(self) -> float:
        """Standard deviation over seeds (n - 1); NaN below two seeds or if a value is infinite."""
        values = list(self.seeds.values())
        return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan

    @property
    def complete(self) -> bool:
        return len(self.seeds) == self.expected

    @property
    def partial(self) -> bool:
        """Whether some, but not all, seeds have a value."""
        return 0 < len(self.seeds) < self.expected

    @property
    def mean_text(self) -> str:
        return number_text(self.mean, self.decimals)

    @property
    def difference_text(self) -> str:
        """Measured minus published, with as many digits as printed; empty if one of the two is missing."""
        try:
            published = float(self.published)
        except ValueError:
            return ""
        digits = len(self.published.partition(".")[2])
        return f"{self.mean - published:+z.{digits}f}" if math.isfinite(self.mean) else ""

    @property
    def seed_texts(self) -> list[tuple[int | str, str]]:
        """Each seed with its mean, one digit more than the mean over seeds."""
        return [(seed, number_text(value, self.decimals + 1)) for seed, value in self.seeds.items()]

    def of(self, seed: int | str) -> Cell:
        """Return the value of one seed alone, without marks and what is published."""
        alone = {known: value for known, value in self.seeds.items() if known == seed}
        return Cell(alone, 1, self.decimals, "-")

    @property
    def sd_text(self) -> str:
        return "" if math.isnan(self.sd) else f"{self.sd:.{self.decimals}f}"


@dataclass(frozen=True)
class Parameters:
    """Trainable and total parameters of the runs of a row, counted in each, since seeds may differ; `seeds`: their seeds."""

    trainable: tuple[int, ...] = ()
    total: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def by_seed(self) -> list[tuple[int, str]]:
        """Each recorded run's seed with its count; empty for the unadapted backbone."""
        return [(seed, f"{count:,}") for seed, count in zip(self.seeds, self.trainable, strict=False)]

    @property
    def text(self) -> str:
        if not self.trainable:
            return MISSING
        low, high = min(self.trainable), max(self.trainable)
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    def of(self, seed: int | str) -> Parameters:
        """Return those of one seed's run."""
        found = [place for place, known in enumerate(self.seeds) if known == seed]
        return Parameters(*(tuple(counts[place] for place in found) for counts in (self.trainable, self.total)))

    @property
    def percent(self) -> float:
        """Mean share of trainable parameters in percent; NaN if the totals are unknown."""
        shares = [100 * part / whole for part, whole in zip(self.trainable, self.total, strict=False)]
        return seed_mean(shares)

    @property
    def percent_text(self) -> str:
        return "" if math.isnan(self.percent) or not self.percent else f"{self.percent:.1f}%"


@dataclass(frozen=True)
class Line:
    """A row of a block.

    name: empty for a published row that this profile does not run. dagger: marks an extension of the published method.
    notes: numbers of footnotes that hold for every cell.
    """

    name: str
    title: str
    dagger: str
    notes: tuple[int, ...]
    parameters: Parameters
    published_label: str
    published_parameters: str
    cells: tuple[Cell, ...]

    def per_seed(self) -> list[Line]:
        """Return a line for each seed with a value."""
        seeds = sorted(seed for seed in {seed for cell in self.cells for seed in cell.seeds} if isinstance(seed, int))
        alone = replace(self, published_label="", published_parameters="-")
        return [
            replace(
                alone,
                title=f"{self.title}, seed {seed}",
                parameters=self.parameters.of(seed),
                cells=tuple(cell.of(seed) for cell in self.cells),
            )
            for seed in seeds
        ]


@dataclass(frozen=True)
class Block:
    """One backbone on one test dataset.

    backbone: None for external models and for published methods that this suite does not have. published_dataset: title
    of the dataset that the published numbers are for, or empty. total_parameters: None if unknown.
    """

    backbone: str | None
    backbone_title: str
    dataset: str
    images: int
    scenes: int
    published_dataset: str
    total_parameters: int | None
    lines: tuple[Line, ...]

    def with_seeds(self) -> Block:
        """Return the block with a line for each seed below the line of its row."""
        return replace(self, lines=tuple(one for line in self.lines for one in (line, *line.per_seed())))

    @property
    def heading(self) -> str:
        return f"{self.backbone_title} on {self.dataset}"

    @property
    def details(self) -> str:
        parts = [f"{self.total_parameters:,} parameters"] if self.total_parameters else []
        if self.images:
            parts.append(images_text(self.images, self.scenes))
        if self.published_dataset:
            parts.append(f"published numbers are for {self.published_dataset}")
        return "; ".join(parts) or "nothing measured"

    @property
    def published_parameters(self) -> bool:
        """Whether a number of parameters is published for any of the lines."""
        return any(line.published_parameters != "-" for line in self.lines)

    @property
    def published(self) -> bool:
        """Whether anything is published for any of the lines."""
        return self.published_parameters or any(map(self.published_column, range(len(self.lines[0].cells))))

    def published_column(self, column: int) -> bool:
        """Return whether a value of this metric is published for any of the lines."""
        return any(line.cells[column].published != "-" for line in self.lines)

    @property
    def notes(self) -> tuple[int, ...]:
        """Numbers of the footnotes that the lines use, ascending."""
        numbers = {note for line in self.lines for cell in line.cells for note in cell.notes}
        return tuple(sorted(numbers.union(*(line.notes for line in self.lines))))

    @property
    def daggers(self) -> set[str]:
        return {line.dagger for line in self.lines}


@dataclass(frozen=True)
class ColumnHead:
    """A metric as a column; `published` tells whether the paper has values of it."""

    metric: MetricColumn
    published: bool


@dataclass(frozen=True)
class TableModel:
    """A whole table. notes: footnotes, numbered from 1. daggers: signs of extensions of published methods, with their text."""

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


def images_text(images: int, scenes: int) -> str:
    """Format numbers of test images and of their scenes, which are 0 where they are not known."""
    return f"{images} test images{f' of {scenes} scenes' if scenes else ', scenes not known'}"


def number_text(value: float, decimals: int) -> str:
    """Format a number with so many digits after the point; a dash if it is NaN, `∞` or `-∞` if it is infinite."""
    if math.isnan(value):
        return MISSING
    return f"{value:z.{decimals}f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def signed(value: float, decimals: int) -> str:
    """Format a number with its sign, with more digits than asked for where it would read as 0; a dash if it is NaN."""
    return MISSING if math.isnan(value) else f"{value:+z.{digits_apart(value, 0, decimals)}f}"


def correlation_text(value: float) -> str:
    """Format a correlation with two digits, or with more where it would read as 1; a dash if it is NaN."""
    return MISSING if math.isnan(value) else f"{value:z.{digits_apart(abs(value), 1, 2)}f}"


def digits_apart(value: float, limit: float, digits: int) -> int:
    """Return at least so many digits, and enough that `value` is not rounded to `limit`; 9 at most tell them apart."""
    return next((more for more in range(digits, 10) if round(value, more) != limit), digits)

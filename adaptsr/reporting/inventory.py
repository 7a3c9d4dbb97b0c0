"""Take stock of the runs of a matrix: which are scored, which are missing, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from adaptsr.reporting.model import MISSING
from adaptsr.reporting.results import NOT_FINISHED, Results
from adaptsr.reporting.significance import backbone_title, short_titles
from adaptsr.runs.matrix import Row
from adaptsr.runs.run import Run
from adaptsr.statistics import UNSEEDED

State = Literal["whole", "holes", "none"]
NOT_SCORED = "trained, not scored"


@dataclass(frozen=True)
class Hole:
    """Runs of one row on one backbone that lack scores for the same reason."""

    backbone: str
    row: str
    seeds: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """How many runs of a row are scored on one backbone."""

    text: str
    state: State


@dataclass(frozen=True)
class CoverageLine:
    """A row with its coverage on each backbone."""

    row: str
    title: str
    cells: tuple[Coverage, ...]


@dataclass(frozen=True)
class Inventory:
    """Numbers of runs, coverage by row and backbone, and every hole."""

    expected: int
    trained: int
    diverged: int
    scored: int
    backbones: tuple[str, ...]
    lines: tuple[CoverageLine, ...]
    holes: tuple[Hole, ...]

    @property
    def complete(self) -> bool:
        return not self.holes

    @property
    def sentence(self) -> str:
        """Such as `Of 200 runs, 180 are trained and scored, 2 diverged and 18 are not finished or not scored.`"""
        if not self.expected:
            return "Nothing is trained."
        if self.complete:
            return f"{'The run is' if self.expected == 1 else f'All {self.expected} runs are'} trained and scored."
        rest = self.expected - self.scored - self.diverged
        return (
            f"Of {self.expected} runs, {self.scored} {_are(self.scored)} trained and scored, "
            f"{self.diverged} diverged and {rest} {_are(rest)} not finished or not scored."
        )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def take_inventory(results: Results) -> Inventory:
    """Count the runs of the profile and collect the reasons for those without scores."""
    scored = results.scored
    reasons = {run: reason for run in results.runs if run not in scored and (reason := _reason(results, run))}
    diverged = sum(record.status == "diverged" for record in results.records.values())
    return Inventory(
        expected=len(results.runs),
        trained=len(results.records),
        diverged=diverged,
        scored=sum(run in scored for run in results.runs),
        backbones=tuple(short_titles(results.profile).values()),
        lines=tuple(
            CoverageLine(
                row.name,
                row.title,
                tuple(_coverage(results, scored, backbone, row) for backbone in results.profile.backbones),
            )
            for row in results.rows
            if not row.on(None)
        ),
        holes=tuple(_holes(results, reasons)),
    )


def _reason(results: Results, run: Run) -> str:
    record = results.records.get(run)
    if record is None:
        return results.failures.get(run, NOT_FINISHED)
    return f"diverged at iteration {record.diverged_at}" if record.status == "diverged" else NOT_SCORED


def _coverage(results: Results, scored: set[tuple[str, str, int | str]], backbone: str, row: Row) -> Coverage:
    if not row.on(backbone):
        return Coverage(MISSING, "whole")
    if not row.trained:
        there = (backbone, row.name, UNSEEDED) in scored
        return Coverage("scored" if there else "not scored", "whole" if there else "none")
    seeds = results.profile.seeds
    count = sum((backbone, row.name, seed) in scored for seed in seeds)
    records = results.row_records(backbone, row.name).values()
    diverged = sum(record.status == "diverged" for record in records)
    text = f"{count} of {len(seeds)}" + (f", {diverged} diverged" if diverged else "")
    return Coverage(text, "whole" if count == len(seeds) else "holes" if count else "none")


def _holes(results: Results, reasons: Mapping[Run, str]) -> Iterable[Hole]:
    """Yield one hole per backbone, row and reason, in the order of the matrix."""
    for backbone in results.profile.backbones:
        for row in results.adapted_rows:
            of_row = {seed: reasons.get(Run(backbone, row.name, seed), "") for seed in results.profile.seeds}
            for reason in dict.fromkeys(reason for reason in of_row.values() if reason):
                seeds = [seed for seed, other in of_row.items() if other == reason]
                yield Hole(backbone_title(results.profile, backbone), row.title, _listed(seeds), reason)


def _listed(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"

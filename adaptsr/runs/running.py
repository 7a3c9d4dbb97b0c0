"""What a run in progress tells about itself: how far it is, how fast, and its curves so far. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydantic

from adaptsr import files
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.records import ValidationPoint
from adaptsr.runs.run import Run

ALIVE_SECONDS = 180
"""A run that has said nothing for longer is taken for stopped."""


class Running(pydantic.BaseModel):
    """The state of a run, in its folder as long as it trains. per_second: iterations, lately."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)

    iteration: int
    iterations: int
    per_second: float
    validation: list[ValidationPoint]

    @property
    def text(self) -> str:
        left = (self.iterations - self.iteration) / self.per_second
        speed = f"{self.per_second:.{0 if self.per_second > 9.9 else 2}f}"
        return f"iteration {self.iteration:,} of {self.iterations:,}, {speed} a second, {duration(left)} left"

    def write(self, checkpoints: Path) -> None:
        files.write_json(checkpoints / "running.json", self.model_dump(mode="json"))


def duration(seconds: float) -> str:
    """Format seconds for people: `3 d 4 h`, `2 h 5 min`, `40 s`."""
    for name, size, part, smaller in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{int(seconds // size)} {name} {int(seconds % size // smaller)} {part}"
    return f"{int(seconds)} s"


def in_progress(runs: Iterable[Run], results: Path) -> Iterator[tuple[Run, Running]]:
    """Yield the runs that are training now, on whichever machine."""
    for run in runs:
        path = run.folder(results) / "checkpoints/running.json"
        try:
            if run.trained and time.time() - path.stat().st_mtime < ALIVE_SECONDS:
                yield run, Running.model_validate_json(path.read_bytes())
        except (OSError, ValueError):  # not running, or gone meanwhile
            continue


def overview(matrix: Matrix) -> list[str]:
    """Return a line for each run in progress and one for the matrix, which is finished if there is no other."""
    runs = [run for run in matrix.runs if run.trained]
    training = list(in_progress(runs, matrix.results))
    finished = sum(run.record_path(matrix.results).is_file() for run in runs)
    lines = [f"{run.label}: {running.text}" for run, running in training]
    return [
        *lines,
        f"{matrix.profile.name}: {finished:,} of {len(runs):,} runs finished, {len(training):,} in progress",
    ]

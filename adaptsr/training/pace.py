"""Say how far a run is and how long it will take, and leave it in the run's folder for whoever watches."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

from adaptsr.errors import UserError
from adaptsr.progress import Progress
from adaptsr.runs.running import Running
from adaptsr.training.checkpoints import History

LINE_SECONDS = 60.0
TERMINAL_SECONDS = 1.0
FILE_SECONDS = 10.0


class Pace:
    """Says a line a minute; on a terminal one a second, which takes the place of the last."""

    def __init__(self, folder: Path, iterations: int, start: int, progress: Progress) -> None:
        self._folder = folder
        self._iterations = iterations
        self._progress = progress
        self._live = sys.stderr.isatty()
        self._said = self._written = time.monotonic()
        self._marks = [(self._said, start)] * 2
        """Time and iteration a minute ago or two, from which speed is taken, and a minute ago or less."""

    def tick(self, done: int, history: History) -> None:
        """Note that an iteration is done."""
        now = time.monotonic()
        due = now - self._said >= (TERMINAL_SECONDS if self._live else LINE_SECONDS)
        if not due and now - self._written < FILE_SECONDS:
            return
        (began, first), (latest, _) = self._marks
        state = Running(
            iteration=done,
            iterations=self._iterations,
            per_second=(done - first) / (now - began),
            validation=history.validation,
        )
        if due:
            self._progress(f"{state.text}\r" if self._live else state.text)
            self._said = now
        if now - self._written >= FILE_SECONDS:
            with suppress(UserError, OSError):  # a full disk is for a checkpoint to tell
                state.write(self._folder)
            self._written = now
        if now - latest >= LINE_SECONDS:
            self._marks = [self._marks[1], (now, done)]

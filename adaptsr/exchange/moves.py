"""Rename many files and folders, all or none, even if this process is killed in between. Imports no torch."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from adaptsr import files
from adaptsr.errors import UserError
from adaptsr.progress import say_once

JOURNAL = "journal"
"""Each rename is noted in this file of the staging folder before it is done. Its lock says whether that process is alive."""


class Moves:
    """Renames that can be undone; a file or folder in the way is put aside first."""

    def __init__(self, staging: Path, journal: IO[str]) -> None:
        self.staging = staging
        self._journal = journal
        self._aside = 0

    def move(self, source: Path, target: Path) -> None:
        """Rename `source`, if it exists, to `target`."""
        if not source.exists():
            return
        if target.exists():
            self._aside += 1
            self.move(target, self.staging / "replaced" / str(self._aside))
        target.parent.mkdir(parents=True, exist_ok=True)
        names = [os.path.relpath(path, self.staging.parent) for path in (source, target)]
        self._journal.write(json.dumps(names) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())
        source.rename(target)

    def commit(self) -> None:
        """Forget the renames: from here on they stay."""
        self._journal.truncate(0)


@contextmanager
def staging_of(results: Path) -> Iterator[Moves]:
    """Yield moves with a folder on the disk of `results`, removed in the end. What is not committed is undone.

    Raises `UserError` if another process moves files into `results`, or if the disk is full.
    """
    with files.refusal_explained(results):
        results.parent.mkdir(parents=True, exist_ok=True)
        if busy := recover(results):
            raise UserError(f"{results}: another merge is in progress ({busy.name}); wait for it, then merge again")
        staging = Path(tempfile.mkdtemp(dir=results.parent, prefix=_prefix(results)))
        with (staging / "unlocked").open("a") as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)
            (staging / "unlocked").replace(staging / JOURNAL)  # whoever sees a journal sees its lock
            try:
                yield Moves(staging, journal)
            finally:
                _undo(staging)
                shutil.rmtree(staging, ignore_errors=True)


def recover(results: Path) -> Path | None:
    """Undo what killed processes had moved into `results`; return the staging folder of one that is alive."""
    busy = None
    for staging in sorted(results.parent.glob(f"{_prefix(results)}????????")):
        try:
            file = (staging / JOURNAL).open("r+")
        except FileNotFoundError:  # it has only begun, or was killed then
            busy = _begun(staging) or busy
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = staging
                continue
            if not (staging / JOURNAL).exists():  # it has ended meanwhile
                continue
            say_once(f"{staging}: a merge was killed; putting back what it had moved")
            _undo(staging)
            shutil.rmtree(staging, ignore_errors=True)
    return busy


def _begun(staging: Path) -> Path | None:
    """Return a folder without a journal that is younger than a minute; remove an older one."""
    with suppress(FileNotFoundError):
        if time.time() - staging.stat().st_mtime < 60:
            return staging
    shutil.rmtree(staging, ignore_errors=True)
    return None


def _prefix(results: Path) -> str:
    return f".merge-{results.name}-"


def _undo(staging: Path) -> None:
    for line in reversed((staging / JOURNAL).read_text().splitlines()):
        try:
            source, target = (staging.parent / name for name in json.loads(line))
        except ValueError:  # torn: the rename was not begun
            continue
        if target.exists() and not source.exists():
            source.parent.mkdir(parents=True, exist_ok=True)
            target.rename(source)
            with suppress(OSError):  # until the first folder that is not empty
                for folder in target.parents:
                    folder.rmdir()

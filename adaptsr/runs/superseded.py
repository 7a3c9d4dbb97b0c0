"""Finished runs that another run has taken the place of: set aside under their key, and brought back by it.

A profile whose data, weights or options change asks for other runs under the same names. What was finished is kept in
`results/<profile>/superseded/<key>/`, each row in a folder of its own: two rows may be the same run by their keys.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from adaptsr.runs.run import Run

FOLDER = "superseded"


def superseded_folder(run: Run, results: Path, key: str) -> Path:
    return run.folder(results / FOLDER / key)


def set_aside(run: Run, results: Path, key: str) -> Path:
    """Move a finished run of another key out of the way, whole, and return where it is kept."""
    target = superseded_folder(run, results, key)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # the same run, set aside before
        discarded = target.with_name(f".{target.name}")
        target.rename(discarded)
        shutil.rmtree(discarded)
    run.folder(results).rename(target)
    return target


def bring_back(run: Run, results: Path, key: str) -> bool:
    """Move a run of this key back to its place, if one was set aside; say whether there was one."""
    folder = run.folder(results)
    before = results / FOLDER / key  # where version 0.3 kept it
    kept = next(
        (kept for kept in (superseded_folder(run, results, key), before) if (kept / "record.json").is_file()), None
    )
    if kept is None:
        return False
    if folder.exists():  # an unfinished run: whoever finished one set it aside before
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    kept.rename(folder)
    with suppress(OSError):  # until the first folder that is not empty
        for parent in kept.parents:
            parent.rmdir()
    return True

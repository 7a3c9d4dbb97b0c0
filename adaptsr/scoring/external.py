"""Find and read the restored images of external models. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptsr import files
from adaptsr.config import schema
from adaptsr.data.matching import Side, match_names, read, size_mismatch
from adaptsr.errors import raise_all

if TYPE_CHECKING:
    import torch

    from adaptsr.data.store import PairSet

RESTORED = "restored"
NOT_MEASURED = "not measured"
"""How the reason of a value begins whose images are missing."""
NO_HR = f"{NOT_MEASURED}, because these photographs have no HR"
"""The reason of a metric that compares with HR."""


def external_folder(profile: schema.Profile, name: str, dataset: str) -> Path:
    """Return the folder of the restored images of an external model for a test dataset; it need not exist."""
    declared = profile.external[name].folders.get(dataset)
    return files.expanded(declared) if declared else Path("resources") / schema.EXTERNAL / name / dataset


def folders_as_they_are(profile: schema.Profile, datasets: Iterable[str]) -> list[list[str | int]]:
    """List every folder that exists with the number of its files and their newest time: a change makes scores stale."""
    tested = list(datasets)
    named = [external_folder(profile, name, dataset) for name in profile.external for dataset in tested]
    return [_as_it_is(folder) for folder in dict.fromkeys(named) if folder.is_dir()]


def _as_it_is(folder: Path) -> list[str | int]:
    times = [path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()]
    return [str(folder), len(times), max(times, default=0)]


def images_digest(folder: Path, names: Sequence[str]) -> str:
    """Hash the contents of the named images; return an empty string if the folder is missing."""
    if not folder.is_dir():
        return ""
    problems: list[str] = []
    found = match_names(Side(RESTORED, folder), names, problems)
    raise_all(str(folder), problems)
    return files.digest([[name, files.file_sha256(found[name].path)] for name in names])


def read_external(folder: Path, test: PairSet) -> list[torch.Tensor] | str:
    """Read a test dataset's restored images, uint8 (3, H, W), in its order; return a reason if the folder is missing.

    Images are matched by name, whatever their suffix; other images are left alone. Raises one `UserError` that names every
    image that is missing, unreadable or of another size than its HR image.
    """
    if not folder.is_dir():
        return f"{NOT_MEASURED}: no folder {folder}"
    problems: list[str] = []
    found = match_names(Side(RESTORED, folder), test.names, problems)
    images = []
    of_hr, scale = (test.hr, 1) if test.hr else (test.lr, test.scale)
    for name, given in zip(test.names, of_hr, strict=True):
        image = read(found[name], problems, converting=True) if name in found else None
        if image is not None:
            mismatch = size_mismatch(given, image, scale, ("HR" if test.hr else "LR", RESTORED))
            problems += [f"{found[name]}: {mismatch}"] if mismatch else []
            images.append(image)
    raise_all(str(folder), problems)
    return images

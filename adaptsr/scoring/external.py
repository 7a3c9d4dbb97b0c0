"""Restored images of models that are not adapted here: where they lie and what is there. Costs no torch to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptsr import files
from adaptsr.config import schema
from adaptsr.errors import UserError

if TYPE_CHECKING:
    import torch

    from adaptsr.data.store import PairSet

MOST_PROBLEMS_SHOWN = 20
NOT_MEASURED = "not measured"
"""How the reason of a value begins that was not even tried."""


def external_folder(profile: schema.Profile, name: str, dataset: str) -> Path:
    """Return where the restored images of an external model for a test dataset lie, or would."""
    declared = profile.external[name].folders.get(dataset)
    return files.expanded(declared) if declared else Path("resources") / schema.EXTERNAL / name / dataset


def folders_as_they_are(profile: schema.Profile, datasets: Iterable[str]) -> list[list[str | int]]:
    """Every folder that is there with the number of its files and the newest of their times: what makes scores stale."""
    tested = list(datasets)
    named = [external_folder(profile, name, dataset) for name in profile.external for dataset in tested]
    return [_as_it_is(folder) for folder in dict.fromkeys(named) if folder.is_dir()]


def _as_it_is(folder: Path) -> list[str | int]:
    times = [path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()]
    return [str(folder), len(times), max(times, default=0)]


def images_digest(folder: Path, names: Sequence[str]) -> str:
    """Hash of the contents of the images of these names; of nothing where there is no folder."""
    if not folder.is_dir():
        return ""
    found = _find(folder, names)
    return files.digest([[name, files.file_sha256(found[name])] for name in names])


def read_external(folder: Path, test: PairSet) -> list[torch.Tensor] | str:
    """The restored images of a test dataset, uint8 (3, H, W) in its order; or why there are none.

    An image answers to its name, whatever its suffix. `UserError` names every image that is missing, unreadable or of
    another size than its HR image; images that the dataset does not have are left alone.
    """
    if not folder.is_dir():
        return f"{NOT_MEASURED}: no folder {folder}"
    from adaptsr.data.images import read_image
    from adaptsr.data.store import size_text

    found = _find(folder, test.names)
    images = []
    problems = []
    for name, hr in zip(test.names, test.hr, strict=True):
        try:
            image = read_image(found[name])
        except UserError as error:
            problems.append(str(error))
            continue
        if image.shape != hr.shape:
            problems.append(f"{found[name]} has {size_text(image)} pixels, its HR image {size_text(hr)}")
        images.append(image)
    _raise_all(problems)
    return images


def _find(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    from adaptsr.data.images import SUFFIXES

    wanted = set(names)
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.iterdir()):
        if path.stem in wanted and path.suffix.lower() in SUFFIXES:
            if path.stem in found:
                problems.append(f"{path}: {found[path.stem].name} has the same name; keep one of the two")
            found[path.stem] = path
    problems += [f"{folder} has no image {name!r}" for name in names if name not in found]
    _raise_all(problems)
    return found


def _raise_all(problems: Sequence[str]) -> None:
    if problems:
        more = f"; and {len(problems) - MOST_PROBLEMS_SHOWN} more" if len(problems) > MOST_PROBLEMS_SHOWN else ""
        raise UserError("; ".join(problems[:MOST_PROBLEMS_SHOWN]) + more)

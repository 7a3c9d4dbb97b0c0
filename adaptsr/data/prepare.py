"""Bringing a dataset of a profile into the form that training and scoring read: images and a manifest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

from adaptsr.config import DatasetConfig, Pairs, Photographs
from adaptsr.data.folders import check_pairs
from adaptsr.data.manifest import SplitName
from adaptsr.data.photographs import find_photographs, write_photographs
from adaptsr.errors import UserError

MANIFEST = "manifest.json"


def prepare(name: str, config: DatasetConfig, folder: Path, scale: int) -> Path:
    """Prepare dataset `name` in `folder` and return the path of its manifest.

    Photographs are cut and degraded to `folder/<split>/{lr,hr}/*.png`; pairs stay where they are. What an earlier call
    left behind is removed, and the manifest is written last: where it stands, the dataset is whole. Raises `UserError`
    for anything wrong with the profile's entry or with the images.
    """
    if isinstance(config, Photographs):
        photographs = find_photographs(name, config)
        _clear(folder)
        manifest = write_photographs(name, config, photographs, folder, scale)
    elif isinstance(config, Pairs):
        _clear(folder)
        manifest = check_pairs(name, config, scale)
    else:
        raise UserError(
            f"datasets.{name}: the archive {config.row!r} must be fetched first; "
            "a dataset of kind `photographs` or `pairs` needs no download"
        )
    manifest.write(folder / MANIFEST)
    return folder / MANIFEST


def _clear(folder: Path) -> None:
    """Remove what an earlier call wrote, the manifest first, so that it never stands beside other images."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for split in get_args(SplitName):
        if (folder / split).exists():
            shutil.rmtree(folder / split)
    for torn in folder.glob(f".{MANIFEST}.*"):
        torn.unlink()

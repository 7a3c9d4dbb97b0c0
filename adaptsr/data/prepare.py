"""Bringing a dataset of a profile into the form that training and scoring read: images and a manifest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import torch

from adaptsr import files
from adaptsr.config.schema import DatasetConfig, Pairs, Photographs
from adaptsr.data.kinds.archive import is_prepared, write_archive
from adaptsr.data.kinds.pairs import check_pairs
from adaptsr.data.kinds.sample_images import find_photographs, write_photographs
from adaptsr.data.manifest import SplitName

MANIFEST = "manifest.json"


def prepare(name: str, config: DatasetConfig, folder: Path, scale: int) -> Path:
    """Prepare dataset `name` in `folder` and return the path of its manifest.

    Photographs are cut and degraded to `folder/<split>/{lr,hr}/*.png`, replacing what an earlier call left there; pairs
    stay where they are; archives are fetched and unpacked, unless that is done already. An old manifest is removed first
    and the new one written last: where it stands, the dataset is whole. Raises `UserError` for anything wrong with the
    profile's entry, a download or the images. The images do not depend on the number of threads that it is called with,
    since profiles share them.
    """
    torch.set_num_threads(1)
    with files.locked(folder):
        return _prepare(name, config, folder, scale)


def _prepare(name: str, config: DatasetConfig, folder: Path, scale: int) -> Path:
    if isinstance(config, Photographs):
        photographs = find_photographs(name, config)
        _remove_manifest(folder)
        _remove_images(folder)
        manifest = write_photographs(name, config, photographs, folder, scale)
    elif isinstance(config, Pairs):
        _remove_manifest(folder)
        manifest = check_pairs(name, config, scale)
    elif is_prepared(name, config, folder / MANIFEST, scale):
        return folder / MANIFEST
    else:
        _remove_manifest(folder)
        manifest = write_archive(name, config, folder, scale)
    manifest.write(folder / MANIFEST)
    return folder / MANIFEST


def _remove_manifest(folder: Path) -> None:
    """Done first, so that a manifest never stands beside images of another call."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for torn in folder.glob(f".{MANIFEST}.*"):
        torn.unlink()


def _remove_images(folder: Path) -> None:
    """Never called for pairs: the user's own images may lie below `folder`."""
    for split in get_args(SplitName):
        if (folder / split).exists():
            shutil.rmtree(folder / split)

"""Prepare a dataset of a profile for training and scoring: images and a manifest."""

from __future__ import annotations

from pathlib import Path

import torch

from adaptsr import files
from adaptsr.config.schema import DatasetConfig
from adaptsr.data.kinds import kind_of
from adaptsr.data.manifest import MANIFEST


def prepare(name: str, config: DatasetConfig, folder: Path, scale: int) -> Path:
    """Prepare dataset `name` in `folder` as its kind says, and return the path of its manifest.

    Removes the old manifest before any image changes and writes the new one last: a dataset with a manifest is complete.
    Works with one thread, since profiles with different numbers of threads share the images. Raises `UserError` for any
    mistake in the profile's entry, a download or the images.
    """
    torch.set_num_threads(1)
    path = folder / MANIFEST
    with files.locked(folder):
        manifest = kind_of(config).prepare(name, config, folder, scale)
        if not path.exists():
            manifest.write(path)
    return path

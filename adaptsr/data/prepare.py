"""Bring a dataset of a profile into the form that training and scoring read: images and a manifest."""

from __future__ import annotations

from pathlib import Path

import torch

from adaptsr import files
from adaptsr.config.schema import DatasetConfig
from adaptsr.data.kinds import kind_of
from adaptsr.data.manifest import MANIFEST


def prepare(name: str, config: DatasetConfig, folder: Path, scale: int) -> Path:
    """Prepare dataset `name` in `folder` as its kind says, and return the path of its manifest.

    The old manifest is removed before any image changes and the new one written last: where it stands, the dataset is
    whole. Raises `UserError` for anything wrong with the profile's entry, a download or the images. The images do not
    depend on the number of threads that this is called with, since profiles share them.
    """
    torch.set_num_threads(1)
    path = folder / MANIFEST
    with files.locked(folder):
        manifest = kind_of(config).prepare(name, config, folder, scale)
        if not path.exists():
            manifest.write(path)
    return path

"""Prepare a dataset of a profile for training and scoring: images and a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from adaptsr import files
from adaptsr.config.schema import Data, DatasetConfig, Source, Split
from adaptsr.data.kinds import kind_of
from adaptsr.data.manifest import MANIFEST, Item, manifest_path, read_manifest
from adaptsr.data.store import load_split, open_split
from adaptsr.errors import UserError, first_names


def prepare(name: str, config: DatasetConfig, folder: Path, scale: int) -> Path:
    """Prepare dataset `name` in `folder` as its kind says, and return the path of its manifest.

    Removes the old manifest before any image changes and writes the new one last: a dataset with a manifest is complete.
    Then packs the decoded images of every split (`packed`); whoever reads a split without a packed file makes it.
    Works with one thread, since profiles with different numbers of threads share the images. Raises `UserError` for any
    mistake in the profile's entry, a download or the images.
    """
    torch.set_num_threads(1)
    path = folder / MANIFEST
    with files.locked(folder):
        manifest = kind_of(config).prepare(name, config, folder, scale)
        if not path.exists():
            manifest.write(path)
        for split in (split for split, items in manifest.splits.items() if items):
            load_split(path, split)
    return path


def check_crop(manifest: Path, split: str, crop: int) -> None:
    """Raise `UserError` if HR images of a prepared split are smaller than `crop` pixels."""
    images = open_split(manifest, split)
    sizes = zip(images.names, images.hr_sizes(), strict=True)
    small = [f"{name!r} ({width}x{height})" for name, (height, width) in sizes if min(height, width) < crop]
    if small:
        raise UserError(
            f"training.crop: {crop} is larger than {len(small)} of {len(images)} HR images of dataset {images.name!r}, "
            f"split {split}: {first_names(small)}; choose a smaller crop or leave these images out"
        )


def check_apart(data: Data) -> None:
    """Raise `UserError` if an HR file of the training data is in the validation split or in a prepared test split too.

    A profile may name a training split itself for validation or testing.
    """
    sources = {(source.dataset, source.split) for source in data.train}
    trained = {item.hr_sha256: (source.dataset, item.name) for source in data.train for item in _items(source)}
    for part in (*data.followed, *data.scored):
        items = _items(part) if (part.dataset, part.split) not in sources else []
        shared = [(item.name, *trained[item.hr_sha256]) for item in items if item.hr_sha256 in trained]
        if shared:
            names = first_names([f"{name} ({dataset} {other})" for name, dataset, other in shared])
            raise UserError(
                f"data: {len(shared)} of {len(items)} images of {part.dataset}, split {part.split}, are training images too: {names}; "
                "keep a photograph in one split"
            )


def _items(part: Source | Split) -> Sequence[Item]:
    path = manifest_path(part.dataset)
    return read_manifest(path).splits.get(part.split, []) if path.exists() else []

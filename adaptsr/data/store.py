"""Open the splits of prepared datasets, and decode their LR/HR pairs into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from weakref import WeakValueDictionary

import torch
from PIL import Image

from adaptsr.data.images import FORMATS, read_image
from adaptsr.data.manifest import Item, SplitName, read_manifest
from adaptsr.data.matching import size_mismatch
from adaptsr.errors import UserError, listing
from adaptsr.files import file_sha256


@dataclass(frozen=True, eq=False)
class PairSet:
    """Decoded pairs of a split. `lr[i]` is uint8 (3, h, w) and `hr[i]` uint8 (3, scale*h, scale*w), RGB."""

    name: str
    scale: int
    names: Sequence[str]
    scenes: Sequence[str]
    lr: Sequence[torch.Tensor]
    hr: Sequence[torch.Tensor]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Split:
    """One split of a prepared dataset, whose images stay on disk until `load`."""

    name: str
    scale: int
    folder: Path
    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.items)

    def check(self) -> None:
        """Raise `UserError` for the first image that is missing or differs from the manifest's checksum."""
        for item in self.items:
            _check_file(self.folder / item.lr, item.lr_sha256)
            _check_file(self.folder / item.hr, item.hr_sha256)

    def hr_sizes(self) -> list[tuple[int, int]]:
        """Return (height, width) of each HR image from the file's header, before any EXIF orientation."""
        return [header_size(self.folder / item.hr) for item in self.items]

    def load(self, start: int = 0, stop: int | None = None) -> PairSet:
        """Decode the pairs from `start` up to `stop`. Raises the errors of `load_split` for an image."""
        items = self.items[start:stop]
        pairs = [_load_pair(self.folder, item, self.scale) for item in items]
        return PairSet(
            name=self.name,
            scale=self.scale,
            names=tuple(item.name for item in items),
            scenes=tuple(item.scene for item in items),
            lr=[lr for lr, _ in pairs],
            hr=[hr for _, hr in pairs],
        )


def open_split(manifest_path: Path, split: str) -> Split:
    """Open one split of a prepared dataset. Raises `UserError` if the split is missing or empty."""
    manifest = read_manifest(manifest_path)
    items = manifest.splits.get(cast(SplitName, split))
    if not items:
        filled = [name for name, part in manifest.splits.items() if part]
        raise UserError(f"{manifest_path}: the split {split!r} has no pairs; those with pairs: {listing(filled)}")
    return Split(manifest.dataset, manifest.scale, manifest_path.parent, items)


def load_split(manifest_path: Path, split: str) -> PairSet:
    """Decode one split of a prepared dataset.

    Raises `UserError` if the split is missing or empty, or if an image is missing, differs from the manifest's checksum
    or does not match its partner's size.
    """
    return open_split(manifest_path, split).load()


def _load_pair(folder: Path, item: Item, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    lr = _load_checked(folder / item.lr, item.lr_sha256)
    hr = _load_checked(folder / item.hr, item.hr_sha256)
    mismatch = size_mismatch(lr, hr, scale)
    if mismatch:
        raise UserError(f"{folder / item.hr}: {mismatch}")
    return lr, hr


_decoded: WeakValueDictionary[str, torch.Tensor] = WeakValueDictionary()
"""Images in use, by the checksum of their files: datasets that share HR images, like DIV2K's, keep them once."""


def _load_checked(path: Path, sha256: str) -> torch.Tensor:
    _check_file(path, sha256)
    image = _decoded.get(sha256)
    if image is None:
        image = _decoded[sha256] = read_image(path)
    return image


def _check_file(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise UserError(f"{path}: this image of the manifest is missing; prepare the dataset again")
    if file_sha256(path) != sha256:
        raise UserError(f"{path}: the content differs from the manifest's checksum; prepare the dataset again")


def header_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from an image file's header, without decoding. Raises `UserError` if it is not an image."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except Exception:  # Pillow raises almost anything on damaged files; `read_image` turns it into one line
        _, height, width = read_image(path).shape
        return height, width

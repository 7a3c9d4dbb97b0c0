"""Open the splits of prepared datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import torch

from adaptsr.data.manifest import Item, SplitName, read_manifest
from adaptsr.data.packed import Pixels, mapped
from adaptsr.errors import UserError, listing


@dataclass(frozen=True, eq=False)
class PairSet:
    """Pairs of a split. `lr[i]` is uint8 (3, h, w) and `hr[i]` uint8 (3, scale*h, scale*w), RGB.

    `hr` is empty for photographs without HR.
    """

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
    """One split of a prepared dataset: `part` of the dataset `name`."""

    name: str
    part: str
    scale: int
    folder: Path
    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.items)

    @cached_property
    def pixels(self) -> Pixels:
        """The LR and HR images, mapped into memory; raises the errors of `load_split`."""
        return mapped(self.folder, self.part, self.items, self.scale)

    def check(self) -> None:
        """Raise `UserError` for the first image that is missing or differs from the manifest's checksum."""
        _ = self.pixels

    def hr_sizes(self) -> list[tuple[int, int]]:
        """Return (height, width) of each HR image. A photograph counts as large as it is restored."""
        if not self.pixels.hr:
            return [(self.scale * image.shape[1], self.scale * image.shape[2]) for image in self.pixels.lr]
        return [(image.shape[1], image.shape[2]) for image in self.pixels.hr]

    def load(self, start: int = 0, stop: int | None = None) -> PairSet:
        """Return the pairs from `start` up to `stop`."""
        items = self.items[start:stop]
        return PairSet(
            name=self.name,
            scale=self.scale,
            names=tuple(item.name for item in items),
            scenes=tuple(item.scene for item in items),
            lr=self.pixels.lr[start:stop],
            hr=self.pixels.hr[start:stop],
        )


def open_split(manifest_path: Path, split: str) -> Split:
    """Open one split of a prepared dataset. Raises `UserError` if the split is missing or empty."""
    manifest = read_manifest(manifest_path)
    items = manifest.splits.get(cast(SplitName, split))
    if not items:
        filled = [name for name, part in manifest.splits.items() if part]
        raise UserError(f"{manifest_path}: the split {split!r} has no pairs; those with pairs: {listing(filled)}")
    return Split(manifest.dataset, split, manifest.scale, manifest_path.parent, items)


def load_split(manifest_path: Path, split: str) -> PairSet:
    """Return the pairs of one split of a prepared dataset.

    Raises `UserError` if the split is missing or empty, or if an image is missing, differs from the manifest's checksum
    or does not match its partner's size.
    """
    return open_split(manifest_path, split).load()

"""The kinds of dataset that a profile can declare. In: a declaration. Out: images and a manifest.

A kind is a module of this package, named like `kind` in the profile, with the functions of `Kind`. Importing it does
not import torch: the workflow and `adaptsr estimate` use `listing` and `estimate`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from adaptsr.config.schema import DatasetConfig
from adaptsr.data.manifest import Manifest, SplitName

ASSUMED_IMAGES = 100
ASSUMED_LR_PIXELS = 200_000


@dataclass(frozen=True)
class SplitSize:
    """Number of images in a split, and LR pixels per image, before the data is fetched; assumed values if unknown."""

    images: int = ASSUMED_IMAGES
    lr_pixels: int = ASSUMED_LR_PIXELS
    images_known: bool = False
    lr_pixels_known: bool = False


@dataclass(frozen=True)
class Description:
    """Source and licence of a dataset, as reports show them."""

    source: str
    licence: str


class Kind(Protocol):
    """The functions of a kind; `declared` is its section of the profile."""

    def prepare(self, name: str, declared: Any, folder: Path, scale: int) -> Manifest:
        """Prepare the images, in `folder` if they are made or copied, and return their manifest without writing it.

        Call `manifest.remove` before changing the first image; keep a manifest that is still valid.
        Raises `UserError` for any mistake in the declaration, a download or the images.
        """
        ...

    def describe(self, declared: Any) -> Description:
        """Return the source and licence of the images."""
        ...

    def estimate(self, declared: Any, split: SplitName, scale: int) -> SplitSize:
        """Return the size of a split, as far as it is known before the data is fetched."""
        ...

    def listing(self, declared: Any) -> Any:
        """Return plain JSON that changes if the dataset must be prepared again. Reads no image."""
        ...

    def photographs(self, declared: Any, split: SplitName) -> frozenset[str]:
        """Name those photographs of a split that are known before the data is fetched. Reads no image.

        Splits of one dataset or two that show the same photograph, in whole or cropped, share a name.
        """
        ...


def kind_of(declared: DatasetConfig) -> Kind:
    """Return the module of a dataset's kind."""
    return cast(Kind, importlib.import_module(f"{__name__}.{declared.kind}"))

"""The kinds of dataset that a profile can declare. In: a declaration. Out: images under `resources/` and a manifest.

A kind is a module of this package, named as `kind` in the profile, with the four functions of `Kind`. Importing the
modules costs no torch: the workflow and `adaptsr estimate` use `listing` and `estimate`.
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
    """Number of images of a split and LR pixels of one, before the data is there; assumed where they are unknown."""

    images: int = ASSUMED_IMAGES
    lr_pixels: int = ASSUMED_LR_PIXELS
    images_known: bool = False
    lr_pixels_known: bool = False


@dataclass(frozen=True)
class Description:
    """What a report says of a dataset: where it comes from and under which licence."""

    source: str
    licence: str


class Kind(Protocol):
    """The functions of a kind; `declared` is its section of the profile."""

    def prepare(self, name: str, declared: Any, folder: Path, scale: int) -> Manifest:
        """Make the images ready, in `folder` if they are made or copied, and return their manifest, unwritten.

        `manifest.remove` comes before the first image is touched; a manifest that is left there stays valid.
        Raises `UserError` for anything wrong with the declaration, a download or the images.
        """
        ...

    def describe(self, declared: Any) -> Description:
        """Say where the images come from."""
        ...

    def estimate(self, declared: Any, split: SplitName, scale: int) -> SplitSize:
        """Return what is known of a split before the data is there."""
        ...

    def listing(self, declared: Any) -> Any:
        """Return, as plain JSON, what changes when the dataset has to be prepared again; no image is read for it."""
        ...


def kind_of(declared: DatasetConfig) -> Kind:
    """Return the module of a dataset's kind."""
    return cast(Kind, importlib.import_module(f"{__name__}.{declared.kind}"))

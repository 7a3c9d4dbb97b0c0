"""Cut photographs into patches and degrade them, to make LR/HR pairs of a synthetic domain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from adaptsr.config.schema import SampleImages
from adaptsr.data.degradation import bicubic, degrade
from adaptsr.data.images import read_image, to_float, to_uint8, write_png
from adaptsr.data.manifest import Item, SplitName
from adaptsr.data.matching import size_text
from adaptsr.errors import UserError


@dataclass(frozen=True, eq=False)
class Patch:
    """A square of a photograph, uint8 (3, S, S), with its mean gradient magnitude in levels per pixel."""

    name: str
    pixels: torch.Tensor
    detail: float


def write_patches(
    name: str, declared: SampleImages, split: SplitName, photograph: Path, scene: str, folder: Path, scale: int
) -> Iterator[Item]:
    """Cut, degrade and write the patches of a photograph under `folder`; yield an item for each pair.

    Raises `UserError` if the photograph is smaller than a patch.
    """
    image = read_image(photograph)
    patches = most_detailed_patches(image, photograph.stem, declared.patch, declared.patches_per_scene[split])
    if not patches:
        raise UserError(
            f"datasets.{name}.patch: {photograph.name} is {size_text(image)}, smaller than a patch of {declared.patch}"
        )
    for patch in patches:
        lr, hr = (folder / split / side / f"{patch.name}.png" for side in ("lr", "hr"))
        write_png(lr, _make_lr(patch, declared, scale))
        write_png(hr, patch.pixels)
        yield Item.of(patch.name, scene, lr, hr, folder)


def most_detailed_patches(image: torch.Tensor, stem: str, side: int, count: int) -> list[Patch]:
    """Return the `count` most detailed squares of a grid over a uint8 image (3, H, W), in grid order.

    Squares do not overlap. Pixels outside whole squares are skipped. Returns fewer if the grid has fewer.
    """
    patches = list(_grid(image, stem, side))
    kept = sorted(patches, key=lambda patch: -patch.detail)[:count]
    return [patch for patch in patches if patch in kept]


def detail(pixels: torch.Tensor) -> float:
    """Return the mean gradient magnitude of a uint8 image (3, H, W), averaged over channels, in levels per pixel."""
    grey = pixels.to(torch.float64).mean(dim=0)
    down = grey[1:, :-1] - grey[:-1, :-1]
    right = grey[:-1, 1:] - grey[:-1, :-1]
    return float(torch.hypot(down, right).mean())


def _grid(image: torch.Tensor, stem: str, side: int) -> Iterator[Patch]:
    for row in range(image.shape[1] // side):
        for column in range(image.shape[2] // side):
            pixels = image[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            yield Patch(f"{stem}-{row}-{column}", pixels, detail(pixels))


def _make_lr(patch: Patch, declared: SampleImages, scale: int) -> torch.Tensor:
    hr = to_float(patch.pixels).unsqueeze(0)
    if declared.degradation == "bicubic":
        lr = bicubic(hr, scale)
    else:
        lr = degrade(hr, declared.degradation, scale, (declared.seed, "degradation", patch.name))
    return to_uint8(lr.squeeze(0))

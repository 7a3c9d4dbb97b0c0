"""Datasets cut from photographs that ship inside installed packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from adaptsr.config.schema import Photographs
from adaptsr.data.degradation import bicubic, degrade
from adaptsr.data.images import SUFFIXES, read_image, to_float, to_uint8, write_png
from adaptsr.data.manifest import Item, Manifest, SplitName
from adaptsr.data.store import size_text
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.files import file_sha256

FOLDERS = {"matplotlib": "mpl-data/sample_data", "skimage": "data", "sklearn": "datasets/images"}


@dataclass(frozen=True)
class Photograph:
    path: Path
    scene: str


@dataclass(frozen=True, eq=False)
class Patch:
    """A square of a photograph: uint8 (3, S, S), and its mean gradient magnitude in levels per pixel."""

    name: str
    pixels: torch.Tensor
    detail: float


def find_photographs(name: str, config: Photographs) -> dict[SplitName, list[Photograph]]:
    """The photographs of each split of dataset `name`, found without importing the packages that hold them.

    Raises `UserError` for a photograph that is not installed or stands twice, in one split or in two.
    """
    found: dict[SplitName, list[Photograph]] = {}
    taken: set[str] = set()
    for split, scenes in config.scenes.items():
        where = f"datasets.{name}.scenes.{split}"
        if split not in config.patches_per_scene:
            raise UserError(f"datasets.{name}.patches_per_scene: no number for the split {split!r}, which has scenes")
        found[split] = []
        for text in scenes:
            paths = [_find(source.strip(), where) for source in text.split("+")]
            for path in paths:
                if path.stem in taken:
                    raise UserError(f"{where}: {path.stem!r} stands twice in this dataset; a photograph is used once")
                taken.add(path.stem)
            found[split] += [Photograph(path, scene=paths[0].stem) for path in paths]
    return found


def write_photographs(
    name: str, config: Photographs, photographs: dict[SplitName, list[Photograph]], folder: Path, scale: int
) -> Manifest:
    """Cut, degrade and write the patches of all splits under `folder`; the manifest is returned, not written."""
    if config.patch % scale:
        raise UserError(f"datasets.{name}.patch: {config.patch} is not a multiple of the scale {scale}")
    splits = {
        split: [item for photograph in part for item in _write_patches(name, config, split, photograph, folder, scale)]
        for split, part in photographs.items()
    }
    return Manifest(
        dataset=name, scale=scale, kind="photographs", split_rule=_split_rule(config, photographs), splits=splits
    )


def most_detailed_patches(image: torch.Tensor, stem: str, side: int, count: int) -> list[Patch]:
    """The `count` most detailed squares of a grid over a uint8 image (3, H, W), in the order of the grid.

    Squares do not overlap; pixels that fill no whole square are left out. Fewer come back where the grid has fewer.
    """
    patches = list(_grid(image, stem, side))
    kept = sorted(patches, key=lambda patch: -patch.detail)[:count]
    return [patch for patch in patches if patch in kept]


def detail(pixels: torch.Tensor) -> float:
    """Mean gradient magnitude of the channels' mean, in levels per pixel, of a uint8 image (3, H, W)."""
    grey = pixels.to(torch.float64).mean(dim=0)
    down = grey[1:, :-1] - grey[:-1, :-1]
    right = grey[:-1, 1:] - grey[:-1, :-1]
    return float(torch.hypot(down, right).mean())


def _grid(image: torch.Tensor, stem: str, side: int) -> Iterator[Patch]:
    for row in range(image.shape[1] // side):
        for column in range(image.shape[2] // side):
            pixels = image[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            yield Patch(f"{stem}-{row}-{column}", pixels, detail(pixels))


def _find(source: str, where: str) -> Path:
    package, _, file = source.partition("/")
    if package not in FOLDERS or not file or "/" in file or "\\" in file:
        raise UserError(
            f"{where}: {source!r} is no photograph; `<package>/<file>` was expected, with one of the packages "
            f"{listing(FOLDERS)}"
        )
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{where}: {source!r} needs the package {package!r}, which is not installed")
    folder = Path(spec.submodule_search_locations[0]) / FOLDERS[package]
    if not (folder / file).is_file():
        known = sorted(path.name for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
        raise UserError(
            f"{where}: the package {package!r} ships no {file!r}{suggestion(file, known)}; it ships {listing(known)}"
        )
    return folder / file


def _write_patches(
    name: str, config: Photographs, split: SplitName, photograph: Photograph, folder: Path, scale: int
) -> Iterator[Item]:
    image = read_image(photograph.path)
    patches = most_detailed_patches(image, photograph.path.stem, config.patch, config.patches_per_scene[split])
    if not patches:
        raise UserError(
            f"datasets.{name}.patch: {photograph.path.name} is {size_text(image)}, too small for a patch of {config.patch}"
        )
    for patch in patches:
        lr, hr = f"{split}/lr/{patch.name}.png", f"{split}/hr/{patch.name}.png"
        write_png(folder / lr, _make_lr(patch, config, scale))
        write_png(folder / hr, patch.pixels)
        yield Item(
            name=patch.name,
            scene=photograph.scene,
            lr=lr,
            hr=hr,
            lr_sha256=file_sha256(folder / lr),
            hr_sha256=file_sha256(folder / hr),
        )


def _make_lr(patch: Patch, config: Photographs, scale: int) -> torch.Tensor:
    hr = to_float(patch.pixels).unsqueeze(0)
    if config.degradation == "bicubic":
        lr = bicubic(hr, scale)
    else:
        lr = degrade(hr, config.degradation, scale, (config.seed, "degradation", patch.name))
    return to_uint8(lr.squeeze(0))


def _split_rule(config: Photographs, photographs: dict[SplitName, list[Photograph]]) -> str:
    parts = [
        f"{split} (at most {config.patches_per_scene[split]} of each photograph): "
        f"{', '.join(dict.fromkeys(photograph.scene for photograph in part)) or 'none'}"
        for split, part in photographs.items()
    ]
    return (
        f"Photographs are split by scene, and of each the most detailed patches of {config.patch}x{config.patch} pixels "
        f"of a grid are kept; {'; '.join(parts)}."
    )

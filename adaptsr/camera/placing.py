"""Put pairs, or photographs with LR made from them, into the folders of their splits, as the workflow reads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adaptsr import files
from adaptsr.camera.measures import FARTHEST
from adaptsr.camera.registration import register
from adaptsr.camera.splitting import split_scenes
from adaptsr.config.schema import Degradation
from adaptsr.data.degradation import bicubic, degrade
from adaptsr.data.images import read_image, to_float, to_uint8, write_png
from adaptsr.data.manifest import SplitName
from adaptsr.data.matching import Image, Side, list_images, match, size_mismatch
from adaptsr.data.patches import detail
from adaptsr.data.scenes import Sight, scene_mismatch, scenes_of
from adaptsr.errors import UserError, first_names, raise_all
from adaptsr.files import link_or_copy
from adaptsr.progress import Progress

LARGEST: Mapping[SplitName, int] = {"validation": 256, "test": 1024}
"""HR pixels: of images larger than this square, these splits take the square with the most detail. Restoring 12 megapixels
again and again would take the time of training."""

REGISTERED = 16
"""Pairs that are registered before adapting; `adaptsr pairs check` registers all."""


@dataclass(frozen=True)
class Placed:
    """What was placed. smallest: the smallest side of an LR image. train: bytes of the training images, decoded.

    validation, test: LR pixels of these splits.
    """

    splits: Mapping[SplitName, list[str]]
    smallest: int
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Source:
    """Where the images of a name come from; LR is made from HR if there is none."""

    hr: Image
    lr: Image | None = None


def place_pairs(folder: Path, into: Path, scale: int, progress: Progress) -> Placed:
    """Split the pairs of `folder` (lr/, hr/) by scene and place them below `into`; raises `UserError` for all bad ones."""
    problems: list[str] = []
    matched = match(Side("LR", folder / "lr"), Side("HR", folder / "hr"), problems)
    sources = {name: Source(hr, lr) for name, (lr, hr) in matched.items()}
    placed = _place(str(folder), sources, into, scale, None, problems, progress)
    _say_misaligned(folder, list(sources.values()), scale, progress)
    return placed


def place_photographs(folder: Path, into: Path, scale: int, degradation: Degradation, progress: Progress) -> Placed:
    """Split the photographs of `folder` by scene and place them below `into`, with LR made from them.

    Validation and test LR are degraded once; training degrades its crops as it draws them, so its LR is only reduced.
    """
    problems: list[str] = []
    sources = {name: Source(image) for name, image in list_images(Side("HR", folder), problems).items()}
    return _place(str(folder), sources, into, scale, degradation, problems, progress)


def _place(
    where: str,
    sources: Mapping[str, Source],
    into: Path,
    scale: int,
    degradation: Degradation | None,
    problems: list[str],
    progress: Progress,
) -> Placed:
    sights, pixels, smallest = {}, {}, 10**9
    for name, source in sources.items():
        try:
            hr = read_image(source.hr.path)
            lr_size = tuple(side // scale for side in hr.shape[1:])
            if source.lr:
                lr = read_image(source.lr.path)
                if mismatch := size_mismatch(lr, hr, scale):
                    problems.append(f"{source.hr}: {mismatch.replace('the profile', 'the model')}")
                elif mismatch := scene_mismatch(lr, hr):
                    problems.append(f"{source.hr}: {mismatch}")
                lr_size = tuple(lr.shape[1:])
        except UserError as error:
            problems.append(str(error))
            continue
        sights[name] = Sight.of(hr)
        pixels[name] = lr_size[0] * lr_size[1]
        smallest = min(smallest, *lr_size)
    raise_all(where, problems)
    splits = split_scenes(sights, where)
    told = ", ".join(f"{len(names)} for {split}" for split, names in splits.items())
    what = "photographs" if degradation else "pairs"
    progress(f"{len(sights)} {what} of {len(scenes_of(sights))} scenes: {told}")
    restored: dict[SplitName, int] = {}
    for split, names in splits.items():
        with files.refusal_explained(into / split):
            shutil.rmtree(into / split, ignore_errors=True)
            for side in ("lr", "hr"):
                (into / split / side).mkdir(parents=True)
            used = [
                _place_one(sources[name], name, into / split, scale, degradation, LARGEST.get(split)) for name in names
            ]
        restored[split] = sum(used)
    train = 3 * (1 + scale**2) * sum(pixels[name] for name in splits["train"])
    return Placed(splits, smallest, train, restored["validation"], restored["test"])


def _say_misaligned(folder: Path, sources: Sequence[Source], scale: int, progress: Progress) -> None:
    """Register a few pairs and warn of those that are off: a model learns to shift what it restores."""
    some = sources[:: -(-len(sources) // REGISTERED)]
    off = []
    for source in some:
        assert source.lr
        place = register(read_image(source.lr.path), read_image(source.hr.path), scale)
        if place is None or place.farthest > FARTHEST:
            off.append(source.hr.path.name)
    if off:
        progress(
            f"{folder}: {len(off)} of {len(some)} pairs that were looked at are off by more than {FARTHEST:g} LR pixels "
            f"({first_names(off)}); `adaptsr pairs align` lays them on one another and drops what does not fit"
        )


def _place_one(
    source: Source, name: str, folder: Path, scale: int, degradation: Degradation | None, largest: int | None
) -> int:
    """Place one image and return its LR pixels. A pair that is used whole is linked, all else is written.

    largest: the side of the square of HR that is used of a larger image; None for training, which uses all of it.
    """
    hr = read_image(source.hr.path)
    large = largest is not None and hr.shape[1] * hr.shape[2] > largest**2
    if source.lr and not large:
        for image, side in ((source.lr, "lr"), (source.hr, "hr")):
            name_in = folder / side / f"{name}{image.path.suffix}"
            link_or_copy(image.path.resolve(), name_in)  # its times tell the workflow that nothing changed
        return hr.shape[1] * hr.shape[2] // scale**2
    top, left, height, width = (
        _window(hr, scale, largest) if largest and large else (0, 0, *(side // scale for side in hr.shape[1:]))
    )
    hr = hr[:, top * scale : (top + height) * scale, left * scale : (left + width) * scale].contiguous()
    if source.lr:
        lr = read_image(source.lr.path)[:, top : top + height, left : left + width].contiguous()
    else:
        made: Callable[[torch.Tensor], torch.Tensor] = lambda light: bicubic(light, scale)  # noqa: E731
        if degradation and largest:
            made = lambda light: degrade(light, degradation, scale, ("adapt", name))  # noqa: E731
        lr = to_uint8(made(to_float(hr)[None])[0])
    write_png(folder / "lr" / f"{name}.png", lr)
    write_png(folder / "hr" / f"{name}.png", hr)
    return height * width


def _window(hr: torch.Tensor, scale: int, largest: int) -> tuple[int, int, int, int]:
    """Return the square of a grid with the most detail: top, left, height and width in LR pixels."""
    side = largest // scale
    rows, columns = (max(1, length // scale // side) for length in hr.shape[1:])
    height, width = (min(side, length // scale) for length in hr.shape[1:])

    def detail_of(place: tuple[int, int]) -> float:
        top, left = (scale * start for start in place)
        return detail(hr[:, top : top + scale * height, left : left + scale * width])

    top, left = max(((row * height, column * width) for row in range(rows) for column in range(columns)), key=detail_of)
    return top, left, height, width

"""Draw training batches as a pure function of (seed, purpose, iteration)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from adaptsr.config.schema import Degradation
from adaptsr.data import degradation
from adaptsr.data.degradation import Drawn
from adaptsr.data.images import to_float
from adaptsr.data.matching import size_text
from adaptsr.data.store import PairSet
from adaptsr.errors import UserError
from adaptsr.randomness import Key, numpy_generator

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(frozen=True, eq=False)
class WeightedSource:
    """A part of the training data.

    With `degradation`, LR is made from HR crops instead of using the pairs' own LR. `places`: the pairs that crops come
    from; default: all.
    """

    pairs: PairSet
    weight: float = 1.0
    degradation: Degradation | None = None
    places: Sequence[int] | None = None

    def limited(self, images: int, seed: int, index: int) -> WeightedSource:
        """Return the source with so many of its images, drawn with the seed: a larger number adds to a smaller one's.

        index: its place among the sources. Raises `UserError` if it has fewer images.
        """
        if images > len(self.pairs):
            raise UserError(
                f"training.images: {images}, but the training split of dataset {self.pairs.name!r} has {len(self.pairs)}"
            )
        order = numpy_generator(seed, "images", index).permutation(len(self.pairs))
        return dataclasses.replace(self, places=order[:images].tolist())


@dataclass(frozen=True)
class _Draw:
    """One crop: fractions in [0, 1) that select image and position, and one of eight orientations."""

    source: int
    image: float
    top: float
    left: float
    flip_rows: bool
    flip_columns: bool
    transpose: bool


class Cut(NamedTuple):
    """The part of a batch that the CPU makes.

    lr, hr: uint8 crops. degraded: the places in the batch whose LR is made from HR, with what was drawn for them.
    """

    lr: torch.Tensor
    hr: torch.Tensor
    degraded: list[tuple[list[int], Drawn]]


def sample_batch(
    sources: Sequence[WeightedSource],
    seed: int,
    iteration: int,
    batch_size: int,
    crop: int,
    scale: int,
    purpose: str = "train",
    device: torch.device | str = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return LR (B, 3, crop/scale, crop/scale) and HR (B, 3, crop, crop), float32 in [0, 1], on `device`.

    For each crop, draws a source in proportion to its weight, an image uniformly from the source, an aligned position,
    and one of the eight flips and rotations by 90 degrees. The result depends on the arguments alone: `purpose`
    "calibration" gives another stream than "train", and a crop does not depend on `batch_size` unless a degradation is
    made on the fly. Raises `UserError` if an image is smaller than the crop or the crop is not a multiple of the scale.
    """
    return finish(cut_batch(sources, seed, iteration, batch_size, crop, scale, purpose), scale, device)


def cut_batch(
    sources: Sequence[WeightedSource],
    seed: int,
    iteration: int,
    batch_size: int,
    crop: int,
    scale: int,
    purpose: str,
) -> Cut:
    """Cut the crops of a batch and draw its degradations; `finish` makes the batch. Raises the errors of `sample_batch`."""
    _check(sources, crop, scale)
    draws = _draw(sources, seed, iteration, batch_size, purpose)
    pairs = [_cut(sources[draw.source], draw, crop, scale) for draw in draws]
    lr, hr = (torch.from_numpy(np.stack(windows)) for windows in zip(*pairs, strict=True))
    degraded = []
    for index, source in enumerate(sources):
        chosen = [place for place, draw in enumerate(draws) if draw.source == index]
        if source.degradation and chosen:
            key: tuple[Key, ...] = (seed, purpose, iteration, "degradation", index)
            degraded.append((chosen, degradation.draw(source.degradation, len(chosen), key)))
    return Cut(lr, hr, degraded)


def finish(cut: Cut, scale: int, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return LR and HR of a batch as `sample_batch` does, degraded on `device`."""
    lr, hr = (to_float(side.to(device, non_blocking=True)) for side in (cut.lr, cut.hr))
    for chosen, drawn in cut.degraded:
        lr[chosen] = degradation.apply(hr[chosen], drawn, scale)
    return lr, hr


def _check(sources: Sequence[WeightedSource], crop: int, scale: int) -> None:
    if crop % scale:
        raise UserError(f"training.crop: {crop} is not a multiple of the scale {scale}")
    for source in sources:
        if source.pairs.scale != scale:
            raise UserError(
                f"dataset {source.pairs.name!r}: its scale is {source.pairs.scale}, but the profile has {scale}"
            )
        if not len(source.pairs):
            raise UserError(f"dataset {source.pairs.name!r}: no pairs to train on")


def _draw(sources: Sequence[WeightedSource], seed: int, iteration: int, batch_size: int, purpose: str) -> list[_Draw]:
    bounds = np.cumsum([source.weight for source in sources])
    values = numpy_generator(seed, purpose, iteration).random((batch_size, 7))
    chosen = np.searchsorted(bounds, values[:, 0] * bounds[-1], side="right")
    return [
        _Draw(source, image, top, left, rows < 0.5, columns < 0.5, transpose < 0.5)
        for source, (_, image, top, left, rows, columns, transpose) in zip(
            chosen.tolist(), values.tolist(), strict=True
        )
    ]


def _cut(source: WeightedSource, draw: _Draw, crop: int, scale: int) -> tuple[Array, Array]:
    pairs = source.pairs
    places = source.places or range(len(pairs))
    index = places[int(draw.image * len(places))]
    lr, hr = pairs.lr[index], pairs.hr[index]
    side = crop // scale
    rows, columns = lr.shape[1] - side, lr.shape[2] - side
    if rows < 0 or columns < 0:
        raise UserError(
            f"dataset {pairs.name!r}: image {pairs.names[index]!r} is {size_text(hr)}, smaller than training.crop {crop}; "
            "choose a smaller crop or larger images"
        )
    top, left = int(draw.top * (rows + 1)), int(draw.left * (columns + 1))
    return (
        _orient(_window(lr, top, left, side), draw),
        _orient(_window(hr, top * scale, left * scale, crop), draw),
    )


def _window(image: torch.Tensor, top: int, left: int, side: int) -> Array:
    # This runs for every crop of every iteration, and numpy's views are much cheaper than torch's.
    window: Array = image.numpy()[:, top : top + side, left : left + side]
    return window


def _orient(window: Array, draw: _Draw) -> Array:
    if draw.flip_rows:
        window = window[:, ::-1]
    if draw.flip_columns:
        window = window[:, :, ::-1]
    return window.transpose(0, 2, 1) if draw.transpose else window

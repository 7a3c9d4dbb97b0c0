"""Restore an image in tiles that give what the whole image gives, and as large as memory allows."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adaptsr.backbones.gate import facts
from adaptsr.backbones.inference import enlarge
from adaptsr.randomness import generator

Pixels = NDArray[Any]
"""An image of shape (H, W, channels)."""

EXACT = 0.1
"""Levels of 255: tiles that differ less than this from the whole image are exact. Rounding then moves a pixel by at most one
level, also where a photograph is ten times as hard as the picture that is measured with."""
OVERLAPS = (16, 32, 48, 64, 96, 128)
LARGEST_CORE = 512
"""LR pixels: larger cores save little, because their overlap is a small part already."""
LARGEST_FORESEEN = 1024**2
"""LR pixels: for up to so many, small pictures tell what memory an image takes."""
SHARE = 0.4
"""Of the free memory, for tensors; operators need workspaces beside them, which are not counted."""
_ALIGNED = 16
"""Tiles start at multiples of this: some models divide an image into windows without stating it."""
_CORE = 32
_COPIES = 3
"""Of the restored tile, that whoever asks for it makes."""
_HOPELESS = 64
"""From this overlap on, tiles that differ by more than a level will always do: the model looks at the whole image."""


@dataclass(frozen=True)
class Memory:
    """What memory a backbone takes, measured: `held` bytes for `pixels` LR pixels; they grow with the power `growth`."""

    pixels: int
    held: int
    growth: float

    def fitting(self, free: int) -> int:
        """Return how many LR pixels can be restored as one tile with `free` bytes."""
        return int(self.pixels * (SHARE * free / self.held) ** (1 / self.growth))

    def takes_whole(self, height: int, width: int, free: int) -> bool:
        """Whether an image is so small that it is one tile, however far the backbone looks."""
        return height * width <= min(self.fitting(free), LARGEST_FORESEEN)


@dataclass(frozen=True)
class Reach:
    """How far a backbone looks, measured on a synthetic picture.

    overlap: LR pixels that a tile needs on each side, a multiple of `aligned`. difference: of such a tile from the whole
    picture, in levels of 255.
    """

    aligned: int
    overlap: int
    difference: float
    memory: Memory

    @property
    def exact(self) -> bool:
        """Whether tiles give what the whole image gives."""
        return self.difference <= EXACT

    def core(self, height: int, width: int, free: int) -> int | None:
        """Return the side of the tiles' cores in LR pixels for an image, with `free` bytes of memory; None for one tile.

        A model that looks at the whole image gets one tile if memory allows.
        """
        fitting = self.memory.fitting(free)
        side = math.isqrt(fitting)
        if self.exact:
            side = min(side, LARGEST_CORE + 2 * self.overlap)
        if height * width <= (side**2 if self.exact else fitting):
            return None
        return max(1, (side - 2 * self.overlap) // self.aligned) * self.aligned


def measure_memory(model: nn.Module) -> Memory:
    """Measure on two small pictures, which takes a moment; `measure_reach` takes several and larger ones."""
    aligned, (overlap, *_) = _alignment(model)
    picture = _picture(_core(model, overlap, aligned), overlap)
    end = (picture.shape[-1] - overlap) // aligned * aligned
    return _memory(*(_watched(model, part)[1] for part in (picture[..., :end, :end], picture)))


def measure_reach(model: nn.Module) -> Reach:
    """Measure with the smallest overlap at which tiles are exact, or with a large one if there is none."""
    aligned, overlaps = _alignment(model)
    for overlap in overlaps:
        difference, uses = _compare(model, _picture(_core(model, overlap, aligned), overlap), overlap, aligned)
        reach = Reach(aligned, overlap, difference, _memory(*uses))
        if reach.exact or (overlap >= _HOPELESS and difference > 1):
            break
    return reach


def difference_on(model: nn.Module, picture: torch.Tensor, reach: Reach) -> float:
    """Return by how many levels of 255 a tile differs from its surroundings restored with it, in a picture (1, 3, H, W)."""
    side = _raised(_CORE, reach.aligned) + 3 * reach.overlap
    height, width = picture.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    part = picture[..., top : top + side, left : left + side]
    return _compare(model, part, reach.overlap, reach.aligned)[0] if min(part.shape[-2:]) == side else reach.difference


def restored_bands(
    restore_tile: Callable[[Pixels], Pixels], image: Pixels, reach: Reach, core: int, minimum: int
) -> Iterator[Pixels]:
    """Yield the restored image from top to bottom, as wide as it is.

    core: the side of a tile without its overlap, in LR pixels. minimum: no tile is smaller unless the image is.
    """
    rows, columns = (_spans(side, core, reach, minimum) for side in image.shape[:2])
    for row in rows:
        parts = []
        for column in columns:
            tile = restore_tile(image[row.start : row.stop, column.start : column.stop])
            scale = tile.shape[0] // (row.stop - row.start)
            down, across = row.inside(scale), column.inside(scale)
            parts.append(tile[down, across])
        yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class _Span(NamedTuple):
    """A tile along one side: LR pixels start to stop are restored, those from first to last are kept."""

    start: int
    stop: int
    first: int
    last: int

    def inside(self, scale: int) -> slice:
        return slice((self.first - self.start) * scale, (self.last - self.start) * scale)


def _spans(side: int, core: int, reach: Reach, minimum: int) -> list[_Span]:
    """Divide a side. Tiles start at multiples of `aligned` and the last one reaches the end, where the model pads it alike."""
    spans = []
    for first in range(0, side, core):
        last = min(first + core, side)
        start = max(0, min(first - reach.overlap, side - max(core, minimum))) // reach.aligned * reach.aligned
        spans.append(_Span(start, side if last == side else min(side, last + reach.overlap), first, last))
    return spans


def _alignment(model: nn.Module) -> tuple[int, list[int]]:
    """Return what tiles start at multiples of, and the overlaps to try."""
    aligned = math.lcm(facts(model).sizes.multiple_of, _ALIGNED)
    return aligned, list(dict.fromkeys(_raised(overlap, aligned) for overlap in OVERLAPS))


def _core(model: nn.Module, overlap: int, aligned: int) -> int:
    return _raised(max(_CORE, facts(model).sizes.minimum - 2 * overlap), aligned)


def _memory(small: _Use, large: _Use) -> Memory:
    growth = math.log(large.held / small.held) / math.log(large.pixels / small.pixels)
    return Memory(large.pixels, large.held, min(max(growth, 1.0), 2.0))


def _raised(number: int, step: int) -> int:
    return -(-number // step) * step


def _picture(core: int, overlap: int) -> torch.Tensor:
    """Draw a picture with the spectrum of photographs and sharp edges, (1, 3, side, side).

    Its edges are a paler negative of the rest: models that average over the image must notice when a tile lacks one. Its
    side is no multiple of anything, so that models that pad it do so.
    """
    side = core + 3 * overlap - 3
    draw = generator("tiles", side)
    fields, size = torch.zeros(1, 3, side, side), 2
    while size <= 2 * side:
        drawn = torch.rand(1, 3, size, size, generator=draw) - 0.5
        fields += functional.interpolate(drawn, size=(side, side), mode="bicubic") * 1.2 / math.sqrt(size)
        size *= 2
    shapes = functional.interpolate(
        torch.rand(1, 1, side // 8, side // 8, generator=draw), (side, side), mode="bicubic"
    )
    picture = torch.where(shapes > 0.6, 0.5 - fields, 0.5 + fields).clamp(0, 1)
    inside = slice(overlap, side - overlap)
    surrounded = 1 - picture / 2
    surrounded[..., inside, inside] = picture[..., inside, inside]
    return surrounded


class _Use(NamedTuple):
    """How many LR pixels were restored, and the bytes it took."""

    pixels: int
    held: int


def _compare(model: nn.Module, picture: torch.Tensor, overlap: int, aligned: int) -> tuple[float, tuple[_Use, _Use]]:
    """Restore a square picture, and tiles at its first and last corner; return their difference and what memory it took.

    A tile counts without the overlap at its cut edges, but with the edges of the picture: some models see the opposite
    edge there, which a tile lacks.
    """
    side, scale = picture.shape[-1], facts(model).scale
    end = (side - overlap) // aligned * aligned
    whole, large = _watched(model, picture)
    first, small = _watched(model, picture[..., :end, :end])
    last, _ = _watched(model, picture[..., overlap:, overlap:])
    kept, cut = (end - overlap) * scale, overlap * scale
    differences = (
        first[..., :kept, :kept] - whole[..., :kept, :kept],
        last[..., cut:, cut:] - whole[..., 2 * cut :, 2 * cut :],
    )
    return 255 * max(float(difference.abs().max()) for difference in differences), (small, large)


def _watched(model: nn.Module, picture: torch.Tensor) -> tuple[torch.Tensor, _Use]:
    with CountingBytes() as counting:
        restored = enlarge(model, picture)
    return restored, _Use(picture.shape[-1] ** 2, counting.most + _COPIES * restored.nbytes)


class CountingBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that live at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor) and id(storage := result.untyped_storage()) not in self._alive:
                self._alive.add(id(storage))
                self._now += storage.nbytes()
                weakref.finalize(storage, self._forget, id(storage), storage.nbytes())
        self.most = max(self.most, self._now)
        return results

    def _forget(self, storage: int, size: int) -> None:
        self._alive.discard(storage)
        self._now -= size

"""Tiles give what the whole image gives where a model allows it, and what a model needs is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from adaptsr.backbones.build import build_from_file
from adaptsr.backbones.gate import facts, gate
from adaptsr.backbones.inference import restore
from adaptsr.backbones.sizes import Sizes
from adaptsr.backbones.tiles import (
    LARGEST_CORE,
    SHARE,
    Memory,
    Pixels,
    Reach,
    difference_on,
    measure_memory,
    measure_reach,
    restored_bands,
)


class Toned(nn.Module):
    """Repeats every pixel twice in both directions and adds a share of the image's mean, or of nothing."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        toned = x + self.share * x.mean(dim=(2, 3), keepdim=True)
        return toned.repeat_interleave(2, -1).repeat_interleave(2, -2)


class Rolled(Toned):
    """Mixes the picture's opposite edges, as attention in windows that are rolled without a mask does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward((x + x.roll((4, 4), (2, 3))) / 2)


def toned(share: float) -> nn.Module:
    return gate(Toned(share), "toned", Sizes(), 2)


def scene(height: int, width: int) -> torch.Tensor:
    """Lines of one pixel, areas of black and white, and noise: what a model finds hardest."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    stripes = ((rows + 2 * columns) // 3 % 2 * 255).to(torch.uint8)
    noise = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    blocks = (rows // 24 + columns // 40) % 3
    return torch.where(blocks == 0, stripes, torch.where(blocks == 1, noise, noise // 8 + 200))


def restore_in_tiles(model: nn.Module, lr: torch.Tensor, reach: Reach, core: int) -> tuple[torch.Tensor, int]:
    """The restored image, and the number of its tiles."""
    count = 0

    def restore_tile(tile: Pixels) -> Pixels:
        nonlocal count
        count += 1
        return restore(model, torch.from_numpy(tile).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()

    bands = restored_bands(restore_tile, lr.permute(1, 2, 0).numpy(), reach, core, facts(model).sizes.minimum)
    return torch.from_numpy(np.concatenate(list(bands))).permute(2, 0, 1), count


@pytest.mark.parametrize("size", [(151, 98), (65, 130)])
@pytest.mark.parametrize("name", ["edsr", "safmn", "swinir", "drct"])
def test_tiles_are_the_whole_image(repository: Path, name: str, size: tuple[int, int]) -> None:
    """On each backbone of the demo, at sizes that are no multiple of anything."""
    model = build_from_file(repository / f"resources/demo/{name}.safetensors")
    reach = measure_reach(model)
    assert reach.exact
    lr = scene(*size)
    tiled, count = restore_in_tiles(model, lr, reach, core=32)
    whole = restore(model, lr[None])[0]
    assert count >= 10
    assert int((tiled.int() - whole.int()).abs().max()) <= 1


def test_tiles_tell_a_difference_without_overlap(repository: Path) -> None:
    """The comparison above would notice tiles that are cut too closely."""
    model = build_from_file(repository / "resources/demo/edsr.safetensors")
    lr = scene(64, 96)
    tiled, _ = restore_in_tiles(model, lr, Reach(16, 0, 0.0, Memory(1, 1, 1.0)), core=32)
    assert int((tiled.int() - restore(model, lr[None])[0].int()).abs().max()) > 1


class TestAModelThatLooksAtTheWholeImage:
    def test_is_noticed(self) -> None:
        assert measure_reach(toned(0.0)).exact
        assert not measure_reach(toned(0.1)).exact
        assert not measure_reach(gate(Rolled(0.0), "rolled", Sizes(), 2)).exact

    def test_gets_one_tile_as_long_as_memory_allows(self) -> None:
        reach = measure_reach(toned(0.1))
        needed = int(reach.memory.held * 600 * 600 / reach.memory.pixels / SHARE)
        assert reach.core(600, 600, needed + 1000) is None
        core = reach.core(600, 600, needed // 2)
        assert core
        assert core + 2 * reach.overlap < 600

    def test_says_by_how_much_tiles_differ_on_a_photograph(self) -> None:
        """A flat one has one mean everywhere; a dark edge outside the tile changes the mean of the whole."""
        reach = measure_reach(toned(0.1))
        flat = torch.full((1, 3, 300, 300), 0.5)
        assert difference_on(toned(0.1), flat, reach) < 0.01
        flat[..., :60, :] = 0
        assert difference_on(toned(0.1), flat, reach) > 1


class TestMemory:
    def test_is_counted(self) -> None:
        """Two tensors of the result's size live at once in the model, and the result is copied for the caller."""
        for memory in (measure_memory(toned(0.0)), measure_reach(toned(0.0)).memory):
            result = 4 * 3 * 4 * memory.pixels
            assert 4 * result <= memory.held <= 6 * result
            assert memory.growth == pytest.approx(1, abs=0.01)

    def test_decides_alone_about_small_images(self) -> None:
        memory = Memory(10_000, 10_000 * 1000, 1)
        assert memory.takes_whole(500, 500, int(250_001 * 1000 / SHARE))
        assert not memory.takes_whole(500, 500, int(249_999 * 1000 / SHARE))
        assert not memory.takes_whole(1025, 1024, 10**15)  # what it takes is not foreseen

    @pytest.mark.parametrize("megabytes", [1, 10, 100, 1000])
    def test_bounds_the_tiles(self, megabytes: int) -> None:
        reach = Reach(aligned=16, overlap=32, difference=0, memory=Memory(10_000, 10_000 * 1000, 1))
        core = reach.core(4000, 6000, megabytes * 2**20)
        assert core
        assert core % reach.aligned == 0
        side = core + 2 * reach.overlap
        assert (
            core in (reach.aligned, LARGEST_CORE)
            or 1000 * side**2 < SHARE * megabytes * 2**20 < 1000 * (side + 16) ** 2
        )

    def test_that_grows_with_the_square_of_the_image_is_foreseen(self) -> None:
        linear, square = (Reach(16, 128, 9.0, Memory(10_000, 10**7, growth)) for growth in (1, 2))
        assert linear.core(1000, 1000, 10**10) is None
        assert square.core(1000, 1000, 10**10) is not None

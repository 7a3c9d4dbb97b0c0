"""Images are restored by a backbone, at any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spandrel
import torch
from torch import nn

from adaptsr.backbones.build import build
from adaptsr.backbones.gate import gate
from adaptsr.backbones.inference import enlarge, restore
from adaptsr.backbones.sizes import Sizes
from adaptsr.config import reading, schema
from tests.backbones.helpers import image


class Doubling(nn.Module):
    """Repeats every pixel twice in both directions and refuses sizes that are no multiples of its window."""

    def __init__(self, window_size: int, gain: float = 1.0) -> None:
        super().__init__()
        self.window_size = window_size
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-2] % self.window_size == x.shape[-1] % self.window_size == 0
        return self.gain * x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def doubling(window_size: int, gain: float = 1.0) -> nn.Module:
    return gate(Doubling(window_size, gain), "doubling", Sizes(multiple_of=window_size), 2)


class TestRestore:
    def test_levels_are_kept(self) -> None:
        """8-bit levels survive the way through [0, 1] and back, at any size; padding is cut off again."""
        lr = image(9, 14)
        restored = restore(doubling(4), lr)
        assert restored.dtype == torch.uint8
        assert torch.equal(restored, lr.repeat_interleave(2, -1).repeat_interleave(2, -2))

    def test_clipped_and_rounded(self) -> None:
        """Values outside [0, 1] are clipped, the rest rounded to the nearest level."""
        lr = torch.tensor([[[[1, 100, 200]]] * 3], dtype=torch.uint8).view(1, 3, 1, 3)
        assert restore(doubling(1, 1.6), lr)[0, 0, 0, ::2].tolist() == [2, 160, 255]
        assert restore(doubling(1, -1.0), lr).max() == 0


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (9, 23), (5, 7)])
@pytest.mark.parametrize("name", ["safmn", "swinir", "drct"])
def test_any_size_is_padded_as_spandrel_pads_it(repository: Path, name: str, size: tuple[int, int]) -> None:
    """The demo's backbones, from their options, against spandrel's own reading of their files."""
    declared = reading.load_profile(repository / "config/demo.yaml").backbones[name]
    weights = repository / str(declared.weights)
    model = build(declared.model_copy(update={"weights": str(weights)}), 4, lr_size=16)
    lr = image(*size)
    expected = (spandrel.ModelLoader().load_from_file(weights)(lr / 255) * 255).round()
    assert (restore(model, lr) - expected).abs().max() <= 1


@pytest.mark.parametrize("architecture", ["SwinIR", "DRCT"])
def test_masks_are_made_once_for_an_image_and_change_no_bit(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the class has it, every shifted block makes its own mask on the CPU, for every image."""
    options = {"upscale": 4, "img_size": 16, "window_size": 8, "embed_dim": 12, "mlp_ratio": 2, "depths": [6, 6]}
    options |= {"num_heads": [2, 2], "upsampler": "pixelshuffle"} | ({"gc": 4} if architecture == "DRCT" else {})
    model = build(schema.Backbone(architecture=architecture, options=options), 4)
    blocks = [module for module in model.modules() if hasattr(module, "calculate_mask")]
    made: list[tuple[int, int]] = []
    plain = type(blocks[0]).calculate_mask

    def counted(self: Any, x_size: tuple[int, int]) -> torch.Tensor:
        made.append(x_size)
        return plain(self, x_size)  # type: ignore[no-any-return]

    monkeypatch.setattr(type(blocks[0]), "calculate_mask", counted)
    images = [torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) for size in ((32, 48), (48, 32))]
    shared = [enlarge(model, lr) for lr in images for _ in range(2)]
    assert sorted(set(made)) == [(32, 48), (48, 32)]
    assert len(made) == 4, "one for shifted windows and one for the others, of each size"
    for block in blocks:
        del block.calculate_mask
    for lr, (first, second) in zip(images, (shared[:2], shared[2:]), strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, enlarge(model, lr))


def test_a_model_that_changes_its_input_does_not_change_the_image() -> None:
    class InPlace(Doubling):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x *= 0.5
            return super().forward(x)

    light = torch.rand(1, 3, 8, 8)
    before = light.clone()
    enlarge(gate(InPlace(1), "in place", Sizes(), 2), light)
    assert torch.equal(light, before)

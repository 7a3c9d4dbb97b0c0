"""Images are restored by a backbone, at any size."""

from __future__ import annotations

from pathlib import Path

import pytest
import spandrel
import torch
from torch import nn

from adaptsr.backbones.build import build
from adaptsr.backbones.gate import gate
from adaptsr.backbones.inference import enlarge, restore
from adaptsr.backbones.sizes import Sizes
from adaptsr.config import reading
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


def test_a_model_that_changes_its_input_does_not_change_the_image() -> None:
    class InPlace(Doubling):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x *= 0.5
            return super().forward(x)

    light = torch.rand(1, 3, 8, 8)
    before = light.clone()
    enlarge(gate(InPlace(1), "in place", Sizes(), 2), light)
    assert torch.equal(light, before)

"""What restoring an image costs is what the layers say it costs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from adaptsr.backbones.costs import as_text, measure_costs
from adaptsr.backbones.gate import gate
from adaptsr.backbones.sizes import Sizes
from tests.backbones.helpers import TINY, tiny


def test_costs_of_convolutions_are_those_on_paper() -> None:
    """Every convolution of EDSR but its last upsampling ones sees the LR size."""
    height, width, channels = 10, 14, int(TINY["edsr"].options["num_feat"])
    model = tiny("edsr")
    costs = measure_costs(model, height, width, 2)
    pixels = height * width
    sizes = [pixels if "upsample.2" not in name else 4 * pixels for name, _ in _convolutions(model)]
    sizes[-1] = 16 * pixels
    pairs = list(zip(sizes, (layer for _, layer in _convolutions(model)), strict=True))
    assert costs.flops == sum(2 * 9 * size * layer.in_channels * layer.out_channels for size, layer in pairs)
    assert costs.activations == sum(size * layer.out_channels for size, layer in pairs)
    assert costs.parameters == sum(9 * c.in_channels * c.out_channels + c.out_channels for _, c in _convolutions(model))
    largest = 4 * 16 * pixels * channels
    assert largest < costs.memory_bytes - 4 * costs.parameters < 4 * largest
    assert "restores    14x10 LR pixels, x4" in as_text(costs, "a processor")


def _convolutions(model: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = (self.scale * x).flatten(2).transpose(1, 2)
        return functional.scaled_dot_product_attention(flat, flat, flat).transpose(1, 2).reshape(x.shape)


def test_attention_counts_whatever_computes_it() -> None:
    costs = measure_costs(gate(Attending(), "attending", Sizes(), 1), 8, 8, 2)
    assert costs.flops == 2 * (2 * 64 * 64 * 3)

"""Small backbones with random weights, and an image."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from adaptsr.backbones.build import build
from adaptsr.config.schema import Backbone

SWIN = {"upscale": 4, "img_size": 8, "embed_dim": 12, "num_heads": [2], "window_size": 4, "mlp_ratio": 2}
TINY: dict[str, Backbone] = {
    "edsr": Backbone(architecture="edsr", options={"num_feat": 6, "num_block": 2}),
    "safmn": Backbone(architecture="SAFMN", options={"dim": 8, "n_blocks": 2, "upscaling_factor": 4}),
    "swinir": Backbone(architecture="SwinIR", options={**SWIN, "depths": [2], "upsampler": "pixelshuffle"}),
    "drct": Backbone(architecture="DRCT", options={**SWIN, "depths": [6], "gc": 4, "upsampler": "pixelshuffle"}),
}


def fresh(name: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(TINY[name], 4)


@cache
def tiny(name: str) -> nn.Module:
    return fresh(name)


def image(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

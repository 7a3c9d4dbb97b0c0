"""Small backbones and synthetic data for the contract's checks."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from adaptsr import randomness
from adaptsr.adaptation.allocation import Batch
from adaptsr.adaptation.reparametrization import (
    freeze,
)
from adaptsr.backbones.architectures.known import FAMILIES
from adaptsr.backbones.build import build
from adaptsr.config import schema

SCALE = 4


LR_SIZE = 8


ARCHITECTURES: Mapping[str, schema.Backbone] = {
    family.architecture.lower(): schema.Backbone(architecture=family.architecture, options=family.small(SCALE, LR_SIZE))
    for family in FAMILIES
}


BACKBONES = ("batchnorm", *ARCHITECTURES)


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        output: torch.Tensor = self.proj((q @ k.mT).softmax(dim=-1) @ v)
        return output


class _Feedforward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width, bias=False)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return output


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Feedforward(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm1(x).flatten(2).movedim(1, 2)
        tokens = tokens + self.attn(tokens)
        tokens = tokens + self.mlp(self.norm2(tokens))
        output: torch.Tensor = x + self.depthwise(tokens.movedim(2, 1).view_as(x))
        return output


class BatchNormBackbone(nn.Module):
    """Convolutions, attention and MLP with batch normalisation, layers without a bias and a grouped convolution."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.layers = nn.Sequential(_Block(width), _Block(width))
        self.norm = nn.BatchNorm2d(width)
        self.conv_after_body = nn.Conv2d(width, width, 3, padding=1)
        self.upsample = nn.Sequential(nn.Conv2d(width, 3 * SCALE**2, 3, padding=1), nn.PixelShuffle(SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.conv_first(x)
        body = self.conv_after_body(functional.gelu(self.norm(self.layers(features))))
        output: torch.Tensor = self.upsample(features + body)
        return output


@cache
def small_backbone(name: str) -> nn.Module:
    """Return one of `BACKBONES` with random weights, equal in every process, frozen, in eval mode. Change only copies."""
    chance = chance_state()
    try:
        randomness.seed_globals("contract", "backbone", name)
        model = BatchNormBackbone() if name == "batchnorm" else build(ARCHITECTURES[name], SCALE)
    finally:
        restore_chance(chance)
    generator = randomness.generator("contract", "weights", name)
    with torch.no_grad():
        # Initialisation leaves biases at zero and norms at one, which would hide mistakes in them.
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    freeze(model)
    return model.eval()


@cache
def calibration(index: int) -> Batch:
    """Return the i-th synthetic batch, LR (2, 3, 8, 8) and HR (2, 3, 32, 32) in [0, 1]; the same for every seed."""
    generator = randomness.generator("contract", "data", index)
    return (
        torch.rand(2, 3, LR_SIZE, LR_SIZE, generator=generator),
        torch.rand(2, 3, SCALE * LR_SIZE, SCALE * LR_SIZE, generator=generator),
    )


def chance_state() -> tuple[Any, Any, Any]:
    """Return the states of the global generators of python, numpy and torch, in comparable form."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return random.getstate(), (name, np.asarray(keys).tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


def restore_chance(state: tuple[Any, Any, Any]) -> None:
    """Restore a state of `chance_state`."""
    python, (name, keys, *rest), torchs = state
    random.setstate(python)
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.frombuffer(bytearray(torchs), dtype=torch.uint8))

"""A small model with the parts of a transformer, and shortcuts to plan and attach a baseline on it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from adaptsr import randomness
from adaptsr.adaptation import attaching
from adaptsr.adaptation.allocation import Batch
from adaptsr.adaptation.baseline_files import FOLDER, Variant, discover, import_baseline
from adaptsr.adaptation.reparametrization import Plan, freeze
from adaptsr.backbones.build import build
from adaptsr.backbones.sites import find_sites
from adaptsr.config.reading import load_profile

FILES = discover()
LR_SIZE = {"edsr": 16, "safmn": 16, "swinir": 16, "drct": 32}
"""Two windows: the least at which shifted windows shift."""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


DATA = normal(2, 3, 4, 4)


def agree(first: Any, second: Any) -> None:
    torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


def agree_in_gradient(
    first: torch.Tensor,
    second: torch.Tensor,
    parameters: Sequence[torch.Tensor],
    counterparts: Sequence[torch.Tensor] | None = None,
) -> None:
    """For a loss in which every output counts differently; the second output may depend on other parameters."""
    counts = normal(*first.shape, seed=9)
    own = torch.autograd.grad((first * counts).sum(), parameters)
    theirs = torch.autograd.grad((second * counts).sum(), counterparts or parameters)
    for one, other in zip(own, theirs, strict=True):
        agree(one.reshape(other.shape), other)


def calibration(index: int) -> Batch:
    return normal(2, 3, 4, 4, seed=index), normal(2, 3, 4, 4, seed=100 + index)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.proj(functional.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1)))
        return output


class Feedforward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return output


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Feedforward(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        output: torch.Tensor = x + self.mlp(self.norm2(x))
        return output


class SwinLike(nn.Module):
    """Two stages of one block over all pixels between two convolutions; three channels to three."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.Sequential(Block(8), Block(8))
        self.conv_last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.conv_first(x)
        tokens = self.layers(features.flatten(2).movedim(1, 2))
        output: torch.Tensor = self.conv_last(features + tokens.movedim(2, 1).view_as(features))
        return output


def swin_like() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SwinLike().eval()


@cache
def paper_backbone(name: str) -> nn.Module:
    """One of the paper's four at full size, frozen, with random weights; to be copied before anything is attached."""
    profile = load_profile(FOLDER.parent / "config/paper.yaml")
    with torch.random.fork_rng():
        randomness.seed_globals("full size", name)
        model = build(profile.backbones[name], profile.scale, LR_SIZE[name], load=False)
    freeze(model)
    return model


def baseline(name: str) -> ModuleType:
    return import_baseline(FOLDER / f"{name}.py")


def variant(name: str, chosen: str, **options: Any) -> Variant:
    file = FILES[name]
    return Variant(file, chosen, {**file.options, **file.variants[chosen], **options})


def planned(name: str, chosen: str, model: nn.Module, seed: int = 1, **options: Any) -> Plan:
    one = variant(name, chosen, **options)
    return attaching.plan_variant(one, lambda: copy.deepcopy(model), find_sites(model), calibration, seed)


def attach(name: str, model: nn.Module, plan: Plan) -> nn.Module:
    """The model itself, frozen and with the plan attached."""
    file = FILES[name]
    return attaching.attach(model, Variant(file, "any", file.options), plan)

"""The families that are known beyond what spandrel says, and the questions that are put to all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from adaptsr.backbones.architectures.edsr import EDSR
from adaptsr.backbones.architectures.family import Family, StateDict
from adaptsr.backbones.architectures.safmn import SAFMN
from adaptsr.backbones.architectures.swin import DRCT, SwinIR

FAMILIES: tuple[Family, ...] = (EDSR(), SAFMN(), SwinIR(), DRCT())


def family_of(architecture: str) -> Family | None:
    """Return the family of an architecture, None if nothing is known beyond what spandrel says."""
    return next((family for family in FAMILIES if family.architecture == architecture), None)


def is_rebuilt(key: str) -> bool:
    """Tell whether this tensor of a state dict is made for the size trained on rather than learned."""
    return any(key.rsplit(".", 1)[-1] in family.rebuilt for family in FAMILIES)


def translated(state: StateDict) -> StateDict:
    """Return a checkpoint with the keys of our classes."""
    for family in FAMILIES:
        state = family.translated(state)
    return state


def gelu_mlp(module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Return the layers of a module that computes fc2(gelu(fc1(x))), None for other modules."""
    return next((layers for family in FAMILIES if (layers := family.gelu_mlp(module))), None)


def fast_forward(module: nn.Module) -> Callable[..., torch.Tensor] | None:
    """Return a faster forward with the same result for training, None where no family has one."""
    return next((forward for family in FAMILIES if (forward := family.fast_forward(module))), None)

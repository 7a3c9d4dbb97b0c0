"""The families that know more than spandrel states, and the queries over all of them."""

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
    """Return the family of an architecture, or None if only spandrel knows it."""
    return next((family for family in FAMILIES if family.architecture == architecture), None)


def is_rebuilt(key: str) -> bool:
    """Tell whether a tensor of a state dict is computed for the training size rather than learned."""
    return any(key.rsplit(".", 1)[-1] in family.rebuilt for family in FAMILIES)


def translated(state: StateDict) -> StateDict:
    """Rename a checkpoint's keys to those of our classes."""
    for family in FAMILIES:
        state = family.translated(state)
    return state


def gelu_mlp(module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Return (fc1, fc2) of a module that computes fc2(gelu(fc1(x))); None for other modules."""
    return next((layers for family in FAMILIES if (layers := family.gelu_mlp(module))), None)


def fast_forward(module: nn.Module) -> Callable[..., torch.Tensor] | None:
    """Return a faster training forward with the same result, or None if no family has one."""
    return next((forward for family in FAMILIES if (forward := family.fast_forward(module))), None)

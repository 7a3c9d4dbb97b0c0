"""The families that know more than spandrel states, and the queries over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from adaptsr.backbones.architectures.edsr import EDSR
from adaptsr.backbones.architectures.family import Family, StateDict
from adaptsr.backbones.architectures.from_spandrel import recognises as spandrel_recognises
from adaptsr.backbones.architectures.safmn import SAFMN
from adaptsr.backbones.architectures.swin import DRCT, SwinIR

FAMILIES: tuple[Family, ...] = (EDSR(), SAFMN(), SwinIR(), DRCT())


def family_of(architecture: str) -> Family | None:
    """Return the family of an architecture, or None if only spandrel knows it."""
    return next((family for family in FAMILIES if family.architecture == architecture), None)


def is_rebuilt(key: str) -> bool:
    """Tell whether a tensor of a state dict is computed for the training size rather than learned."""
    return any(key.rsplit(".", 1)[-1] in family.rebuilt for family in FAMILIES)


def recognises(state: StateDict) -> bool:
    """Tell whether a state dict has the keys of a known architecture."""
    return any(family.detect(state) for family in FAMILIES) or spandrel_recognises(state)


def class_names(keys: Iterable[str]) -> dict[str, str]:
    """Map the key names of our classes to those of a checkpoint; its constants that a class holds elsewhere drop out."""
    names = dict.fromkeys(keys, "")
    return next((found for family in FAMILIES if (found := family.class_names(names))), {key: key for key in names})


def translated(state: StateDict) -> StateDict:
    """Rename a checkpoint's keys to those of our classes."""
    return {name: state[key] for name, key in class_names(state).items()}


def for_spandrel(model: nn.Module) -> StateDict | None:
    """Return a model in a form that spandrel loads; None where spandrel loads it as it is, or has no such form."""
    return next((form for family in FAMILIES if (form := family.for_spandrel(model))), None)


def gelu_mlp(module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Return (fc1, fc2) of a module that computes fc2(gelu(fc1(x))); None for other modules."""
    return next((layers for family in FAMILIES if (layers := family.gelu_mlp(module))), None)


def fast_forward(module: nn.Module) -> Callable[..., torch.Tensor] | None:
    """Return a faster training forward with the same result, or None if no family has one."""
    return next((forward for family in FAMILIES if (forward := family.fast_forward(module))), None)


def share_constants(model: nn.Module) -> None:
    """Let the modules of a new model share what their classes compute anew for each image."""
    for module in model.modules():
        for family in FAMILIES:
            family.share_constants(module)

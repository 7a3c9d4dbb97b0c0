"""What a family of architectures may declare; each family is one small file that overrides what it knows better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from adaptsr.backbones.architectures.from_spandrel import spandrel_class
from adaptsr.backbones.sizes import Sizes

StateDict = Mapping[str, torch.Tensor]


class Family(ABC):
    """The models of one architecture."""

    architecture: ClassVar[str]
    """The name in a profile."""
    rebuilt: ClassVar[frozenset[str]] = frozenset()
    """Last parts of the names of buffers that depend on the size trained on: never taken from a checkpoint."""

    @abstractmethod
    def small(self, scale: int, lr_size: int) -> dict[str, Any]:
        """Return options of a small model, on which the contract checks baselines with LR images of this side."""

    def sizes(self, model: nn.Module) -> Sizes:
        """Return the image sizes that this model takes."""
        return Sizes()

    def construct(self, options: Mapping[str, Any], scale: int) -> nn.Module:
        """Build a model with random weights."""
        return spandrel_class(self.architecture)(**options)

    def detect(self, state: StateDict) -> tuple[dict[str, Any], int] | None:
        """Return the options and the scale of a checkpoint of this family; None for others and for what spandrel detects."""
        return None

    def translated(self, state: StateDict) -> StateDict:
        """Return a checkpoint with the keys of the class; one that has them already, or is of another family, as it is."""
        return state

    def gelu_mlp(self, module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
        """Return the two layers of a module that computes fc2(gelu(fc1(x))) and nothing else; None for other modules."""
        return None

    def fast_forward(self, module: nn.Module) -> Callable[..., torch.Tensor] | None:
        """Return a faster forward with the same result for training; None where there is none.

        To be asked when what trains is settled: a form may hold only while some parameter is frozen.
        """
        return None

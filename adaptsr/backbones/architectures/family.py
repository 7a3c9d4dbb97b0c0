"""The interface of an architecture family; each family is one small file that overrides these defaults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from adaptsr.backbones.architectures.from_spandrel import spandrel_class
from adaptsr.backbones.sizes import Sizes

StateDict = Mapping[str, torch.Tensor]


class Family(ABC):
    """The models of one architecture."""

    architecture: ClassVar[str]
    """Its name in a profile."""
    unseen: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Options that a checkpoint does not show, with their usual values, the class's default first."""
    rebuilt: ClassVar[frozenset[str]] = frozenset()
    """Last name parts of buffers that depend on the training size; never loaded from a checkpoint."""

    @abstractmethod
    def small(self, scale: int, lr_size: int) -> dict[str, Any]:
        """Return options of a small model for the contract's checks, for LR images of side `lr_size` in pixels."""

    def sizes(self, model: nn.Module) -> Sizes:
        """Return the image sizes that this model accepts, those that spandrel states if it has the architecture."""
        return Sizes()

    def construct(self, options: Mapping[str, Any], scale: int) -> nn.Module:
        """Build a model with random weights."""
        return spandrel_class(self.architecture)(**options)

    def detect(self, state: StateDict) -> tuple[dict[str, Any], int] | None:
        """Return the options and scale of this family's checkpoint; None for others and where spandrel detects them."""
        return None

    def class_names(self, keys: Collection[str]) -> dict[str, str] | None:
        """Map the class's key names to those of a checkpoint; None where they are the same, and for other families."""
        return None

    def for_spandrel(self, model: nn.Module) -> StateDict | None:
        """Return weights that restore alike in an architecture that spandrel loads; None for other families' models.

        Only a family that spandrel lacks has such a form.
        """
        return None

    def gelu_mlp(self, module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
        """Return (fc1, fc2) of a module that computes exactly fc2(gelu(fc1(x))); None for other modules."""
        return None

    def fast_forward(self, module: nn.Module) -> Callable[..., torch.Tensor] | None:
        """Return a faster training forward with the same result, or None.

        Call this once `requires_grad` is settled: a fast form may hold only while some parameter is frozen.
        """
        return None

    def share_constants(self, module: nn.Module) -> None:
        """Let a module share what its class computes anew for each image, and what is the same for all its kind."""
        return None

"""Measure what a training step must hold in memory, in bytes that are the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from adaptsr.adaptation.reparametrization import trainable_parameters


class StepMemory:
    """Adds up what one training step of a model holds besides the model itself.

    copies: numbers that a trained parameter needs besides itself, such as its gradient and Adam's two moments.
    """

    def __init__(self, model: nn.Module, copies: int) -> None:
        self._own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        self._kept: dict[int, int] = {}
        self._state = copies * sum(p.numel() * p.element_size() for p in trainable_parameters(model).values())

    @property
    def bytes(self) -> int | None:
        """Tensors kept for the backward pass, gradients and the optimizer's state; None before a step was watched."""
        return self._state + sum(self._kept.values()) if self._kept else None

    @contextmanager
    def watch_once(self) -> Iterator[None]:
        """Note the tensors that the forward pass inside keeps for the backward pass; the first time only."""
        if self._kept:
            yield
            return
        with torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor):
            yield

    def _note(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own:
            self._kept[storage.data_ptr()] = storage.nbytes()
        return tensor

"""The losses of a run as it goes: kept on the device until somebody looks, and what they tell."""

from __future__ import annotations

import math

import torch

from adaptsr.config import schema
from adaptsr.runs import records
from adaptsr.training.checkpoints import History

LOSS_POINTS = 50
"""How many mean losses a record holds."""


class Losses:
    """Adds a run's losses to its history, and tells at which iteration it diverged."""

    def __init__(self, history: History, training: schema.Training) -> None:
        self._history, self._training = history, training
        self._unread: list[torch.Tensor] = []
        self._every = max(1, training.iterations // LOSS_POINTS)

    def add(self, loss: torch.Tensor, distance: torch.Tensor) -> None:
        """Add the loss of a step and the L1 distance of its batch, both scalars."""
        self._unread.append(torch.stack([loss, distance]))

    def read(self, done: int, finite: bool = True) -> int | None:
        """Look at what was added up to iteration `done`; return the iteration that diverged, if one did.

        finite: whether the weights are after it.
        """
        values = torch.stack(self._unread).tolist() if self._unread else []
        self._unread.clear()
        for at, (loss, distance) in enumerate(values, done - len(values) + 1):
            exploded = not distance <= self._training.diverged_above
            if self._history.diverges(loss) or exploded or not (finite or at < done):
                self._history.record_divergence(at, loss)
                return at
            pending = self._history.pending
            pending.append(loss)
            if at % self._every == 0 or at == self._training.iterations:
                point = records.LossPoint(iteration=at, loss=math.fsum(pending) / len(pending))
                self._history.losses.append(point)
                pending.clear()
        return None

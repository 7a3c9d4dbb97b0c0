"""Losses that are looked at late tell the same as those looked at each time."""

from __future__ import annotations

import math

import pytest
import torch

from adaptsr.config import schema
from adaptsr.training.checkpoints import History
from adaptsr.training.losses import Losses


def seen(values: list[float], every: int, finite: bool = True, distance: float = 0.1) -> tuple[int | None, History]:
    """Add losses and look at them every so often, and at the end."""
    sizes = {"iterations": 200, "batch_size": 1, "crop": 8, "lr": 1e-3, "validate_every": 200}
    history = History()
    losses = Losses(history, schema.Training.model_validate(sizes))
    for done, value in enumerate(values, start=1):
        losses.add(torch.tensor(value), torch.tensor(distance))
        if done % every == 0 or done == len(values):
            diverged = losses.read(done, finite or done < len(values))
            if diverged is not None:
                return diverged, history
    return None, history


@pytest.mark.parametrize(
    ("values", "at"),
    [([0.5] * 200, None), ([0.5] * 7 + [math.nan] + [0.5] * 30, 8), ([0.1] * 60 + [9.0] * 40, 70)],
    ids=["finished", "not finite", "grown"],
)
def test_looking_late_finds_the_same_iteration(values: list[float], at: int | None) -> None:
    first, history = seen(values, 1)
    late, history_late = seen(values, 20)
    assert first == late
    assert (first is None) == (at is None)
    assert history_late.losses == history.losses
    assert history_late.pending == history.pending


def test_weights_that_are_not_finite_count_at_the_last_iteration() -> None:
    diverged, history = seen([0.5] * 10, 20, finite=False)
    assert diverged == 10
    assert [point.iteration for point in history.losses] == [4, 8, 9, 10]


def test_a_distance_that_is_not_one_of_images_diverges() -> None:
    assert seen([0.5] * 3, 3, distance=11.0)[0] == 1

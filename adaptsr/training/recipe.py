"""The optimizer's schedule."""

from __future__ import annotations

from adaptsr.config import schema


def learning_rate(training: schema.Training, iteration: int) -> float:
    """The learning rate of an iteration: times `decay` for each milestone behind it."""
    passed = sum(iteration >= fraction * training.iterations for fraction in training.milestones)
    return float(training.lr * training.decay**passed)

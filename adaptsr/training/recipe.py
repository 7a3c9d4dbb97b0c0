"""The learning rate schedule."""

from __future__ import annotations

from adaptsr.config import schema


def learning_rate(training: schema.Training, iteration: int) -> float:
    """Return the learning rate of an iteration: `training.lr`, times `decay` for each milestone passed."""
    passed = sum(iteration >= fraction * training.iterations for fraction in training.milestones)
    return float(training.lr * training.decay**passed)

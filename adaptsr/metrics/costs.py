"""Costs: of metrics, by pyiqa's published times of one image of 1080x800 pixels on a V100; and of models. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SECONDS: Mapping[str, float] = {"psnr": 0.044, "ssim": 0.158, "lpips": 0.072, "dists": 0.125}
OTHER_SECONDS = 0.1
"""Assumed for a metric without a published time."""
PIXELS = 1080 * 800
COSTS = "costs.json"
"""What a results folder calls the measured costs of its models."""


def seconds_of(metrics: Iterable[str], pixels: int) -> float:
    """Return the seconds that these pyiqa metrics, by name, take for one image of `pixels` pixels."""
    return sum(SECONDS.get(name, OTHER_SECONDS) for name in metrics) * pixels / PIXELS


@dataclass(frozen=True)
class Costs:
    """What one image costs.

    height, width: of LR. flops: of matrix products and convolutions, a multiplication and an addition counting as two;
    challenges that count them as one state half of it. activations: numbers that all convolutions put out. seconds: mean
    over `runs`, with their standard deviation (n - 1). memory_bytes: the most that weights and tensors take at once.
    """

    height: int
    width: int
    scale: int
    parameters: int
    flops: int
    activations: int
    runs: int
    seconds: float
    seconds_sd: float
    memory_bytes: int

"""Estimate the cost of metrics from pyiqa's published times: one image of 1080x800 pixels on a V100. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SECONDS: Mapping[str, float] = {"psnr": 0.044, "ssim": 0.158, "lpips": 0.072, "dists": 0.125}
OTHER_SECONDS = 0.1
"""Assumed for a metric without a published time."""
PIXELS = 1080 * 800


def seconds_of(metrics: Iterable[str], pixels: int) -> float:
    """Return the seconds that these pyiqa metrics, by name, take for one image of `pixels` pixels."""
    return sum(SECONDS.get(name, OTHER_SECONDS) for name in metrics) * pixels / PIXELS

"""Score restored pictures without HR: NIQE, which says how natural a picture looks, not how true it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from adaptsr.metrics.conventions import Convention
from adaptsr.metrics.weights import WeightsMissing, build_network, fetch_all

NAME = "NIQE \N{DOWNWARDS ARROW}"
SMALLEST = 192
"""Pixels a side: NIQE compares patches of 96 pixels, and one or two of them say nothing."""
_LUMA = {"test_y_channel": True, "color_space": "yiq"}
"""The luma with which published values were measured."""
_FILE = "niqe_modelparameters.mat"
_NIQE = Convention("niqe", "niqe", "NIQE", _LUMA, "yiq", lower_is_better=True, reference=False, weights=_FILE)

Pixels = NDArray[np.uint8]
"""RGB, shape (H, W, 3)."""


def measure_naturalness() -> tuple[Callable[[Pixels], str], str]:
    """Return a function that scores a picture as text, `-` where it cannot, and why nothing is scored, else an empty text."""
    try:
        network = build_network(_NIQE, "cpu")
    except WeightsMissing:
        missing: Mapping[str, str] = fetch_all([_NIQE])
        if missing:
            return (lambda pixels: "-"), f"NIQE is missing: {missing[_NIQE.column]}"
        network = build_network(_NIQE, "cpu")

    def score(pixels: Pixels) -> str:
        if min(pixels.shape[:2]) < SMALLEST:
            return "-"
        with torch.inference_mode():
            image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(torch.float32) / 255
            value = float(network(image))
        return f"{value:.2f}" if np.isfinite(value) else "-"

    return score, ""

"""Pairs of a drawn scene that are shifted, turned, zoomed and exposed by known amounts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from adaptsr.randomness import generator
from adaptsr.tensors import resized

MARGIN = 96
"""HR pixels around what a pair shows, so that a shifted image shows more of the scene instead of an edge."""


@dataclass(frozen=True)
class Change:
    """What happens to HR (right, down in HR pixels, degrees clockwise, zoom) and to LR (gain, offset in levels)."""

    right: float = 0
    down: float = 0
    degrees: float = 0
    zoom: float = 1
    gain: float = 1
    offset: float = 0


def scene(key: object, height: int, width: int) -> torch.Tensor:
    """A picture with edges and details of every size, float32 (3, H, W) in levels."""
    draw = generator("pairs", str(key))
    fields = torch.zeros(3, height, width)
    for size in (3, 6, 12, 24, 48, 96):
        fields += resized(torch.rand(3, size, size, generator=draw) - 0.5, (height, width)) * 200 / size**0.5
    shapes = resized(torch.rand(1, 14, 14, generator=draw), (height, width)) > 0.5
    return torch.where(shapes, 150 + fields, 90 - fields).clamp(0, 255)


def pair(
    key: object, change: Change, lr: tuple[int, int] = (72, 96), scale: int = 4
) -> tuple[torch.Tensor, torch.Tensor]:
    """LR and HR of a scene, uint8, with a little noise in LR."""
    height, width = scale * lr[0], scale * lr[1]
    whole = scene(key, height + 2 * MARGIN, width + 2 * MARGIN)
    angle = math.radians(change.degrees)
    turn = change.zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = (np.array([width, height]) - 1) / 2
    # A place of HR to the place in the whole scene that it shows.
    back = np.linalg.inv(turn)
    moved = MARGIN + middle - back @ (middle + np.array([change.right, change.down]))
    seen = cv2.warpAffine(
        whole.permute(1, 2, 0).numpy(),
        np.column_stack([back, moved]),
        (width, height),
        flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    hr = torch.from_numpy(seen).permute(2, 0, 1)
    low = resized(whole[:, MARGIN:-MARGIN, MARGIN:-MARGIN], lr) * change.gain + change.offset
    noisy = low + torch.randn(low.shape, generator=generator("pairs noise", str(key)))
    return tuple(image.round().clamp(0, 255).to(torch.uint8).contiguous() for image in (noisy, hr))  # type: ignore[return-value]

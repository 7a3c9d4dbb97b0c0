"""Image sizes that a backbone accepts, and the padding to reach one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Sizes:
    """The LR image sizes in pixels that a backbone accepts; any by default. The names are spandrel's."""

    minimum: int = 0
    multiple_of: int = 1
    square: bool = False

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest accepted height and width that are at least these."""
        height, width = (-(-max(side, self.minimum) // self.multiple_of) * self.multiple_of for side in (height, width))
        return (max(height, width),) * 2 if self.square else (height, width)

    def pad(self, images: torch.Tensor) -> torch.Tensor:
        """Pad images (N, C, H, W) at the bottom and right: reflect as far as possible, then repeat the last pixel."""
        height, width = images.shape[-2:]
        to_height, to_width = self.fitted(height, width)
        down, right = to_height - height, to_width - width
        reflected = min(down, height - 1), min(right, width - 1)
        if any(reflected):
            images = functional.pad(images, (0, reflected[1], 0, reflected[0]), mode="reflect")
        if reflected != (down, right):
            images = functional.pad(images, (0, right - reflected[1], 0, down - reflected[0]), mode="replicate")
        return images

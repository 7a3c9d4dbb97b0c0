"""Super-resolve images with a backbone."""

from __future__ import annotations

import torch
from torch import nn

from adaptsr.backbones.gate import facts


def restore(model: nn.Module, lr: torch.Tensor, scale: int) -> torch.Tensor:
    """Super-resolve uint8 LR images (N, 3, H, W) to uint8 (N, 3, scale H, scale W).

    Pads images of an unsupported size at the bottom and right, and crops the result.
    """
    height, width = lr.shape[-2:]
    device = next(model.parameters()).device
    with torch.inference_mode():
        images = facts(model).sizes.pad(lr.to(device=device, dtype=torch.float32) / 255)
        restored: torch.Tensor = model(images)[..., : height * scale, : width * scale]
        return (restored.clamp(0, 1) * 255).round().to(device="cpu", dtype=torch.uint8)

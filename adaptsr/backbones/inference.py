"""Super-resolve images with a backbone."""

from __future__ import annotations

import torch
from torch import nn

from adaptsr.backbones.gate import facts


def restore(model: nn.Module, lr: torch.Tensor) -> torch.Tensor:
    """Super-resolve uint8 LR images (N, 3, H, W) to uint8 (N, 3, scale H, scale W), with the scale of the model.

    Pads images of an unsupported size at the bottom and right, and crops the result, as spandrel does.
    """
    known = facts(model)
    height, width = lr.shape[-2:]
    device = next(model.parameters()).device
    with torch.inference_mode():
        images = known.sizes.pad(lr.to(device=device, dtype=torch.float32) / 255)
        restored: torch.Tensor = model(images)[..., : height * known.scale, : width * known.scale]
        return (restored.clamp(0, 1) * 255).round().to(device="cpu", dtype=torch.uint8)

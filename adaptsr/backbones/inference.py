"""Super-resolve images with a backbone."""

from __future__ import annotations

import torch
from torch import nn

from adaptsr.backbones.gate import facts


def enlarge(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Super-resolve images (N, 3, H, W) in [0, 1] to (N, 3, scale H, scale W) in [0, 1], float32 on the model's device.

    Pads images of an unsupported size at the bottom and right, and crops the result, as spandrel does.
    """
    known = facts(model)
    height, width = images.shape[-2:]
    device = next(model.parameters()).device
    with torch.no_grad():
        # A copy: some models (RCAN) change the image that they are given.
        padded = known.sizes.pad(images.to(device=device, dtype=torch.float32, copy=True))
        restored: torch.Tensor = model(padded)[..., : height * known.scale, : width * known.scale]
        return restored.clamp(0, 1)


def restore(model: nn.Module, lr: torch.Tensor) -> torch.Tensor:
    """Super-resolve uint8 LR images (N, 3, H, W) to uint8 (N, 3, scale H, scale W), with the scale of the model."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        images = lr.to(device=device, dtype=torch.float32) / 255
        return (enlarge(model, images) * 255).round().to(device="cpu", dtype=torch.uint8)

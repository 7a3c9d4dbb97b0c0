"""Super-resolve images with a backbone."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def restore(model: nn.Module, lr: torch.Tensor, scale: int) -> torch.Tensor:
    """Super-resolve uint8 LR images (N, 3, H, W) to uint8 (N, 3, scale H, scale W).

    Windows need sizes that are multiples of theirs: LR is reflected at the far borders and the result cut back.
    """
    multiple = int(getattr(model, "window_size", 1))
    height, width = lr.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    device = next(model.parameters()).device
    with torch.inference_mode():
        images = lr.to(device=device, dtype=torch.float32) / 255
        images = functional.pad(images, padding, mode="reflect") if any(padding) else images
        restored: torch.Tensor = model(images)[..., : height * scale, : width * scale]
        return (restored.clamp(0, 1) * 255).round().to(device="cpu", dtype=torch.uint8)

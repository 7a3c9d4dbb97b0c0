"""PSNR of the Y channel without pyiqa, for validation during training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# ITU-R BT.601: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 for levels 0..255
_Y_WEIGHTS = (65.481, 128.553, 24.966)


def psnr_y(restored: torch.Tensor, reference: torch.Tensor, crop_border: int = 0) -> torch.Tensor:
    """Return PSNR in dB on the studio-swing BT.601 Y channel, float64 (N,); infinite for identical images.

    Both images are uint8 RGB (N, 3, H, W); `crop_border` pixels are cut off at each border. The peak is 255 and Y is
    not rounded, as in BasicSR's `calculate_psnr(test_y_channel=True)`. Raises `ValueError` for other shapes or types.
    """
    import torch

    if restored.shape != reference.shape or restored.ndim != 4 or restored.shape[1] != 3:
        raise ValueError(
            f"expected two batches of one shape (N, 3, H, W), found {tuple(restored.shape)} and {tuple(reference.shape)}"
        )
    if restored.dtype != torch.uint8 or reference.dtype != torch.uint8:
        raise ValueError(f"expected uint8 images, found {restored.dtype} and {reference.dtype}")
    height, width = restored.shape[2:]
    if 2 * crop_border >= min(height, width):
        raise ValueError(f"a crop border of {crop_border} leaves nothing of {width}x{height} pixels")
    inner = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    difference = restored[inner].to(torch.float32) - reference[inner].to(torch.float32)
    weights = difference.new_tensor(_Y_WEIGHTS).div(255).view(1, 3, 1, 1)
    y_difference = (difference * weights).sum(dim=1).to(torch.float64)
    return 10 * torch.log10(255.0**2 / y_difference.square().mean(dim=(1, 2)))

"""Cut and warp an HR image so that it lies on its LR image, pixel on pixel."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from adaptsr.camera.registration import Matrix, Place, in_place

EXACT = 0.02
"""LR pixels: HR that lies closer is cut and not warped, which would soften it."""


class Aligned(NamedTuple):
    """The part of a pair that both show: LR (3, h, w) and HR (3, scale h, scale w), uint8."""

    lr: torch.Tensor
    hr: torch.Tensor


def aligned(lr: torch.Tensor, hr: torch.Tensor, place: Place) -> Aligned | None:
    """Lay an HR image on its LR image, whose pixels stay as they are; None if they share less than 8 x 8 LR pixels."""
    scale = place.scale
    matrix = in_place(scale) if place.farthest < EXACT else place.matrix
    onto = _from_hr_grid(matrix, scale)
    size = (scale * lr.shape[2], scale * lr.shape[1])
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_NEAREST if place.farthest < EXACT else cv2.INTER_LANCZOS4)
    warped = cv2.warpAffine(hr.permute(1, 2, 0).numpy(), onto, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    top, bottom, left, right = _shared(lr, hr, matrix)
    if min(bottom - top, right - left) < 8:
        return None
    whole = torch.from_numpy(warped).permute(2, 0, 1)
    cut = whole[:, scale * top : scale * bottom, scale * left : scale * right]
    return Aligned(lr[:, top:bottom, left:right].contiguous(), cut.contiguous())


def _from_hr_grid(matrix: Matrix, scale: int) -> Matrix:
    """Return the matrix from the pixels of an aligned HR image to those of the given one."""
    whole = np.vstack([matrix, [0, 0, 1]]) @ np.linalg.inv(np.vstack([in_place(scale), [0, 0, 1]]))
    found: Matrix = whole[:2]
    return found


def _shared(lr: torch.Tensor, hr: torch.Tensor, matrix: Matrix) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of a large part of LR that HR covers: the worst edge is cut until all is covered."""
    height, width = lr.shape[1:]
    rows, columns = np.mgrid[0:height, 0:width]
    scale = round(float(np.linalg.norm(matrix[:, 0])))
    covered: NDArray[np.bool_] = np.ones((height, width), dtype=bool)
    for across, down in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):  # the corners of every LR pixel
        x, y = (
            matrix[axis, 0] * (columns + across) + matrix[axis, 1] * (rows + down) + matrix[axis, 2] for axis in (0, 1)
        )
        slack = 0.5 + 1e-6 * scale
        covered &= (x >= -slack) & (y >= -slack) & (x <= hr.shape[2] - 1 + slack) & (y <= hr.shape[1] - 1 + slack)
    top, bottom, left, right = 0, height, 0, width
    while top < bottom and left < right and not covered[top:bottom, left:right].all():
        part = covered[top:bottom, left:right]
        missing = [(~edge).mean() for edge in (part[0], part[-1], part[:, 0], part[:, -1])]
        worst = int(np.argmax(missing))
        if missing[worst] == 0:  # a hole inside cannot be: HR is a rectangle
            break
        top, bottom, left, right = (
            top + (worst == 0),
            bottom - (worst == 1),
            left + (worst == 2),
            right - (worst == 3),
        )
    return top, bottom, left, right

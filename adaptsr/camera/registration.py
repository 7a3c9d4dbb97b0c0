"""Find where the scene of an LR image lies in its HR image, to a small part of a pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from adaptsr.tensors import resized

Plane = NDArray[np.float32]
"""Grey levels (H, W)."""
Matrix = NDArray[np.float64]
"""Maps a place (x, y, 1) to another, (2, 3); pixel centers have whole coordinates."""

_LONGEST = 1024
"""Larger LR images are reduced before; at a thousand pixels the place of a scene is known well enough."""
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-8)
_BLUR = 0.5
"""In LR pixels."""
_LEAST_MATCHES = 12
_LEAST_CORRELATION = 0.2


@dataclass(frozen=True)
class Place:
    """Where the scene of an LR image of `size` (height, width) lies in the HR image.

    matrix: LR pixels to HR pixels. scale: of the pair, 4 for x4.
    """

    matrix: Matrix
    size: tuple[int, int]
    scale: int

    @property
    def shift(self) -> tuple[float, float]:
        """How far right and down the scene's middle lies in HR from where it should, in LR pixels."""
        x, y = self._off(np.array([[(self.size[1] - 1) / 2, (self.size[0] - 1) / 2]]))[0]
        return float(x), float(y)

    @property
    def zoom(self) -> float:
        """The scene's size in HR beside the one that it should have."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2])))) / self.scale

    @property
    def rotation(self) -> float:
        """By how many degrees the scene is turned clockwise in HR."""
        (a, b), (c, d) = self.matrix[:, :2]
        return math.degrees(math.atan2(c - b, a + d))

    @property
    def farthest(self) -> float:
        """How far the corner lies from where it should that is farthest off, in LR pixels."""
        height, width = self.size
        corners = np.array([[x, y] for x in (0, width - 1) for y in (0, height - 1)], dtype=float)
        return float(np.linalg.norm(self._off(corners), axis=1).max())

    def _off(self, points: Matrix) -> Matrix:
        found = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        off: Matrix = (found - in_place(self.scale)[:, 2]) / self.scale - points
        return off


def in_place(scale: int) -> Matrix:
    """Return the matrix of a pair that is aligned."""
    offset = (scale - 1) / 2
    return np.array([[scale, 0, offset], [0, scale, offset]], dtype=float)


def register(lr: torch.Tensor, hr: torch.Tensor, scale: int) -> Place | None:
    """Register an HR image (3, H, W), uint8, with its LR image; None where they share no scene.

    Starts from where the two agree best: in place, shifted (phase correlation), or as matched features say (SIFT); then
    maximises their correlation (ECC), which a change of exposure leaves as it is.
    """
    size = (lr.shape[1], lr.shape[2])
    factor = math.ceil(max(size) / _LONGEST)
    small = _grey(lr, factor)
    large = _grey(hr, factor)
    if min(small.shape) < 8 or min(small.std(), large.std()) < 0.5:
        return None
    # Blurred alike, neither holds details that the other lacks, nor aliases them.
    blurred = _blurred(large, scale * math.hypot(_BLUR, 0.5))
    template = _blurred(small, _BLUR)
    starts = sorted(_starts(small, large, scale), key=lambda start: -_correlation(small, blurred, start))
    for start in starts:
        try:
            found, matrix = cv2.findTransformECC(  # type: ignore[call-overload]  # it takes no mask too
                template, blurred, start.astype(np.float32), cv2.MOTION_AFFINE, _STEPS, None, 1
            )
        except cv2.error:  # it does not converge from here
            continue
        if found >= _LEAST_CORRELATION and _plausible(matrix, scale):
            return Place(_unreduced(np.asarray(matrix, dtype=float), factor), size, scale)
    return None


def _blurred(plane: Plane, blur: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), blur), dtype=np.float32)


def _starts(small: Plane, large: Plane, scale: int) -> Iterator[Matrix]:
    yield in_place(scale)
    reduced = cv2.resize(large, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
    if large.shape[0] >= small.shape[0] * scale and large.shape[1] >= small.shape[1] * scale:
        cut = large[: small.shape[0] * scale, : small.shape[1] * scale]
        reduced = cv2.resize(cut, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
    window = np.outer(np.hanning(small.shape[0]), np.hanning(small.shape[1]))
    down, right = phase_cross_correlation(  # type: ignore[no-untyped-call]
        (reduced - reduced.mean()) * window, (small - small.mean()) * window, upsample_factor=10
    )[0]
    shifted = in_place(scale)
    shifted[:, 2] += scale * np.array([right, down])
    yield shifted
    if (matched := _by_features(small, large, scale)) is not None:
        yield matched


def _by_features(small: Plane, large: Plane, scale: int) -> Matrix | None:
    """Estimate turn, zoom and shift from features; None if too few agree."""
    sift = cv2.SIFT_create(nfeatures=2000, contrastThreshold=0.02)  # type: ignore[attr-defined]
    height, width = round(large.shape[0] / scale), round(large.shape[1] / scale)
    reduced = np.asarray(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)
    (ours, of_ours), (theirs, of_theirs) = (
        sift.detectAndCompute(_stretched(plane), None) for plane in (small, reduced)
    )
    if of_ours is None or of_theirs is None or min(len(ours), len(theirs)) < _LEAST_MATCHES:
        return None
    matches = [
        best
        for best, second in cv2.BFMatcher(cv2.NORM_L2).knnMatch(of_ours, of_theirs, k=2)
        if best.distance < 0.75 * second.distance
    ]
    if len(matches) < _LEAST_MATCHES:
        return None
    source = np.array([ours[match.queryIdx].pt for match in matches])
    target = np.array([theirs[match.trainIdx].pt for match in matches])
    matrix, agree = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=1.5)
    if matrix is None or agree.sum() < _LEAST_MATCHES:
        return None
    found: Matrix = scale * np.asarray(matrix, dtype=float)
    found[:, 2] += (scale - 1) / 2
    return found


def _stretched(plane: Plane) -> NDArray[np.uint8]:
    lowest, highest = float(plane.min()), float(plane.max())
    levels: NDArray[np.uint8] = ((plane - lowest) * 255 / max(highest - lowest, 1.0)).astype(np.uint8)
    return levels


def _correlation(small: Plane, large: Plane, matrix: Matrix) -> float:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (small.shape[1], small.shape[0])
    seen = cv2.warpAffine(large, matrix, size, flags=flags)
    inside = cv2.warpAffine(np.ones_like(large), matrix, size, flags=flags) > 0.99
    if inside.sum() < 0.1 * small.size:
        return -1.0
    return float(np.nan_to_num(np.corrcoef(small[inside], seen[inside])[0, 1], nan=-1.0))


def _plausible(matrix: Matrix, scale: int) -> bool:
    """Tell whether a matrix turns and zooms as lenses and hands do: it keeps angles within a few percent."""
    sizes = np.linalg.svd(matrix[:, :2] / scale, compute_uv=False)
    return bool(sizes[1] > 0.5 and sizes[0] < 2 and sizes[0] / sizes[1] < 1.1 and np.linalg.det(matrix[:, :2]) > 0)


def _grey(image: torch.Tensor, factor: int) -> Plane:
    grey = image.to(torch.float32).mean(dim=0, keepdim=True)
    small = grey if factor == 1 else resized(grey, (round(image.shape[1] / factor), round(image.shape[2] / factor)))
    plane: Plane = np.ascontiguousarray(small[0].numpy())
    return plane


def _unreduced(matrix: Matrix, factor: int) -> Matrix:
    """Return the matrix between images that are `factor` times as large as those that it maps."""
    offset = (factor - 1) / 2
    whole = matrix.copy()
    whole[:, 2] = factor * matrix[:, 2] + offset - matrix[:, :2] @ np.array([offset, offset])
    return whole

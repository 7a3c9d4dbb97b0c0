"""Measure what is wrong with one LR/HR pair."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import torch
from scipy.ndimage import gaussian_filter

from adaptsr.camera.alignment import Aligned, aligned
from adaptsr.camera.registration import register
from adaptsr.data.scenes import scene_mismatch
from adaptsr.metrics.psnr import psnr_y
from adaptsr.tensors import resized

FARTHEST = 0.5
"""LR pixels: pairs that are farther off teach a model to shift and to blur. 98 of RealSR's 100 published test pairs stay below."""
EXPOSURE = 6.0
"""Levels of 255 between the brightness of LR and HR, or between their colors."""
LEAST_DETAIL = 2.0
"""Levels: what HR has to hold beyond LR enlarged. RealSR's published test pairs hold at least 3.5."""
MOST_BLUR = 1.5
"""LR pixels, as the standard deviation of a Gaussian: LR that is softer than HR reduced by more than this is out of focus."""
_BLURS = tuple(step / 10 for step in range(31))


@dataclass(frozen=True)
class Checked:
    """What was measured of a pair; what needs both on one another is None where they share no scene.

    shift_x, shift_y, farthest: of HR against LR, in LR pixels, in the middle and at the worst corner. rotation: in degrees.
    zoom: 1 if LR and HR fit. brightness, color: of LR less HR, in levels of 255; color is the channel that is farthest from
    the mean of all. contrast: of LR beside HR. blur: in LR pixels, of LR against HR reduced. detail: levels that HR holds
    beyond LR. bicubic, bicubic_aligned: PSNR-Y in dB of LR enlarged, in place and once aligned. findings: in words.
    """

    name: str
    shift_x: float | None = None
    shift_y: float | None = None
    farthest: float | None = None
    rotation: float | None = None
    zoom: float | None = None
    brightness: float | None = None
    color: float | None = None
    contrast: float | None = None
    blur: float | None = None
    detail: float | None = None
    bicubic: float | None = None
    bicubic_aligned: float | None = None
    reason: str = ""
    """Why the pair is of no use, even aligned; else empty."""
    findings: tuple[str, ...] = ()

    @property
    def is_misaligned(self) -> bool:
        return self.farthest is not None and self.farthest > FARTHEST


def check_pair(name: str, lr: torch.Tensor, hr: torch.Tensor, scale: int) -> tuple[Checked, Aligned | None]:
    """Measure a pair, uint8 (3, h, w) and (3, H, W); return it aligned too, unless the two do not show one scene."""
    place = register(lr, hr, scale)
    cut = aligned(lr, hr, place) if place else None
    mismatch = "" if cut is None else scene_mismatch(*cut)
    if place is None or cut is None or mismatch:
        reason = mismatch or scene_mismatch(lr, hr) or "LR and HR have too little in common to be laid on one another"
        return Checked(name, reason=reason.partition(";")[0], findings=(reason,)), None
    given, reduced = cut.lr.to(torch.float32), resized(cut.hr, (cut.lr.shape[1], cut.lr.shape[2]))
    offsets = (given - reduced).mean(dim=(1, 2))
    brightness = float(offsets.mean())
    color = float((offsets - brightness)[(offsets - brightness).abs().argmax()])
    checked = Checked(
        name,
        *place.shift,
        farthest=place.farthest,
        rotation=place.rotation,
        zoom=place.zoom,
        brightness=brightness,
        color=color,
        contrast=_slope(reduced, given),
        blur=_blur(given.mean(dim=0), reduced.mean(dim=0)),
        detail=_detail(cut.hr.to(torch.float32), (cut.lr.shape[1], cut.lr.shape[2])),
        bicubic=bicubic_psnr(lr, hr) if hr.shape[1:] == (scale * lr.shape[1], scale * lr.shape[2]) else None,
        bicubic_aligned=bicubic_psnr(*cut),
    )
    return dataclasses.replace(checked, findings=tuple(_findings(checked))), cut


def bicubic_psnr(lr: torch.Tensor, hr: torch.Tensor) -> float:
    """Return PSNR-Y in dB of LR, enlarged bicubically, against HR."""
    enlarged = resized(lr, (hr.shape[1], hr.shape[2])).round().clamp(0, 255).to(torch.uint8)
    return float(psnr_y(enlarged[None], hr[None])[0])


def _findings(checked: Checked) -> list[str]:
    """Say in words what is wrong with a pair."""
    assert checked.farthest is not None
    assert checked.brightness is not None
    assert checked.color is not None
    assert checked.blur is not None
    assert checked.detail is not None
    found = []
    if checked.farthest > FARTHEST:
        found.append(f"HR lies {checked.farthest:.1f} LR pixels off")
    if abs(checked.brightness) > EXPOSURE:
        found.append(f"LR is {abs(checked.brightness):.0f} levels {'brighter' if checked.brightness > 0 else 'darker'}")
    if abs(checked.color) > EXPOSURE:
        found.append(f"a color of LR is {abs(checked.color):.0f} levels off")
    if checked.blur > MOST_BLUR:
        found.append(f"LR is blurred ({checked.blur:.1f} LR pixels)")
    if checked.detail < LEAST_DETAIL:
        found.append("HR holds no more detail than LR")
    return found


def _slope(of: torch.Tensor, on: torch.Tensor) -> float:
    x, y = of - of.mean(), on - on.mean()
    return float((x * y).sum() / x.square().sum().clamp_min(1e-9))


def _detail(hr: torch.Tensor, size: tuple[int, int]) -> float:
    """Return what an HR image loses when it is reduced to `size`, less what its enlargement still loses by that."""
    images = [hr]
    for _ in range(2):
        images.append(resized(resized(images[-1], size), (hr.shape[1], hr.shape[2])))
    lost, rest = ((one - other).square().mean() for one, other in itertools.pairwise(images))
    return float((lost - rest).clamp_min(0).sqrt())


def _blur(lr: torch.Tensor, reduced: torch.Tensor) -> float:
    """Return the blur that makes the reduced HR most like LR; a change of exposure does not count."""

    def unlike(blur: float) -> float:
        blurred = torch.from_numpy(gaussian_filter(reduced.numpy(), blur)) if blur else reduced
        correlation = torch.corrcoef(torch.stack([blurred.flatten(), lr.flatten()]))[0, 1]
        return -float(correlation)

    return min(_BLURS, key=unlike)

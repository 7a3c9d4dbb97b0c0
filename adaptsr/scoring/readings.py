"""Score the same images by PSNR and SSIM under all conventions in use, to find out why two numbers differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from adaptsr.backbones.inference import enlarge
from adaptsr.data.degradation import bicubic
from adaptsr.data.images import read_image, to_float, to_uint8
from adaptsr.data.matching import Side, list_images
from adaptsr.errors import UserError, raise_all
from adaptsr.metrics.ssim import ssim_in_strips

CHANNELS = {"Y of YCbCr": "ycbcr", "Y of YIQ": "yiq", "RGB": ""}
NOTHING, IMAGES, IMAGES_AND_Y = "nothing", "images", "images and Y"
GIVEN = "given"
Images = Iterator[tuple[str, torch.Tensor, torch.Tensor]]
"""Name, restored image and reference of each pair, float32 (1, 3, H, W) in [0, 1]."""


@dataclass(frozen=True)
class Reading:
    """A convention and what it gives. lr: how LR was made. rounded: what is rounded to 8 bit. border: pixels cropped.

    psnr, ssim: means over the images; None if an image has none.
    """

    lr: str
    channels: str
    rounded: str
    border: int
    psnr: float | None = None
    ssim: float | None = None

    @property
    def text(self) -> str:
        made = "" if self.lr == GIVEN else f", LR {self.lr}"
        return f"{self.channels}, border {self.border}, rounded: {self.rounded}{made}"


def read_folders(pairs: Mapping[str, Sequence[Path]]) -> Images:
    """Yield restored images and references from their files."""
    for name, (restored, reference) in pairs.items():
        ours, theirs = (to_float(read_image(path, converting=True))[None] for path in (restored, reference))
        yield name, ours, theirs


def restore_folder(model: torch.nn.Module, scale: int, hr: Path, reduce: Callable[..., torch.Tensor]) -> Images:
    """Yield HR images, cut to multiples of the scale, beside what a model restores of their reduced versions."""
    problems: list[str] = []
    found = list_images(Side("HR", hr), problems)
    raise_all(str(hr), problems)
    for name, image in found.items():
        pixels = to_float(read_image(image.path, converting=True))[None]
        height, width = (side - side % scale for side in pixels.shape[2:])
        if not height * width:
            raise UserError(f"{image.path}: smaller than the scale {scale}; leave it out")
        reference = pixels[..., :height, :width]
        yield name, enlarge(model, reduce(reference, scale)).cpu(), reference


def _interpolated(antialias: bool) -> Callable[[torch.Tensor, int], torch.Tensor]:
    def reduce(hr: torch.Tensor, scale: int) -> torch.Tensor:
        size = [side // scale for side in hr.shape[2:]]
        return to_float(to_uint8(functional.interpolate(hr, size, mode="bicubic", antialias=antialias)))

    return reduce


REDUCTIONS: Mapping[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "MATLAB-like": bicubic,
    "antialiased, as Pillow": _interpolated(antialias=True),
    "not antialiased, as OpenCV": _interpolated(antialias=False),
}
"""Ways to make LR by bicubic reduction, each rounded to 8 bit."""


def read_all(images: Images, scale: int, *, lr: str = GIVEN) -> list[Reading]:
    """Score images under every convention. lr: how their LR was made; images as given are 8 bit already."""
    rounded = [IMAGES, IMAGES_AND_Y, *([] if lr == GIVEN else [NOTHING])]
    readings = [
        Reading(lr, channels, rounding, border)
        for channels, rounding, border in itertools.product(CHANNELS, rounded, (0, scale))
        if CHANNELS[channels] or rounding != IMAGES_AND_Y
    ]
    values: dict[Reading, list[tuple[float, float | None]]] = {reading: [] for reading in readings}
    for name, restored, reference in images:
        for reading in readings:
            values[reading].append(_compare(name, restored, reference, reading))
    return [
        Reading(r.lr, r.channels, r.rounded, r.border, *(_mean(column) for column in zip(*values[r], strict=True)))
        for r in readings
    ]


def closest(readings: Sequence[Reading], expected: str) -> tuple[str, list[Reading]]:
    """Return the metric that a number is of, PSNR above 1, and the readings by their distance from it.

    Raises `UserError` if it is not a positive number, or if nothing was measured.
    """
    try:
        number = float(expected)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UserError(f"--expected {expected}: expected a PSNR in dB, or an SSIM up to 1")
    metric = "ssim" if number <= 1 else "psnr"
    known = [reading for reading in readings if getattr(reading, metric) is not None]
    if not known:
        raise UserError(f"--expected {expected}: no convention gives a {metric.upper()} of these images")
    return metric, sorted(known, key=lambda reading: abs(getattr(reading, metric) - number))


def as_text(readings: Sequence[Reading], expected: str | None) -> str:
    """Write the readings as a table and, with an expected number, the one that comes closest."""
    heads = ("channels", "border", "rounded", "LR", "PSNR (dB)", "SSIM")
    lines = [heads, *((r.channels, str(r.border), r.rounded, r.lr, _number(r.psnr), _number(r.ssim)) for r in readings)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.append(
        f"In reports: PSNR and SSIM on {next(iter(CHANNELS))}; rounded are images for PSNR, images and Y for SSIM."
    )
    if expected is not None:
        metric, order = closest(readings, expected)
        digits = len(expected.partition(".")[2])
        agreeing = sum(f"{getattr(one, metric):.{digits}f}" == f"{float(expected):.{digits}f}" for one in order)
        value = getattr(order[0], metric)
        text.append(
            f"Closest to {expected}: {metric.upper()} {value:.4f} ({value - float(expected):+.4f}) on {order[0].text}."
        )
        text.append(f"Conventions that give {expected} in these digits: {agreeing} of {len(readings)}.")
    return "\n".join(text)


def as_json(readings: Sequence[Reading], expected: str | None) -> dict[str, Any]:
    """Return the readings, and the closest one, for `json.dumps`."""
    found: dict[str, Any] = {"readings": [asdict(reading) for reading in readings]}
    if expected is not None:
        metric, order = closest(readings, expected)
        found["closest"] = {"metric": metric, "expected": float(expected), **asdict(order[0])}
    return found


def _compare(
    name: str, restored: torch.Tensor, reference: torch.Tensor, reading: Reading
) -> tuple[float, float | None]:
    border, (height, width) = reading.border, reference.shape[2:]
    if 2 * border >= min(height, width):
        raise UserError(f"{name}: a border of {border} leaves nothing of {width}x{height} pixels")
    inner = (..., slice(border, height - border), slice(border, width - border))

    def channels(image: torch.Tensor) -> torch.Tensor:
        from pyiqa.utils.color_util import to_y_channel

        image = image if reading.rounded == NOTHING else to_float(to_uint8(image))
        space = CHANNELS[reading.channels]
        levels = 255 * (to_y_channel(image, 1.0, space) if space else image).to(torch.float64)
        return levels.round() if reading.rounded == IMAGES_AND_Y else levels

    error = (channels(restored[inner]) - channels(reference[inner])).square().mean()
    psnr = float(10 * torch.log10(255.0**2 / error))
    try:
        return psnr, float(ssim_in_strips(restored[inner], reference[inner], channels, 255.0))
    except ValueError:  # smaller than the window
        return psnr, None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

"""Read and write images: 8-bit RGB, and for scoring what is the same in 8-bit RGB."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, TiffImagePlugin

from adaptsr.errors import UserError, first_names, one_line
from adaptsr.files import atomic_write
from adaptsr.progress import say_once

MAX_PIXELS = 80_000_000
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")

_KINDS = {
    "1": "a black-and-white image",
    "L": "a grey image",
    "LA": "a grey image with an alpha channel",
    "P": "a palette image",
    "PA": "a palette image",
    "RGBA": "an image with an alpha channel",
    "CMYK": "a CMYK image",
}
_EXACT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Modes whose opaque images become RGB without loss."""


def read_image(path: Path, *, converting: bool = False) -> torch.Tensor:
    """Read an image as it is displayed (with its EXIF orientation applied): uint8 (3, H, W), RGB.

    Takes the first picture of a phone's JPEG with several. Raises `UserError` if the file is not a complete 8-bit RGB image
    of at most `MAX_PIXELS` pixels. converting: also take 8-bit grey, palette and opaque alpha images, which lose nothing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF, which is not read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # From a path, Pillow maps TIFF files, and takes turned ones for as wide as they are high.
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                _refuse_unusable(path, image)
                pixels = np.array(_rgb(path, ImageOps.exif_transpose(image), converting))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"{path}: has more than {MAX_PIXELS} pixels; cut it into smaller images") from None
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise UserError(f"{path}: unreadable or truncated image ({one_line(error)}); replace the file") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def write_png(path: Path, image: torch.Tensor) -> None:
    """Write a uint8 RGB image (3, H, W) atomically; equal images give equal bytes."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"expected uint8 of shape (3, H, W), found {image.dtype} {tuple(image.shape)}")
    with atomic_write(path) as temporary:
        Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy()).save(
            temporary, format="PNG", compress_level=6
        )


def to_float(image: torch.Tensor) -> torch.Tensor:
    """Convert uint8 levels to float32 in [0, 1]."""
    return image.to(torch.float32).div_(255)


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Round values in [0, 1] to the nearest of 256 levels, as uint8."""
    return image.mul(255).round().clamp(0, 255).to(torch.uint8)


def _refuse_unusable(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width}x{height} is more than {MAX_PIXELS} pixels; cut it into smaller images")
    if (bits := bits_of(image)) > 8:
        raise UserError(f"{path}: a {bits}-bit image; convert it to 8-bit RGB")
    if _frames(image) > 1 and image.format != "MPO":
        raise UserError(f"{path}: holds {_frames(image)} images; expected one")


def _rgb(path: Path, image: Image.Image, converting: bool) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if converting and image.mode in _EXACT:
        opaque = image.convert("RGBA")
        if opaque.getchannel("A").getextrema()[0] == 255:
            return opaque.convert("RGB")
    kind = "an image with a transparent color" if image.mode == "RGB" else _KINDS.get(image.mode)
    raise UserError(f"{path}: {kind or f'an image of mode {image.mode}'}; convert it to 8-bit RGB")


def say_second_pictures(paths: Iterable[Path]) -> None:
    """Say of how many JPEG files only the first of several pictures is taken: phones add previews and depth maps."""
    found = [path for path in paths if path.suffix.lower() in (".jpg", ".jpeg") and _has_second_picture(path)]
    if found:
        names = first_names([path.name for path in found])
        say_once(f"{found[0].parent}: JPEG files hold a second picture, the first is taken ({len(found)}): {names}")


def _has_second_picture(path: Path) -> bool:
    with Image.open(path, formats=FORMATS) as image:
        return _frames(image) > 1


def _frames(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def bits_of(image: Image.Image) -> int:
    """Return the bits of a channel in the file, 8 for fewer. Pillow opens RGB files of 16 as `RGB`, without the lower 8."""
    tiles: list[Any] = image.tile  # type: ignore[attr-defined]
    in_file = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE, (8,))
    sixteen = image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in tiles)
    wide = 32 if image.mode in ("I", "F") and image.format != "PNG" else 16 if sixteen or image.mode == "I" else 8
    return max(wide, *map(int, np.atleast_1d(in_file)))

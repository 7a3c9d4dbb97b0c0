"""Read photographs of every kind with what is written about them, and write restored ones with it.

Restored photographs are PNG, which holds all but CMYK; those are TIFF.
"""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from adaptsr.data.images import FORMATS, is_sixteen_bit
from adaptsr.errors import UserError
from adaptsr.files import atomic_write
from adaptsr.restoring.png import Chunk, png_rows

MOST_PIXELS = 170_000_000
"""Larger files are refused, before Pillow does it with words of its own."""
STAMP = "Software"

_ORIENTED: Mapping[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}
"""How an image of each EXIF orientation is turned upright."""
_OF_THE_FILE = frozenset(
    {*range(254, 270), 273, 277, 278, 279, 284, *range(288, 292), *range(320, 326), 330, 332, 338, 339, 347}
    | {*range(512, 522), *range(529, 533), 700, 33723, 34377, 34675}
)
"""TIFF tags that describe how the pixels of that file are stored, or that are kept apart (XMP, ICC)."""


class Kind(NamedTuple):
    """What the channels of a photograph are: pictures of 1 or 3 channels that a model restores, and perhaps alpha.

    inverted: they hold ink instead of light.
    """

    pictures: tuple[tuple[int, ...], ...]
    alpha: int | None = None
    inverted: bool = False


KINDS = {
    "L": Kind(((0,),)),
    "LA": Kind(((0,),), alpha=1),
    "RGB": Kind(((0, 1, 2),)),
    "RGBA": Kind(((0, 1, 2),), alpha=3),
    "CMYK": Kind(((0, 1, 2), (3,)), inverted=True),
}


@dataclass(frozen=True)
class Photograph:
    """A photograph as it is displayed: uint8 or uint16 levels (H, W, channels of `KINDS[mode]`).

    exif, about, texts: what is written about it: EXIF, Pillow's `info` of the file, and the texts of a PNG file.
    """

    path: Path
    mode: str
    levels: NDArray[Any]
    exif: Image.Exif
    about: Mapping[str, Any]
    texts: Mapping[str, str]


def read_photograph(path: Path) -> Photograph:
    """Read a photograph, upright. Raises `UserError` for what is no complete photograph of 8 or 16 bit."""
    with _opened(path) as image:
        mode = _mode(path, image)
        if is_sixteen_bit(image):
            levels = _sixteen_bit_levels(path, image)
        else:
            levels = np.asarray(image if image.mode == mode else image.convert(mode))
        about: dict[Any, Any] = dict(image.info)
        exif, texts = image.getexif(), dict(getattr(image, "text", {}))
        texts.pop("XML:com.adobe.xmp", None)
        for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop):
            with contextlib.suppress(
                Exception
            ):  # damaged by some program, or lacking; TIFF reads it from the open file
                exif.get_ifd(part)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    levels = levels.reshape(*levels.shape[:2], -1)
    return Photograph(path, mode, _ORIENTED.get(orientation, np.asarray)(levels), exif, about, texts)


def described(path: Path) -> tuple[str, int]:
    """Return the kind (a key of `KINDS`) and the number of pixels of a photograph without reading its pixels.

    Raises `UserError` for what is no photograph of 8 or 16 bit.
    """
    with _opened(path) as image:
        return _mode(path, image), image.width * image.height


def suffix_of(mode: str) -> str:
    """Return the suffix of a restored photograph of this kind."""
    return ".tif" if mode == "CMYK" else ".png"


def read_stamp(path: Path) -> str:
    """Return what a file says it was made by; an empty text if it says nothing or is no image."""
    try:
        with Image.open(path) as image:
            tags: Any = getattr(image, "tag_v2", {})
            return str(image.info.get(STAMP) or tags.get(TiffImagePlugin.SOFTWARE, ""))
    except (OSError, Image.DecompressionBombError):
        return ""


def write_photograph(
    path: Path, photograph: Photograph, size: tuple[int, int], bands: Iterator[NDArray[Any]], stamp: str
) -> None:
    """Write the restored `bands` of a photograph, from top to bottom, atomically, with all that was known about it.

    size: width and height. stamp: is kept in the file, for `read_stamp`.
    """
    with atomic_write(path) as temporary:
        if photograph.mode == "CMYK":
            _write_tiff(temporary, photograph, size, bands, stamp)
            return
        chunks = _chunks(photograph, size, stamp)
        with png_rows(temporary, size, photograph.mode, photograph.levels.dtype, chunks) as write:
            for band in bands:
                write(band)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a photograph; expected {', '.join(FORMATS)}") from None
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{path}: has more than {MOST_PIXELS} pixels; cut it into smaller images") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: unreadable or truncated image ({reason}); replace the file") from None


def _mode(path: Path, image: Image.Image) -> str:
    """Return the kind of photograph that keeps what an image holds."""
    if image.width * image.height > MOST_PIXELS:
        raise UserError(
            f"{path}: {image.width}x{image.height} is more than {MOST_PIXELS} pixels; cut it into smaller images"
        )
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # of a phone's several pictures, the first
        raise UserError(f"{path}: holds several images; give each as a file")
    transparent = "transparency" in image.info or image.mode == "PA"
    kinds = {"1": "L", "L": "L", "I;16": "L", "I;16B": "L", "LA": "LA", "P": "RGB", "PA": "RGB", "RGB": "RGB"}
    mode = {**kinds, "RGBA": "RGBA", "CMYK": "CMYK"}.get(image.mode)
    if mode is None or (mode == "CMYK" and is_sixteen_bit(image)):
        depth = "16-bit " if is_sixteen_bit(image) else ""
        raise UserError(
            f"{path}: a {depth}image of mode {image.mode}; convert it to grey or RGB of 8 or 16 bit, or to 8-bit CMYK"
        )
    return f"{mode}A" if transparent and mode in ("L", "RGB") else mode


def _sixteen_bit_levels(path: Path, image: Image.Image) -> NDArray[Any]:
    """Return all 16 bits, uint16. Pillow reads them of grey images only."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 3:
        raise UserError(f"{path}: unreadable or truncated 16-bit image; replace the file, or convert it to PNG")
    order = {"LA": [0, 3], "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}[image.mode]
    return np.asarray(levels)[..., order]


def _exif(photograph: Photograph, size: tuple[int, int]) -> Image.Exif:
    """Return the EXIF of the restored photograph, which is upright and of this size."""
    exif = photograph.exif
    try:
        details = exif.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in exif else {}
        for tag in [tag for tag in exif if tag in _OF_THE_FILE]:
            del exif[tag]
        if exif:
            exif[ExifTags.Base.Orientation] = 1
        for tag, length in zip((ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight), size, strict=True):
            if tag in details:
                details[tag] = length
        exif.tobytes()
    except Exception:  # some cameras write EXIF that cannot be written again
        return Image.Exif()
    return exif


def _xmp(about: Mapping[str, Any]) -> bytes:
    xmp = about.get("xmp", b"")
    content = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    return re.sub(rb'(tiff:Orientation(?:="|>))[0-9]', rb"\g<1>1", content)


def _chunks(photograph: Photograph, size: tuple[int, int], stamp: str) -> Iterator[Chunk]:
    about = photograph.about
    if icc := about.get("icc_profile"):
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)
    elif "srgb" in about:
        yield b"sRGB", bytes([about["srgb"]])
    for name, key in ((b"gAMA", "gamma"), (b"cHRM", "chromaticity")):
        if key in about:
            values = np.atleast_1d(about[key])
            yield name, struct.pack(f">{len(values)}I", *(round(100_000 * float(value)) for value in values))
    if "dpi" in about:
        yield b"pHYs", struct.pack(">IIB", *(max(1, round(float(dots) / 0.0254)) for dots in about["dpi"]), 1)
    if exif := _exif(photograph, size):
        yield b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")
    texts = PngImagePlugin.PngInfo()
    if isinstance(comment := about.get("comment"), bytes):
        texts.add_text("Comment", comment.decode(errors="replace"))
    if xmp := _xmp(about):
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    for key, text in {**photograph.texts, STAMP: stamp}.items():
        texts.add_text(key, text)
    yield from ((chunk[0], chunk[1]) for chunk in texts.chunks)


def _write_tiff(
    path: Path, photograph: Photograph, size: tuple[int, int], bands: Iterator[NDArray[Any]], stamp: str
) -> None:
    exif = _exif(photograph, size)
    exif[TiffImagePlugin.SOFTWARE] = stamp
    if xmp := _xmp(photograph.about):
        exif[TiffImagePlugin.XMP] = xmp
    image = Image.fromarray(np.ascontiguousarray(np.concatenate(list(bands))), mode=photograph.mode)
    known = {key: photograph.about[key] for key in ("icc_profile", "dpi") if key in photograph.about}
    image.save(path, format="TIFF", exif=exif.tobytes(), **known)  # compressed, Pillow would lose parts of EXIF

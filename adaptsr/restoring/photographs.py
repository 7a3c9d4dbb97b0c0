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

from adaptsr.data.images import FORMATS, bits_of
from adaptsr.errors import UserError, one_line
from adaptsr.files import atomic_write, size_text
from adaptsr.progress import say_once
from adaptsr.restoring.png import Chunk, png_rows

MOST_PIXELS = 170_000_000
"""Larger files are refused, before Pillow does it with words of its own."""
STAMP = "Software"
STAMPED = "adaptsr: "
"""How the stamps of this command begin."""

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
        if bits_of(image) == 16:
            levels = _sixteen_bit_levels(path, image, mode)
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
    return Photograph(path, mode, _upright(levels, orientation), exif, about, texts)


def _upright(levels: NDArray[Any], orientation: int) -> NDArray[Any]:
    turned: NDArray[Any] = _ORIENTED.get(orientation, np.asarray)(levels)
    return turned


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
        with _of_any_size(), Image.open(path) as image:
            tags: Any = getattr(image, "tag_v2", {})
            return str(image.info.get(STAMP) or tags.get(TiffImagePlugin.SOFTWARE, ""))
    except Exception:  # Pillow raises almost anything on files of others
        return ""


def is_restored(path: Path) -> bool:
    """Return whether a file is what this command made of a photograph."""
    return read_stamp(path).startswith(STAMPED)


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
def _of_any_size() -> Iterator[None]:
    """Let Pillow open what is restored from the largest photographs: many times `MOST_PIXELS`."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # From a path, Pillow maps TIFF files, and takes turned ones for as wide as they are high.
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                yield image
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a photograph; expected {', '.join(FORMATS)}") from None
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{path}: has more than {MOST_PIXELS} pixels; cut it into smaller images") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        reason = one_line(error)
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
    bits = bits_of(image)
    if mode is None or bits not in (8, 16) or (mode == "CMYK" and bits == 16):
        raise UserError(
            f"{path}: an image of mode {image.mode} with {bits} bits a channel; convert it to grey or RGB of 8 or 16 bit, or to 8-bit CMYK"
        )
    return f"{mode}A" if transparent and mode in ("L", "RGB") else mode


def _sixteen_bit_levels(path: Path, image: Image.Image, mode: str) -> NDArray[Any]:
    """Return all 16 bits as displayed but for the orientation that `image` still has, uint16.

    Pillow reads them of grey images only. OpenCV's reading of others counts if its upper 8 bits are what Pillow displays: it
    turns some images by itself, and knows no planes, no alpha that colors were multiplied by, and no transparent color.
    """
    tags: Any = getattr(image, "tag_v2", {})
    levels: NDArray[Any] | None
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.uint16)
        levels = 65535 - levels if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 else levels
    else:
        order = {"LA": [0, 3], "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}[image.mode]
        turned = tags.get(ExifTags.Base.Orientation, 1)  # Pillow turns TIFF images when it loads them
        shown = np.asarray(image)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it cannot read is said below
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        found = (
            read[..., order]
            if read is not None and read.dtype == np.uint16 and read.ndim == 3 and read.shape[2] > max(order)
            else None
        )
        ways = [] if found is None else [found, _upright(found, turned)]
        levels = next((way for way in ways if way.shape == shown.shape and np.array_equal(way >> 8, shown)), None)
    if levels is None or tags.get(_EXTRA_SAMPLES, (0,))[0] == _MULTIPLIED:
        raise UserError(
            f"{path}: a 16-bit image that cannot be read, truncated or of a rare kind; convert it to PNG of 16 bit"
        )
    if mode.endswith("A") and not image.mode.endswith("A"):
        levels = levels.reshape(*levels.shape[:2], -1)
        visible = (levels != np.asarray(image.info["transparency"])).any(axis=-1, keepdims=True)
        levels = np.concatenate([levels, visible.astype(np.uint16) * 65535], axis=-1)
    return levels


_EXTRA_SAMPLES, _MULTIPLIED = 338, 1
"""The TIFF tag that says what an alpha channel is, and its value where colors were multiplied by it."""


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


def _dpi(about: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the resolution if it is one that a file can hold; some cameras and programs write 0/0."""
    dpi = tuple(float(dots) for dots in about.get("dpi", ()))
    return dpi if len(dpi) == 2 and all(0 < dots < 1e6 for dots in dpi) else ()


def _chunks(photograph: Photograph, size: tuple[int, int], stamp: str) -> Iterator[Chunk]:
    about = photograph.about
    icc = about.get("icc_profile")
    if icc and len(icc) > PngImagePlugin.MAX_TEXT_CHUNK:
        say_once(
            f"{photograph.path}: its color profile of {size_text(len(icc))} is more than readers of PNG take; it is left out"
        )
    elif icc:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)
    elif "srgb" in about:
        yield b"sRGB", bytes([about["srgb"]])
    for name, key in ((b"gAMA", "gamma"), (b"cHRM", "chromaticity")):
        if key in about:
            values = np.atleast_1d(about[key])
            yield name, struct.pack(f">{len(values)}I", *(round(100_000 * float(value)) for value in values))
    if dpi := _dpi(about):
        yield b"pHYs", struct.pack(">IIB", *(max(1, round(dots / 0.0254)) for dots in dpi), 1)
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
    about = {"icc_profile": photograph.about.get("icc_profile"), "dpi": _dpi(photograph.about)}
    known = {key: value for key, value in about.items() if value}
    image.save(path, format="TIFF", exif=exif.tobytes(), **known)  # compressed, Pillow would lose parts of EXIF

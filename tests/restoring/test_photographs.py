"""Photographs of every kind come back of the same kind, with what is written about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from adaptsr.restoring.folders import restore_photographs
from adaptsr.restoring.models import Restorer
from adaptsr.restoring.photographs import read_photograph
from tests.factories import refusal

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="Pier"/></x:xmpmeta>'


def drawn(channels: int, dtype: type = np.uint8, size: tuple[int, int] = (21, 34)) -> NDArray[Any]:
    most = np.iinfo(dtype).max
    levels = np.random.default_rng(1).integers(0, int(most) + 1, (*size, channels), dtype=dtype)
    return levels[..., 0] if channels == 1 else levels


def doubled(levels: NDArray[Any]) -> NDArray[Any]:
    return levels.repeat(2, axis=0).repeat(2, axis=1)


def restored(doubling: Restorer, path: Path) -> Path:
    jobs, problems = restore_photographs(doubling, [path], path.parent / "out", lambda line: None)
    assert problems == []
    return jobs[0].target


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("RGB", ".png", {}),
        ("RGB", ".bmp", {}),
        ("RGB", ".tif", {"compression": "tiff_lzw"}),
        ("RGB", ".webp", {"lossless": True}),
        ("L", ".png", {}),
        ("L", ".tif", {}),
        ("CMYK", ".tif", {}),
    ],
)
def test_eight_bit(doubling: Restorer, tmp_path: Path, mode: str, suffix: str, options: dict[str, Any]) -> None:
    levels = drawn(len(Image.new(mode, (1, 1)).getbands()))
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(levels, mode).save(path, **options)
    with Image.open(restored(doubling, path)) as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), doubled(levels))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_enlarged_and_flat_alpha_stays_flat(doubling: Restorer, tmp_path: Path, mode: str) -> None:
    levels = drawn(len(mode))
    levels[..., -1] = 255
    levels[:, 20:, -1] = 0
    Image.fromarray(levels, mode).save(tmp_path / "photo.png")
    with Image.open(restored(doubling, tmp_path / "photo.png")) as image:
        found = np.asarray(image)
        assert image.mode == mode
    assert np.array_equal(found[..., :-1], doubled(levels[..., :-1]))
    assert (found[:, :36, -1] == 255).all()
    assert (found[:, 44:, -1] == 0).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit(doubling: Restorer, tmp_path: Path, channels: int, suffix: str) -> None:
    levels = drawn(channels, np.uint16)
    if channels == 4:
        levels[..., 3] = 65535
    path = tmp_path / f"photo{suffix}"
    assert cv2.imwrite(str(path), levels)
    found = cv2.imread(str(restored(doubling, path)), cv2.IMREAD_UNCHANGED)
    assert found is not None
    assert found.dtype == np.uint16
    assert np.array_equal(found, doubled(levels))


def test_palettes_become_the_colors_they_stand_for(doubling: Restorer, tmp_path: Path) -> None:
    image = Image.fromarray(drawn(3)).quantize(16)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=3)
    for name, mode in (("opaque", "RGB"), ("clear", "RGBA")):
        with Image.open(restored(doubling, tmp_path / f"{name}.png")) as found:
            assert found.mode == mode
            assert np.array_equal(np.asarray(found.convert("RGB")), doubled(np.asarray(image.convert("RGB"))))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(doubling: Restorer, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(drawn(3)).save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as image:
        seen = np.asarray(ImageOps.exif_transpose(image))
    with Image.open(restored(doubling, tmp_path / "photo.png")) as image:
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), doubled(seen))
        assert np.array_equal(np.asarray(image), doubled(seen))


def exif_of_a_camera() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Lochkamera"
    exif[ExifTags.Base.Orientation] = 6
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExposureTime] = 0.008
    details[ExifTags.Base.ExifImageWidth] = 34
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return exif


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", ".jpg"), ("L", ".jpg"), ("CMYK", ".jpg"), ("RGB", ".tif"), ("RGB", ".webp"), ("L", ".png")],
)
def test_what_is_written_about_a_photograph_is_kept(doubling: Restorer, tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.new(mode, (34, 21)).save(path, exif=exif_of_a_camera().tobytes(), icc_profile=ICC, xmp=XMP, dpi=(300, 300))
    with Image.open(path) as image:
        has_xmp, has_dpi = "xmp" in image.info, "dpi" in image.info
    with Image.open(restored(doubling, path)) as image:
        assert image.size == (42, 68)
        assert image.info["icc_profile"] == ICC
        exif = image.getexif()
        assert exif[ExifTags.Base.Make] == "Lochkamera"
        assert exif[ExifTags.Base.Orientation] == 1
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert float(details[ExifTags.Base.ExposureTime]) == pytest.approx(0.008)
        assert details[ExifTags.Base.ExifImageWidth] == 42
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        if has_xmp:
            assert image.info["xmp"] == XMP.replace(b'"6"', b'"1"')
        if has_dpi:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_texts_of_png_and_comments_of_jpeg_are_kept(doubling: Restorer, tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("Title", "Kai bei Nacht, 夜")
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png", pnginfo=texts)
    Image.new("RGB", (8, 8)).save(tmp_path / "two.jpg", comment="by the pier")
    with Image.open(restored(doubling, tmp_path / "one.png")) as image:
        assert image.info["Title"] == "Kai bei Nacht, 夜"
    with Image.open(restored(doubling, tmp_path / "two.jpg")) as image:
        assert image.info["Comment"] == "by the pier"


def test_of_a_phones_two_pictures_the_first_is_taken(doubling: Restorer, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (4, 4))
    first.save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[second])
    with Image.open(restored(doubling, tmp_path / "photo.jpg")) as image:
        assert image.size == (16, 16)
        assert image.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("film.mp4", lambda path: path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(99)), "not a photograph"),
        ("many.tif", lambda path: Image.new("L", (8, 8)).save(path, save_all=True, append_images=[Image.new("L", (8, 8))]), "several images"),
        ("float.tif", lambda path: Image.new("F", (8, 8)).save(path), "mode F"),
        ("cut.png", lambda path: path.write_bytes(_png()[:200]), "unreadable or truncated"),
        ("none.png", lambda path: None, "no such file"),
    ],
)  # fmt: skip
def test_what_is_no_photograph_is_refused(tmp_path: Path, name: str, write: Any, reason: str) -> None:
    write(tmp_path / name)
    said = refusal(lambda: read_photograph(tmp_path / name))
    assert name in said
    assert reason in said


def _png() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(drawn(3)).save(buffer, "PNG")
    return buffer.getvalue()


def test_large_photographs_are_refused_in_our_words(tmp_path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "wall.png")
    assert "cut it into smaller images" in refusal(lambda: read_photograph(tmp_path / "wall.png"))

"""Photographs of rare kinds are restored as they are displayed, or refused: never turned, scrambled or dark."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from adaptsr.data.images import read_image
from adaptsr.restoring.folders import restore_photographs
from adaptsr.restoring.models import Restorer
from adaptsr.restoring.photographs import read_photograph, read_stamp
from tests.factories import refusal

HEIGHT, WIDTH = 40, 56
_Y, _X = np.mgrid[:HEIGHT, :WIDTH]
UPRIGHT = np.stack([40 + 3 * _X, 60 + 3 * _Y, 200 - 2 * _X], axis=-1).clip(0, 255).astype(np.uint8)
DEEP = UPRIGHT.astype(np.uint16) * 257
STORED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}
"""How an upright image lies in a file of each EXIF orientation."""


def stored(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    return np.ascontiguousarray(STORED[orientation](image))


def write_deep(path: Path, levels: NDArray[Any], orientation: int = 1, **options: Any) -> Path:
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(path, stored(levels, orientation), extratags=tags, **{"photometric": "rgb", **options})
    return path


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_turned_tiff_images_are_upright(tmp_path: Path, mode: str, orientation: int) -> None:
    """From a path, Pillow maps uncompressed files and takes width for height."""
    whole = Image.fromarray(UPRIGHT).convert(mode)
    path = tmp_path / "photo.tif"
    turned = Image.fromarray(stored(np.asarray(whole), orientation), mode)
    if mode == "P":
        turned.putpalette(whole.getpalette() or [])
    turned.save(path, tiffinfo={274: orientation})
    shown = whole.convert("RGB") if mode == "P" else whole
    assert np.array_equal(read_photograph(path).levels.squeeze(), np.asarray(shown))
    if mode in ("RGB", "L", "P"):
        rgb = torch.from_numpy(np.asarray(whole.convert("RGB")).copy()).permute(2, 0, 1)
        assert torch.equal(read_image(path, converting=True), rgb)


@pytest.mark.parametrize("orientation", STORED)
def test_turned_tiff_images_of_sixteen_bit_are_upright_or_refused(tmp_path: Path, orientation: int) -> None:
    grey = write_deep(tmp_path / "grey.tif", DEEP[..., 0], orientation, photometric="minisblack")
    assert np.array_equal(read_photograph(grey).levels[..., 0], DEEP[..., 0])
    color = write_deep(tmp_path / "color.tif", DEEP, orientation)
    if orientation < 5:
        assert np.array_equal(read_photograph(color).levels, DEEP)
    else:
        assert "convert it to PNG of 16 bit" in refusal(lambda: read_photograph(color))


def test_planes_and_multiplied_colors_are_refused_and_ink_is_light(tmp_path: Path) -> None:
    planes = np.moveaxis(DEEP, -1, 0)
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    half = np.full((HEIGHT, WIDTH, 1), 128 * 257, np.uint16)
    write_deep(tmp_path / "dark.tif", np.concatenate([DEEP // 2, half], axis=-1), extrasamples=["assocalpha"])
    for name in ("planes.tif", "dark.tif"):
        assert "of a rare kind; convert it to PNG of 16 bit" in refusal(
            lambda name=name: read_photograph(tmp_path / name)
        )
        assert "a 16-bit image; convert it to 8-bit RGB" in refusal(lambda name=name: read_image(tmp_path / name))
    ink = write_deep(tmp_path / "ink.tif", 65535 - DEEP[..., 0], photometric="miniswhite")
    assert np.array_equal(read_photograph(ink).levels[..., 0], DEEP[..., 0])
    clear = write_deep(tmp_path / "clear.tif", np.concatenate([DEEP, half], axis=-1), extrasamples=["unassalpha"])
    assert np.array_equal(read_photograph(clear).levels, np.concatenate([DEEP, half], axis=-1))


@pytest.mark.parametrize(
    "levels", [DEEP[..., 0].astype(np.float32), DEEP[..., 0].astype(np.int32)], ids=["float", "int32"]
)
def test_thirty_two_bits_are_named_as_such(tmp_path: Path, levels: NDArray[Any]) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", levels)
    assert "with 32 bits a channel" in refusal(lambda: read_photograph(tmp_path / "deep.tif"))
    assert "a 32-bit image" in refusal(lambda: read_image(tmp_path / "deep.tif"))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_color_of_sixteen_bit_is_transparent(doubling: Restorer, tmp_path: Path, channels: int) -> None:
    levels = DEEP[..., :channels].copy()
    levels[3, 5] = range(7, 7 + channels)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 0 if channels == 1 else 2, 0, 0, 0)
    color = struct.pack(f">{channels}H", *range(7, 7 + channels))
    chunks = chunk(b"IHDR", header) + chunk(b"tRNS", color) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "clear.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    read = read_photograph(tmp_path / "clear.png")
    assert np.array_equal(read.levels[..., :channels], levels)
    assert np.array_equal(read.levels[..., channels] == 0, (np.arange(HEIGHT)[:, None] == 3) & (np.arange(WIDTH) == 5))
    jobs, problems = restore_photographs(doubling, [tmp_path / "clear.png"], tmp_path / "out", lambda line: None)
    assert (len(jobs), problems) == (1, [])


@pytest.mark.parametrize("resolution", [(0, 0), (0, 1), (4_294_967_295, 1)])
def test_a_resolution_that_is_none_is_left_out(doubling: Restorer, tmp_path: Path, resolution: tuple[int, int]) -> None:
    tags = [(282, "2I", 1, resolution, True), (283, "2I", 1, resolution, True), (296, "H", 1, 2, True)]
    tifffile.imwrite(tmp_path / "photo.tif", UPRIGHT, photometric="rgb", extratags=tags)
    Image.fromarray(UPRIGHT).convert("CMYK").save(tmp_path / "ink.tif", tiffinfo={282: 0.0, 283: 0.0, 296: 2})
    sources = [tmp_path / "photo.tif", tmp_path / "ink.tif"]
    jobs, problems = restore_photographs(doubling, sources, tmp_path / "out", lambda line: None)
    assert (len(jobs), problems) == (2, [])


def test_a_color_profile_that_readers_refuse_is_left_out_and_said(
    doubling: Restorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = profile + bytes(PngImagePlugin.MAX_TEXT_CHUNK)
    Image.fromarray(UPRIGHT).save(tmp_path / "photo.jpg", icc_profile=large)
    for _ in range(2):
        jobs, problems = restore_photographs(doubling, [tmp_path / "photo.jpg"], tmp_path / "out", lambda line: None)
        assert (len(jobs), problems) == (1, [])
        with Image.open(jobs[0].target) as image:
            assert image.size == (2 * WIDTH, 2 * HEIGHT)
    assert "photo.jpg: its color profile of 1.0 MB" in capsys.readouterr().err


def test_one_photograph_that_fails_leaves_the_others(
    doubling: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        Image.fromarray(UPRIGHT).save(tmp_path / f"{name}.png")
    read = read_photograph

    def fail(path: Path) -> Any:
        if path.stem == "a":
            raise ZeroDivisionError("of a kind\nthat nobody knows")
        return read(path)

    monkeypatch.setattr("adaptsr.restoring.folders.read_photograph", fail)
    jobs, problems = restore_photographs(doubling, [tmp_path], tmp_path / "out", lambda line: None)
    assert [job.source.name for job in jobs] == ["b.png"]
    assert problems == [f"{tmp_path}/a.png: cannot be restored (ZeroDivisionError: of a kind that nobody knows)"]


def test_names_of_many_bytes_are_restored(doubling: Restorer, tmp_path: Path) -> None:
    path = tmp_path / f"{'照' * 78}.png"
    Image.fromarray(UPRIGHT).save(path)
    jobs, problems = restore_photographs(doubling, [path], tmp_path / "out", lambda line: None)
    assert (len(jobs), problems) == (1, [])


def test_what_is_larger_than_pillow_opens_is_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text("Software", "adaptsr: made")
    Image.fromarray(UPRIGHT).save(tmp_path / "large.png", pnginfo=about)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_stamp(tmp_path / "large.png") == "adaptsr: made"
    assert Image.MAX_IMAGE_PIXELS == 100


def test_restoring_into_the_photographs_own_folder_can_be_repeated(doubling: Restorer, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(UPRIGHT).save(tmp_path / name)
    for _ in range(2):
        jobs, problems = restore_photographs(doubling, [tmp_path], tmp_path, lambda line: None)
        assert (sorted(job.target.name for job in jobs), problems) == (["a.png", "b.png"], [])
    jobs, problems = restore_photographs(doubling, [tmp_path / "a.png"], tmp_path / "again", lambda line: None)
    assert (len(jobs), problems) == (1, []), "what was restored may be restored again"


def test_two_photographs_of_one_name_leave_the_others(doubling: Restorer, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        Image.fromarray(UPRIGHT).save(tmp_path / name)
    jobs, problems = restore_photographs(doubling, [tmp_path], tmp_path / "out", lambda line: None)
    assert [job.source.name for job in jobs] == ["a.jpg", "b.png"]
    assert len(problems) == 1
    assert "a.png: has the same name as" in problems[0]

"""Images come in as 8-bit RGB or not at all, and go out whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from adaptsr.data.images import read_image, say_second_pictures, to_float, to_uint8, write_png
from tests.factories import cut, noise, refusal

PICTURE = noise("picture", 17, 23)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", PICTURE)
    read = read_image(tmp_path / "a.png")
    assert read.dtype == torch.uint8
    assert read.is_contiguous()
    assert torch.equal(read, PICTURE)


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    """OpenCV, which counts blue, green, red, is the independent writer."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 5, 3), (10, 20, 30), np.uint8))
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [30, 20, 10]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(self: Image.Image, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", torn)
    with pytest.raises(OSError, match="disk full"):
        write_png(tmp_path / "a.png", PICTURE)
    assert list(tmp_path.iterdir()) == []


def test_only_uint8_rgb_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "a.png", torch.zeros(3, 4, 4))


def of_mode(mode: str, **options: object) -> Callable[[Path], None]:
    return lambda path: Image.new(mode, (8, 8)).save(path, **options)


def of_16_bit(path: Path) -> None:
    """Pillow opens it, as 8-bit."""
    cv2.imwrite(str(path), np.full((8, 8, 3), 40000, np.uint16))


def animated(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])


def damaged(path: Path) -> None:
    write_png(path, noise("damaged", 17, 23))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(40) + content[middle + 40 :])


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.png", of_mode("L"), "a grey image"),
        ("a.png", of_mode("1"), "black-and-white"),
        ("a.png", of_mode("P"), "a palette image"),
        ("a.png", of_mode("RGBA"), "alpha"),
        ("a.png", of_mode("LA"), "alpha"),
        ("a.png", of_mode("RGB", transparency=(0, 0, 0)), "transparent"),
        ("a.png", of_mode("I;16"), "16-bit"),
        ("a.png", of_16_bit, "a 16-bit image|unreadable"),
        ("a.tiff", of_16_bit, "a 16-bit image|unreadable"),
        ("a.jpg", of_mode("CMYK"), "CMYK"),
        ("a.tiff", animated, "holds 2 images"),
        ("a.png", damaged, "unreadable or truncated"),
        ("a.png", Path.mkdir, "no such image file"),
        ("a.png", lambda path: None, "no such image file"),
    ],
)
def test_other_images_are_refused_by_name(
    tmp_path: Path, name: str, write: Callable[[Path], object], said: str
) -> None:
    write(tmp_path / name)
    assert re.search(f"^{tmp_path / name}: .*({said})", refusal(lambda: read_image(tmp_path / name)))


def of_a_phone(path: Path) -> None:
    """A JPEG with a second picture, as phones write previews and gain maps."""
    Image.new("RGB", (8, 6), "red").save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 3), "blue")])


def test_the_first_picture_of_a_phones_jpeg_is_taken_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{name}.jpg" for name in "abcde"]
    for path in paths[:4]:
        of_a_phone(path)
    Image.new("RGB", (8, 6)).save(paths[4])
    red, _, blue = read_image(paths[0]).to(torch.float32).mean(dim=(1, 2)).tolist()
    assert red > 200 > 50 > blue
    for _ in range(2):
        say_second_pictures(paths)
    said = f"{tmp_path}: JPEG files hold a second picture, the first is taken (4): a.jpg, b.jpg, c.jpg and 1 more\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("mode", "level", "rgb"),
    [
        ("L", 7, (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
        ("LA", (7, 255), (7, 7, 7)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("P", 0, (0, 0, 0)),
        ("RGBA", (1, 2, 3, 254), "an image with an alpha channel; convert it to 8-bit RGB"),
        ("I;16", 7, "a 16-bit image"),
        ("CMYK", (1, 2, 3, 4), "a CMYK image"),
    ],
)
def test_for_scoring_what_loses_nothing_is_converted(tmp_path: Path, mode: str, level: object, rgb: object) -> None:
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    Image.new(mode, (8, 6), level).save(path)
    if isinstance(rgb, str):
        assert rgb in refusal(lambda: read_image(path, converting=True))
    else:
        assert read_image(path, converting=True)[:, 0, 0].tolist() == list(rgb)
        assert "convert it to 8-bit RGB" in refusal(lambda: read_image(path))


@pytest.mark.parametrize("format_", ["png", "jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, format_: str, kept: float) -> None:
    path = tmp_path / f"a.{format_}"
    Image.effect_noise((64, 64), 80).convert("RGB").save(path)
    path.write_bytes(cut(path.read_bytes(), kept))
    assert "unreadable or truncated" in refusal(lambda: read_image(path))


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 20, 10)


def test_all_levels_survive_the_way_to_float_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert torch.equal(to_uint8(torch.tensor([-0.1, 1.1])), torch.tensor([0, 255], dtype=torch.uint8))

"""Images come in as 8-bit RGB or not at all, and go out whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from adaptsr.data import images
from adaptsr.data.images import read_image, to_float, to_uint8, write_png
from adaptsr.errors import UserError


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.randint(0, 256, (3, 17, 23), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_what_is_written_is_read(tmp_path: Path, picture: torch.Tensor) -> None:
    write_png(tmp_path / "a.png", picture)
    read = read_image(tmp_path / "a.png")
    assert read.dtype == torch.uint8
    assert read.is_contiguous()
    assert torch.equal(read, picture)


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    """OpenCV, which counts blue, green, red, is the independent writer."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 5, 3), (10, 20, 30), np.uint8))
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [30, 20, 10]


def test_same_image_same_bytes(tmp_path: Path, picture: torch.Tensor) -> None:
    write_png(tmp_path / "a.png", picture)
    write_png(tmp_path / "b.png", picture.clone())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_failed_write_leaves_nothing(tmp_path: Path, picture: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(self: Image.Image, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", torn)
    with pytest.raises(OSError, match="disk full"):
        write_png(tmp_path / "a.png", picture)
    assert list(tmp_path.iterdir()) == []


def test_only_uint8_rgb_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "a.png", torch.zeros(3, 4, 4))


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("L", "a grey image"),
        ("1", "black-and-white"),
        ("P", "a palette image"),
        ("RGBA", "alpha"),
        ("LA", "alpha"),
        ("I;16", "16-bit"),
    ],
)
def test_other_kinds_of_images_are_refused_by_name(tmp_path: Path, mode: str, said: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=said) as caught:
        read_image(tmp_path / "a.png")
    assert str(caught.value).startswith(f"{tmp_path / 'a.png'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_rgb_is_refused_although_pillow_opens_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), np.full((8, 8, 3), 40000, np.uint16))
    with pytest.raises(UserError, match=r"a 16-bit image|unreadable"):
        read_image(path)


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="CMYK"):
        read_image(tmp_path / "a.jpg")


def test_transparent_color_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", transparency=(0, 0, 0))
    with pytest.raises(UserError, match="transparent"):
        read_image(tmp_path / "a.png")


def test_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="holds 2 images"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("format_", ["png", "jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, format_: str, kept: float) -> None:
    path = tmp_path / f"a.{format_}"
    Image.effect_noise((64, 64), 80).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match="unreadable or truncated"):
        read_image(path)


def test_damaged_data_is_refused(tmp_path: Path, picture: torch.Tensor) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match="unreadable or truncated"):
        read_image(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(UserError, match="no such image file"):
            read_image(path)


def test_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(UserError, match="unreadable"):
        read_image(tmp_path / "a.png")


def test_absurd_dimensions_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="64x64 is more than 1000 pixels"):
        read_image(tmp_path / "a.png")


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    """A header of 40000x40000 pixels: Pillow's own guard, as one line."""
    path = tmp_path / "a.bmp"
    Image.new("RGB", (4, 4)).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = (40000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(UserError, match="more than 80000000 pixels"):
        read_image(path)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 20, 10)


def test_all_levels_survive_the_way_to_float_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert torch.equal(to_uint8(torch.tensor([-0.1, 1.1])), torch.tensor([0, 255], dtype=torch.uint8))

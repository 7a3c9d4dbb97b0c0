"""Folders of images that mean harm: one line says what was refused."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptsr.data.images import read_image
from adaptsr.data.prepare import prepare
from tests.factories import HOSTILE_NAMES, pairs_of, refusal, write_pair, write_pairs


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes = b"", extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "just too many pixels": (lambda: png(10_000, 8_001), "more than 80000000 pixels"),
    "no pixels": (lambda: png(0, 0), "unreadable or truncated"),
    "less pixel data than it claims": (lambda: png(640, 640, zlib.compress(bytes(100))), "unreadable or truncated"),
    "a text chunk that is a bomb": (
        lambda: png(8, 8, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20)))),
        "unreadable or truncated",
    ),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "unreadable or truncated"),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "unreadable or"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(tmp_path: Path, case: str) -> None:
    make, said = IMAGES[case]
    path = tmp_path / "x.png"
    path.write_bytes(make())
    message = refusal(lambda: read_image(path))
    assert str(path) in message
    assert said in message


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_message_about_a_file_of_any_name_is_one_line(tmp_path: Path, name: str) -> None:
    write_pair(tmp_path, name)
    (tmp_path / f"lr/{name}.png").write_bytes(b"")
    refusal(lambda: prepare("camera", pairs_of(tmp_path), tmp_path / "prepared", 4))


LINKS: dict[str, Callable[[Path], object]] = {
    "absolute": lambda path: path.symlink_to("/etc/hostname"),
    "relative": lambda path: path.symlink_to("../../outside.png"),
    "to a device": lambda path: path.symlink_to("/dev/zero"),
    "to itself": lambda path: path.symlink_to("b.png"),
    "to nothing": lambda path: path.symlink_to("nowhere"),
    "a pipe, which would never end": os.mkfifo,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", LINKS)
def test_links_and_pipes_in_a_data_folder(tmp_path: Path, case: str) -> None:
    write_pairs(tmp_path / "pairs", "ab")
    path = tmp_path / "pairs/lr/b.png"
    path.rename(tmp_path / "outside.png")
    LINKS[case](path)
    assert "LR b.png" in refusal(lambda: prepare("camera", pairs_of(tmp_path / "pairs"), tmp_path / "prepared", 4))


def test_a_name_that_is_not_utf_8_is_refused_before_any_work(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"])
    for side in ("lr", "hr"):
        (tmp_path / side / "a.png").rename(tmp_path / side / os.fsdecode(b"caf\xe9.png"))
    said = refusal(lambda: prepare("d", pairs_of(tmp_path), tmp_path / "out", 4))
    assert "its name is not UTF-8; rename it" in said

"""Write PNG files row by row: grey or color, with alpha, 8 or 16 bit, of any size; Pillow writes no 16-bit color."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

COLOR_TYPES = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ABOVE = 2
"""The row filter that stores the difference from the row above."""
_LEVEL = 4
_ROWS = 64

Chunk = tuple[bytes, bytes]
"""Its four-letter name and its content."""


@contextmanager
def png_rows(
    path: Path, size: tuple[int, int], mode: str, dtype: np.dtype[Any], chunks: Iterable[Chunk]
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Open a PNG file of `size` (width, height) and yield the function that takes its rows (H, W, channels) from the top.

    dtype: uint8 or uint16. chunks: are written before the pixels.
    """
    with path.open("wb") as file:
        file.write(_SIGNATURE)
        _write(file, b"IHDR", struct.pack(">IIBBBBB", *size, 8 * dtype.itemsize, COLOR_TYPES[mode], 0, 0, 0))
        for name, content in chunks:
            _write(file, name, content)
        deflate = zlib.compressobj(_LEVEL)
        above = np.zeros(1, np.uint8)

        def write(rows: NDArray[Any]) -> None:
            nonlocal above
            for start in range(0, len(rows), _ROWS):
                part = rows[start : start + _ROWS]
                levels = np.ascontiguousarray(part.astype(dtype.newbyteorder(">"))).view(np.uint8)
                levels = levels.reshape(len(part), -1)
                filtered = np.full((len(part), 1 + levels.shape[1]), _ABOVE, np.uint8)
                filtered[1:, 1:] = levels[1:] - levels[:-1]
                filtered[0, 1:] = levels[0] - above
                above = levels[-1]
                _write(file, b"IDAT", deflate.compress(filtered.tobytes()))

        yield write
        _write(file, b"IDAT", deflate.flush())
        _write(file, b"IEND", b"")


def _write(file: BinaryIO, name: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)))

"""Keep the decoded images of a split in two files, which every process of a node maps: the system holds their pages once.

`packed/<split>.<side>.npy` has the pixels of all images one after another, each uint8 (3, H, W). The JSON file beside it says what they
are and what they were made from.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydantic
import torch
from tqdm import tqdm

from adaptsr import files
from adaptsr.data.images import read_image
from adaptsr.data.manifest import Item
from adaptsr.data.matching import size_mismatch
from adaptsr.errors import UserError
from adaptsr.progress import say_once

PACKED = "packed"
Size = tuple[pydantic.PositiveInt, pydantic.PositiveInt]
"""Height and width."""


class Pixels(NamedTuple):
    """The images of a split, uint8 (3, H, W) each; `hr` is empty for photographs without HR."""

    lr: Sequence[torch.Tensor]
    hr: Sequence[torch.Tensor]


class Source(NamedTuple):
    """An image file and its checksum in the manifest."""

    path: Path
    sha256: str


class Index(pydantic.BaseModel):
    """What a packed file holds.

    content: digest of the checksums of the images. files: size and time of their files. sizes: height and width of each
    image. sha256: digest of the packed file.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    content: str
    files: list[tuple[int, int]]
    sizes: list[Size]
    sha256: str


def mapped(folder: Path, split: str, items: Sequence[Item], scale: int) -> Pixels:
    """Map the images of a split from its packed files; make them first if they are missing or stale.

    Raises `UserError` if an image is missing, differs from the manifest's checksum or does not match its partner's size.
    """
    lr = _mapped(folder / PACKED / f"{split}.lr.npy", [Source(folder / item.lr, item.lr_sha256) for item in items])
    if items and not items[0].hr_sha256:
        return Pixels(lr, [])
    hr = _mapped(folder / PACKED / f"{split}.hr.npy", [Source(folder / item.hr, item.hr_sha256) for item in items])
    for item, small, large in zip(items, lr, hr, strict=True):
        if mismatch := size_mismatch(small, large, scale):
            raise UserError(f"{folder / item.hr}: {mismatch}")
    return Pixels(lr, hr)


def _mapped(path: Path, sources: Sequence[Source]) -> list[torch.Tensor]:
    content = files.digest([source.sha256 for source in sources])
    states = [state(source.path) for source in sources]
    index = _current(path, content, states)
    if index is None:
        with files.refusal_explained(path), files.locked(path.parent, name=f".{path.stem}.lock"):
            index = _current(path, content, states) or _pack(path, content, states, sources)
    return list(_images(path, index.sizes))


def state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        raise UserError(f"{path}: this image of the manifest is missing; prepare the dataset again") from None
    return found.st_size, found.st_mtime_ns


def _current(path: Path, content: str, states: Sequence[tuple[int, int]]) -> Index | None:
    """Return the index of a packed file that was made from these files and is undamaged."""
    index = _index(path)
    if index is None or index.content != content or index.files != list(states):
        return None
    if not _trusted(path, index):
        say_once(f"{path}: changed after it was written; decoding the images again")
        return None
    return index


def _index(path: Path) -> Index | None:
    try:
        return Index.model_validate_json(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return None


def _trusted(path: Path, index: Index) -> bool:
    """Compare a packed file with its digest, in full once on this machine if it can keep a stamp."""
    if not path.is_file() or path.stat().st_size != len(header(index.sizes)) + _length(index.sizes):
        return False
    try:
        return _stamped(path, index.sha256)
    except (OSError, UserError):
        return files.file_sha256(path) == index.sha256


def _stamped(path: Path, sha256: str) -> bool:
    """Read the stamp with a file's size, time and digest, or make it after reading the file."""
    place, found = str(path.resolve()), path.stat()
    stamp = files.own_folder(files.NODE_FOLDER) / f"{files.digest(place)}.stamp"
    expected = files.json_text([place, found.st_size, found.st_mtime_ns, sha256])
    with files.locked(stamp.parent, name="packed.lock"):
        if stamp.is_file() and stamp.read_text() == expected:
            return True
        if files.file_sha256(path) != sha256:
            return False
        with files.atomic_write(stamp) as temporary:
            temporary.write_text(expected)
    return True


def _pack(path: Path, content: str, states: Sequence[tuple[int, int]], sources: Sequence[Source]) -> Index:
    path.with_suffix(".json").unlink(missing_ok=True)
    with files.atomic_write(path) as temporary:
        sizes = _link_twin(path, content, temporary, sources) or _write(path, temporary, sources)
        index = Index(content=content, files=list(states), sizes=sizes, sha256=files.file_sha256(temporary))
    files.write_json(path.with_suffix(".json"), index.model_dump(mode="json"))
    return index


def _link_twin(path: Path, content: str, temporary: Path, sources: Sequence[Source]) -> list[Size] | None:
    """Take the packed file of another dataset with the same images, if there is one: DIV2K's HR images are in several."""
    for other in path.parents[2].glob(f"*/{PACKED}/*.json"):
        twin = _index(other)
        packed = other.with_suffix(".npy")
        if twin is not None and twin.content == content and _trusted(packed, twin):
            for source in sources:
                _check(source)
            temporary.unlink()
            files.link_or_copy(packed, temporary)
            return twin.sizes
    return None


def _write(path: Path, temporary: Path, sources: Sequence[Source]) -> list[Size]:
    sizes: list[Size] = []
    with temporary.open("wb") as file:
        file.write(header(sizes))
        for source in tqdm(sources, desc=f"Decoding {path}", file=sys.stderr, disable=None):
            _check(source)
            image = read_image(source.path)
            sizes.append((image.shape[1], image.shape[2]))
            file.write(image.numpy().data)
        file.seek(0)
        file.write(header(sizes))
    return sizes


def _check(source: Source) -> None:
    if files.file_sha256(source.path) != source.sha256:
        raise UserError(f"{source.path}: the content differs from the manifest's checksum; prepare the dataset again")


def header(sizes: Sequence[Size]) -> bytes:
    """Return the header of an npy file; numpy pads it, so that its length is the same for any number of bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (_length(sizes),)})
    return buffer.getvalue()


def _length(sizes: Sequence[Size]) -> int:
    return sum(3 * height * width for height, width in sizes)


def _images(path: Path, sizes: Sequence[Size]) -> Iterator[torch.Tensor]:
    # Copy on write: no process can change the file, and torch wants writable memory.
    pixels = np.asarray(np.load(path, mmap_mode="c"))
    start = 0
    for height, width in sizes:
        length = 3 * height * width
        yield torch.from_numpy(pixels[start : start + length].reshape(3, height, width))
        start += length

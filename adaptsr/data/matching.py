"""Match the images of two folders by name and compare their sizes. Importing this module does not import torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaptsr.config.strict_yaml import is_text
from adaptsr.data.names import MatchedNames, is_system_file, match_stems
from adaptsr.errors import UserError, first_names
from adaptsr.progress import say_once

if TYPE_CHECKING:
    import torch

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_EXPECTED = f"expected files ending in {', '.join(SUFFIXES)}"


@dataclass(frozen=True)
class Side:
    """A folder of images. `called` is its name in messages, such as LR. `images_only` makes any other file a problem."""

    called: str
    folder: Path
    images_only: bool = False


@dataclass(frozen=True)
class Image:
    """An image file and the name of its side in messages."""

    called: str
    path: Path

    def __str__(self) -> str:
        return f"{self.called} {self.path.name}"


def list_images(
    side: Side,
    problems: list[str],
    only: Collection[str] | None = None,
    left_out: Callable[[Path], bool] = lambda path: False,
) -> dict[str, Image]:
    """List the images of a folder by name (the file's name without suffix), in the order of the files.

    Ignores files of the system, files that are no images unless the side is `images_only`, everything outside `only`
    if it is given, and images that are `left_out`; without `only`, says what is ignored. Adds what is wrong to `problems`.
    """
    if not side.folder.is_dir():
        problems.append(f"no such folder {side.folder}; give the folder that holds the {side.called} images")
        return {}
    root = Path(os.path.realpath(side.folder))
    images: dict[str, Image] = {}
    ignored = []
    for path in sorted(side.folder.iterdir()):
        image = Image(side.called, path)
        is_image = path.suffix.lower() in SUFFIXES and not path.is_dir()
        if only is not None and path.stem not in only:
            continue
        if is_system_file(path.name) or not (is_image or side.images_only):
            ignored.append(path.name)
            continue
        if left_out(path):
            continue
        if not is_text(path.name):
            problems.append(f"{image}: its name is not UTF-8; rename it, for example with convmv")
            continue
        # `path.resolve()` would raise on a link to itself.
        if not Path(os.path.realpath(path)).is_relative_to(root):
            problems.append(f"{image}: a link that leads out of the folder; put the file itself there")
        if not is_image:
            problems.append(f"{image}: not an image; {_EXPECTED}")
        elif path.stem in images:
            problems.append(f"{image}: has the same name as {images[path.stem]}; keep one of the two")
        else:
            images[path.stem] = image
    if not images and only is None:
        problems.append(f"no {side.called} images in {side.folder}; {_EXPECTED}")
    if ignored and only is None:
        say_once(f"{side.folder}: ignored files that are not images ({len(ignored)}): {first_names(ignored)}")
    return images


def match(one: Side, other: Side, problems: list[str]) -> dict[str, tuple[Image, Image]]:
    """Match the images of two folders by name, in the order of the names of `other`, and return them by these names.

    Names may differ as `match_stems` says. Adds what is wrong to `problems`.
    """
    ones, others = list_images(one, problems), list_images(other, problems)
    matched = match_stems(ones, others)
    _say_differences(one.called, f"{other.called} images in {other.folder}", matched)
    if ones and others:  # report an empty folder once, not for every image of its partner
        for side, images, taken in ((other, ones, matched.pairs.keys()), (one, others, set(matched.pairs.values()))):
            lonely = [images[name] for name in sorted(images.keys() - taken)]
            problems += [f"{image}: no {side.called} image of this name" for image in lonely]
    partners = {name: ones[partner] for partner, name in matched.pairs.items()}
    return {name: (partners[name], others[name]) for name in sorted(partners)}


def match_names(side: Side, names: Collection[str], problems: list[str]) -> dict[str, Image]:
    """Find the image of each of `names` in a folder; other images are left alone. Adds what is wrong to `problems`."""
    stems = (
        {path.stem for path in side.folder.iterdir() if path.suffix.lower() in SUFFIXES} if side.folder.is_dir() else ()
    )
    matched = match_stems(names, stems)
    _say_differences("test", f"{side.called} images in {side.folder}", matched)
    images = list_images(side, problems, set(matched.pairs.values()))
    found = {name: images[stem] for name, stem in matched.pairs.items() if stem in images}
    problems += [f"{name!r}: no {side.called} image of this name" for name in names if name not in found]
    return found


def _say_differences(called: str, others: str, matched: MatchedNames) -> None:
    for difference, pairs in matched.differing.items():
        one, other = next(iter(pairs.items()))
        say_once(
            f"{called} images are matched to {others} although their names differ in their {difference} ({len(pairs)}): "
            f"{one!r} to {other!r}{' and so on' if len(pairs) > 1 else ''}"
        )


def read_matched(
    small: Image, large: Image, scale: int, problems: list[str], *, converting: bool = False
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Decode two matched images. If one is unusable or their sizes do not fit, add to `problems` and return None."""
    pixels = read(small, problems, converting=converting), read(large, problems, converting=converting)
    if pixels[0] is None or pixels[1] is None:
        return None
    mismatch = size_mismatch(pixels[0], pixels[1], scale, (small.called, large.called))
    if mismatch:
        problems.append(f"{large}: {mismatch}")
        return None
    return pixels[0], pixels[1]


def read(image: Image, problems: list[str], *, converting: bool = False) -> torch.Tensor | None:
    """Decode an image. If it is unusable, add the reason to `problems` and return None."""
    from adaptsr.data.images import read_image

    try:
        return read_image(image.path, converting=converting)
    except UserError as error:
        problems.append(f"{image}: {str(error).removeprefix(f'{image.path}: ')}")
        return None


def size_mismatch(
    small: torch.Tensor, large: torch.Tensor, scale: int, called: tuple[str, str] = ("LR", "HR")
) -> str | None:
    """Say how the size of `large` (3, H, W) differs from `scale` times that of `small`; return None if it does not."""
    (low, wide), (height, width) = small.shape[1:], large.shape[1:]
    if (height, width) == (scale * low, scale * wide):
        return None
    sizes = f"{size_text(large)} beside {called[0]} {size_text(small)}"
    if (height, width) == (scale * wide, scale * low):
        return f"{sizes}: one of the two is turned by 90 degrees; turn it, or remove its EXIF orientation"
    if scale == 1:
        return f"{sizes}: the sizes must be equal"
    factor = height // low
    if (height, width) == (factor * low, factor * wide):
        return f"{sizes} is a scale of {factor}, but the profile has {scale}"
    if height % scale or width % scale:
        return f"{sizes}: {called[1]} is not a multiple of the scale {scale}"
    return f"{sizes}: the sizes do not match; expected {called[0]} of {width // scale}x{height // scale}"


def size_text(image: torch.Tensor) -> str:
    """Return `WIDTHxHEIGHT` of an image of shape (3, H, W)."""
    return f"{image.shape[2]}x{image.shape[1]}"

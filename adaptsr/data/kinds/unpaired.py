"""Datasets made of a folder of photographs, for which there is no HR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptsr.config.schema import Unpaired
from adaptsr.data import manifest
from adaptsr.data.kinds import Description, SplitSize
from adaptsr.data.kinds.pairs import folder_files, resolved
from adaptsr.data.manifest import Item, Manifest, SplitName
from adaptsr.data.matching import Side, list_images, read
from adaptsr.errors import raise_all


def prepare(name: str, declared: Unpaired, folder: Path, scale: int) -> Manifest:
    """Decode every photograph; copies nothing. Raises one `UserError` for all problems, by file name."""
    from adaptsr.data.images import say_second_pictures

    manifest.remove(folder)
    problems: list[str] = []
    found = list_images(Side("LR", resolved(declared.lr)), problems)
    for image in found.values():
        read(image, problems)
    raise_all(f"datasets.{name}", problems)
    say_second_pictures(image.path for image in found.values())
    items = [Item.of(stem, stem, image.path, None) for stem, image in found.items()]
    rule = f"All {len(items)} photographs of a folder; there is no HR."
    return Manifest(dataset=name, scale=scale, kind=declared.kind, split_rule=rule, splits={"test": items})


def describe(declared: Unpaired) -> Description:
    """Return a source without the folder: it is a path of one machine."""
    return Description("a folder of photographs without HR", "not stated")


def estimate(declared: Unpaired, split: SplitName, scale: int) -> SplitSize:
    """Return assumed values: the folder need not exist yet."""
    return SplitSize()


def listing(declared: Unpaired) -> Any:
    """List the files of the folder with sizes and times."""
    folder = resolved(declared.lr)
    return [str(folder), folder_files(folder)]


def photographs(declared: Unpaired, split: SplitName) -> frozenset[str]:
    """Return the files of the folder."""
    folder = resolved(declared.lr)
    return frozenset(f"{folder / Path(str(name)).stem}" for name, *_ in folder_files(folder))

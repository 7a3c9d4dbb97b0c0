"""Datasets of config/datasets.tsv: fetched, unpacked, checked pair by pair."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from adaptsr import files
from adaptsr.config.schema import Archive
from adaptsr.data import manifest
from adaptsr.data.catalogue import Catalogue, DatasetPart, read_catalogue
from adaptsr.data.fetch import ensure
from adaptsr.data.kinds import ASSUMED_IMAGES, ASSUMED_LR_PIXELS, Description, SplitSize
from adaptsr.data.manifest import Item, Manifest, SplitName, read_manifest
from adaptsr.data.matching import Image, Side, match, read, read_matched
from adaptsr.data.unpack import Selection, unpack
from adaptsr.errors import UserError, raise_all


def prepare(name: str, declared: Archive, folder: Path, scale: int) -> Manifest:
    """Fetch and unpack the archives of dataset `name`, check every pair, and put the images under `folder`.

    Does nothing if the dataset was prepared from the current catalogue. Unpacks beside `folder` and moves the images there
    only after all checks; until then `folder` keeps its old images.
    """
    catalogue = read_catalogue()
    ready = _prepared(name, declared, folder, scale, catalogue)
    if ready:
        return ready
    manifest.remove(folder)
    parts = catalogue.dataset(declared.row)
    if parts[0].scale != scale:
        raise UserError(
            f"datasets.{name}.row: {declared.row} has the scale {parts[0].scale}, but the profile has {scale}"
        )
    staging = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _unpack_all(catalogue, declared.row, staging)
        splits = _check_splits(name, parts, staging, scale)
        _replace(folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Manifest(
        dataset=name, scale=scale, kind=declared.kind, split_rule=_split_rule(catalogue, declared.row), splits=splits
    )


def describe(declared: Archive) -> Description:
    """Name the archives with their checksums, and their licences."""
    catalogue = read_catalogue()
    archives = catalogue.archives_of(declared.row) if declared.row in catalogue.datasets else []
    named = ", ".join(f"{archive.file} ({archive.checksum or 'no published checksum'})" for archive in archives)
    licences = dict.fromkeys(archive.licence for archive in archives)
    return Description(f"archive {declared.row}: {named}", "; ".join(licences))


def estimate(declared: Archive, split: SplitName, scale: int) -> SplitSize:
    """Return the size of the split in config/datasets.tsv, with assumed values for empty cells."""
    parts = [part for part in read_catalogue().dataset(declared.row) if part.split == split]
    counts = [part.pairs or ASSUMED_IMAGES for part in parts]
    pixels = [part.lr_area or ASSUMED_LR_PIXELS for part in parts]
    images = sum(counts)
    total = sum(count * each for count, each in zip(counts, pixels, strict=True))
    return SplitSize(
        images,
        round(total / images) if images else 0,
        images_known=all(part.pairs for part in parts),
        lr_pixels_known=all(part.lr_pixels for part in parts),
    )


def listing(declared: Archive) -> Any:
    """Return the declaration; `prepare` notices a changed row of the catalogue."""
    return declared.model_dump(mode="json")


def photographs(declared: Archive, split: SplitName) -> frozenset[str]:
    """Return the collections of photographs that config/datasets.tsv names for the split."""
    parts = [part for part in read_catalogue().dataset(declared.row) if part.split == split]
    return frozenset(part.photographs or f"{declared.row} {split}" for part in parts)


def _prepared(name: str, declared: Archive, folder: Path, scale: int, catalogue: Catalogue) -> Manifest | None:
    """Return the manifest if it was made from the current catalogue and all its images exist, else None."""
    rule = _split_rule(catalogue, declared.row)
    try:
        found = read_manifest(folder / manifest.MANIFEST)
    except UserError:
        return None
    paths = [folder / path for part in found.splits.values() for item in part for path in (item.lr, item.hr)]
    same = (found.dataset, found.scale, found.split_rule) == (name, scale, rule)
    return found if same and all(path.is_file() for path in paths) else None


def _unpack_all(catalogue: Catalogue, row: str, staging: Path) -> None:
    archives = [(archive.name, ensure(archive)) for archive in catalogue.archives_of(row)]
    for archive, path in archives:
        print(f"Unpacking {path}", file=sys.stderr, flush=True)
        selections = [
            Selection(images, f"{part.split}/{side}", part.pairs)
            for part in catalogue.dataset(row)
            for side, images in part.sides.items()
            if images.archive == archive
        ]
        unpack(path, selections, staging)


def _check_splits(name: str, parts: Sequence[DatasetPart], staging: Path, scale: int) -> dict[SplitName, list[Item]]:
    problems: list[str] = []
    splits: dict[SplitName, list[Item]] = {}
    for split in dict.fromkeys(part.split for part in parts):
        part = next(part for part in parts if part.split == split)
        lr, hr = (Side(f"{split} {side.upper()}", staging / split / side, images_only=True) for side in ("lr", "hr"))
        pairs = match(lr, hr, problems).values()
        shown = tqdm(pairs, desc=f"Checking {name}/{split}", file=sys.stderr, disable=None)
        items = [_check_pair(staging, *pair, part, scale, problems) for pair in shown]
        splits[split] = [item for item in items if item]
    raise_all(f"datasets.{name}", problems)
    return splits


def _check_pair(
    staging: Path, given: Image, hr: Image, part: DatasetPart, scale: int, problems: list[str]
) -> Item | None:
    lr = _reduced(given, scale, problems) if part.degradation == "bicubic" else given
    if lr is None or read_matched(lr, hr, scale, problems) is None:
        return None
    return Item.of(hr.path.stem, part.scene_of(hr.path.stem), lr.path, hr.path, staging)


def _reduced(image: Image, scale: int, problems: list[str]) -> Image | None:
    """Replace an image of HR size by the reduced one, as a PNG to avoid further loss."""
    from adaptsr.data.degradation import bicubic
    from adaptsr.data.images import to_float, to_uint8, write_png

    pixels = read(image, problems)
    if pixels is None:
        return None
    image.path.unlink()
    small = to_uint8(bicubic(to_float(pixels).unsqueeze(0), scale).squeeze(0))
    path = image.path.with_suffix(".png")
    write_png(path, small)
    return Image(image.called, path)


def _replace(folder: Path, staging: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in get_args(SplitName):
        if (folder / split).exists():
            shutil.rmtree(folder / split)
        if (staging / split).exists():
            (staging / split).replace(folder / split)


def _split_rule(catalogue: Catalogue, row: str) -> str:
    archives = catalogue.archives_of(row)
    content = {
        "parts": [
            part.model_dump(mode="json", exclude={"note", "lr_pixels", "photographs"})
            for part in catalogue.dataset(row)
        ],
        "archives": [[archive.file, archive.checksum] for archive in archives],
    }
    return (
        f"As published: dataset {row} of config/datasets.tsv ({', '.join(_counts(catalogue.dataset(row)))}), from "
        f"{', '.join(f'{archive.name} {archive.version}' for archive in archives)}; digest {files.digest(content)[:12]}."
    )


def _counts(parts: Sequence[DatasetPart]) -> Iterator[str]:
    for split in dict.fromkeys(part.split for part in parts):
        counts = [part.pairs for part in parts if part.split == split]
        known = [count for count in counts if count is not None]
        yield f"{split} {sum(known)} pairs" if len(known) == len(counts) else f"{split}, all pairs"

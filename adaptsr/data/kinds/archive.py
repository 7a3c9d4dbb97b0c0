"""Datasets of the catalogue: fetched, unpacked, checked pair by pair."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from adaptsr import files
from adaptsr.config.schema import Archive
from adaptsr.data.catalogue import Catalogue, DatasetPart, read_catalogue
from adaptsr.data.degradation import bicubic
from adaptsr.data.fetch import ensure
from adaptsr.data.images import read_image, to_float, to_uint8, write_png
from adaptsr.data.manifest import Item, Manifest, SplitName, read_manifest
from adaptsr.data.store import size_text
from adaptsr.data.unpack import Selection, unpack
from adaptsr.errors import UserError

MOST_PROBLEMS_SHOWN = 20


def is_prepared(name: str, config: Archive, manifest: Path, scale: int) -> bool:
    """Whether the dataset was prepared from the catalogue as it is now and no image is gone since."""
    rule = _split_rule(read_catalogue(), config.row)
    try:
        found = read_manifest(manifest)
    except UserError:
        return False
    items = [item for part in found.splits.values() for item in part]
    return (found.dataset, found.scale, found.split_rule) == (name, scale, rule) and all(
        (manifest.parent / path).is_file() for item in items for path in (item.lr, item.hr)
    )


def write_archive(name: str, config: Archive, folder: Path, scale: int) -> Manifest:
    """Fetch and unpack the archives of dataset `name`, check every pair, and put the images under `folder`.

    Images are unpacked beside `folder` and moved there when all is right: until then what an earlier call left stays.
    The manifest is returned, not written. Raises `UserError` for whatever is wrong with the row, an archive or an image.
    """
    catalogue = read_catalogue()
    parts = catalogue.dataset(config.row)
    if parts[0].scale != scale:
        raise UserError(
            f"datasets.{name}.row: {config.row} is a dataset of scale {parts[0].scale}, that of the profile is {scale}"
        )
    staging = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _unpack_all(catalogue, config.row, staging)
        splits = _check_splits(name, parts, staging, scale)
        _replace(folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Manifest(
        dataset=name, scale=scale, kind="archive", split_rule=_split_rule(catalogue, config.row), splits=splits
    )


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
        rows = [part for part in parts if part.split == split]
        pairs = _pairs(staging, split, problems)
        shown = tqdm(pairs, desc=f"Checking {name}/{split}", file=sys.stderr, disable=None)
        items = [_check_pair(staging, lr, hr, rows[0], scale, problems) for lr, hr in shown]
        splits[split] = [item for item in items if item]
    if problems:
        hidden = len(problems) - MOST_PROBLEMS_SHOWN
        more = f"; and {hidden} more" if hidden > 0 else ""
        raise UserError(f"dataset {name!r}: {'; '.join(problems[:MOST_PROBLEMS_SHOWN])}{more}")
    return splits


def _pairs(staging: Path, split: SplitName, problems: list[str]) -> list[tuple[Path, Path]]:
    lr, hr = ({path.stem: path for path in (staging / split / side).iterdir()} for side in ("lr", "hr"))
    problems += [f"LR {lr[stem].name}: no HR image of this name in {split}" for stem in sorted(lr.keys() - hr.keys())]
    problems += [f"HR {hr[stem].name}: no LR image of this name in {split}" for stem in sorted(hr.keys() - lr.keys())]
    return [(lr[stem], hr[stem]) for stem in sorted(lr.keys() & hr.keys())]


def _check_pair(staging: Path, lr: Path, hr: Path, part: DatasetPart, scale: int, problems: list[str]) -> Item | None:
    try:
        lr = _reduced(lr, scale) if part.degradation == "bicubic" else lr
        lr_pixels, hr_pixels = read_image(lr), read_image(hr)
    except UserError as error:
        problems.append(str(error).replace(f"{staging}/", ""))
        return None
    if hr_pixels.shape[1:] != (scale * lr_pixels.shape[1], scale * lr_pixels.shape[2]):
        sizes = f"{size_text(hr_pixels)} beside LR {size_text(lr_pixels)}"
        problems.append(f"HR {hr.name}: {sizes}: not a pair of scale {scale}")
        return None
    return Item(
        name=hr.stem,
        scene=part.scene_of(hr.stem),
        lr=str(lr.relative_to(staging)),
        hr=str(hr.relative_to(staging)),
        lr_sha256=files.file_sha256(lr),
        hr_sha256=files.file_sha256(hr),
    )


def _reduced(path: Path, scale: int) -> Path:
    """The image in place of the one of HR size; PNG, since it must not lose anything more."""
    image = read_image(path)
    path.unlink()
    small = to_uint8(bicubic(to_float(image).unsqueeze(0), scale).squeeze(0))
    write_png(path.with_suffix(".png"), small)
    return path.with_suffix(".png")


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
        "parts": [part.model_dump(mode="json", exclude={"note"}) for part in catalogue.dataset(row)],
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

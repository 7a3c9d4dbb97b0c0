"""Datasets made of a folder of LR images and a folder of HR images with the same names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptsr.config.schema import Pairs
from adaptsr.data import manifest
from adaptsr.data.kinds import Description, SplitSize
from adaptsr.data.manifest import Item, Manifest, SplitName
from adaptsr.data.matching import Image, Side, match, read_matched
from adaptsr.data.names import is_system_file
from adaptsr.errors import UserError, raise_all
from adaptsr.files import expanded

if TYPE_CHECKING:
    from adaptsr.data.scenes import Sight

SPLIT_RULES = (
    "`all`, `none`, `rest`, `first N`, `last N`, `N first of each GROUP`, `N last of each GROUP`, and one of the last four "
    "followed by ` of rest`"
)
OF_REST = " of rest"


def prepare(name: str, declared: Pairs, folder: Path, scale: int) -> Manifest:
    """Decode and check every pair. Copies nothing, so the manifest's paths are absolute.

    Raises one `UserError` for all problems of the images, by file name, and another for a mistake in the split rules.
    """
    from adaptsr.data.images import say_second_pictures
    from adaptsr.data.scenes import scenes_of, shared_photographs

    manifest.remove(folder)
    where = f"datasets.{name}"
    problems: list[str] = []
    lr, hr = (Side(called, resolved(text), images_only=True) for called, text in _folders(declared))
    pairs = match(lr, hr, problems)
    checked = {stem: _check_pair(*pair, scale, problems) for stem, pair in pairs.items()}
    raise_all(where, problems)
    for side in zip(*pairs.values(), strict=True):
        say_second_pictures(image.path for image in side)
    known = {stem: found for stem, found in checked.items() if found}
    chosen = split_names(list(known), declared.split, f"{where}.split")
    sights = {split: [(stem, known[stem][1]) for stem in part] for split, part in chosen.items()}
    raise_all(where, shared_photographs(sights))
    scene = {
        stem: min(group)
        for split, part in sights.items()
        if split != "train"  # only scenes that are tested stand for others
        for group in scenes_of(dict(part))
        for stem in group
    }
    splits = {
        split: [known[stem][0].model_copy(update={"scene": scene.get(stem, stem)}) for stem in part]
        for split, part in chosen.items()
    }
    return Manifest(
        dataset=name, scale=scale, kind=declared.kind, split_rule=_split_rule(declared, splits), splits=splits
    )


def describe(declared: Pairs) -> Description:
    """Return a source without the folders: they are paths of one machine."""
    return Description("a folder of pairs", "not stated")


def estimate(declared: Pairs, split: SplitName, scale: int) -> SplitSize:
    """Return assumed values: the folders need not exist yet."""
    return SplitSize()


def listing(declared: Pairs) -> Any:
    """List the split rules, and the files of both folders with sizes and times. A missing folder has no files.

    Lists a folder by its resolved path, so that its spelling in the profile does not matter.
    """
    folders = [resolved(text) for _, text in _folders(declared)]
    return [declared.split, *([str(folder), folder_files(folder)] for folder in folders)]


def photographs(declared: Pairs, split: SplitName) -> frozenset[str]:
    """Return the HR files of the split; none while the folder is missing or the split rules do not fit it."""
    folder = resolved(declared.hr)
    try:
        names = split_names(sorted({Path(str(name)).stem for name, *_ in folder_files(folder)}), declared.split)
    except UserError:  # said by `prepare`
        return frozenset()
    return frozenset(f"{folder / name}" for name in names.get(split, []))


def _folders(declared: Pairs) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("LR", declared.lr), ("HR", declared.hr)


def resolved(text: str) -> Path:
    """Return the folder that a profile names, by one path however it is spelled."""
    return Path(os.path.realpath(expanded(text)))


def folder_files(folder: Path) -> list[list[str | int]]:
    """List the files of a folder with their sizes and times; none if it is missing."""
    if not folder.is_dir():
        return []
    shown = sorted(path for path in folder.iterdir() if not is_system_file(path.name))
    states = [(path, path.stat() if path.exists() else path.lstat()) for path in shown]
    return [[path.name, state.st_size, state.st_mtime_ns] for path, state in states]


def split_names(
    names: Sequence[str], rules: Mapping[SplitName, str], where: str = "split"
) -> dict[SplitName, list[str]]:
    """Assign the sorted `names` to splits. Raises `UserError` for an unknown rule, too few names or an overlap."""
    stated = {split: "all of rest" if rule.strip() == "rest" else rule.strip() for split, rule in rules.items()}
    taken = {
        split: _take(names, rule, f"{where}.{split}") for split, rule in stated.items() if not rule.endswith(OF_REST)
    }
    used = {name for part in taken.values() for name in part}
    rest = [name for name in names if name not in used]
    splits = {
        split: taken[split] if split in taken else _take(rest, rule.removesuffix(OF_REST), f"{where}.{split}")
        for split, rule in stated.items()
    }
    for one, other in combinations(splits, 2):
        shared = sorted(set(splits[one]) & set(splits[other]))
        if shared:
            raise UserError(
                f"{where}: {one} ({rules[one]!r}) and {other} ({rules[other]!r}) both take {len(shared)} of "
                f"{len(names)} pairs, {shared[0]!r} first; splits must not overlap; `rest` takes the pairs in no other split"
            )
    return splits


def _take(names: Sequence[str], rule: str, where: str) -> list[str]:
    if rule in ("all", "none"):
        return list(names) if rule == "all" else []
    if match := re.fullmatch(r"(first|last) (\d+)", rule):
        return _end(names, match[1], int(match[2]), f"{where}: {rule!r}")
    if match := re.fullmatch(r"(\d+) (first|last) of each (\w+)", rule):
        groups = groupby(sorted(names, key=lambda name: (_group(name), name)), key=_group)
        return sorted(
            name
            for group, members in groups
            for name in _end(list(members), match[2], int(match[1]), f"{where}: {rule!r}: {match[3]} {group!r}")
        )
    raise UserError(f"{where}: unknown rule {rule!r}; allowed are {SPLIT_RULES}")


def _group(name: str) -> str:
    """Return the part of a name before the first '_'. Names without '_' form one group."""
    return name.partition("_")[0] if "_" in name else ""


def _end(names: Sequence[str], end: str, count: int, where: str) -> list[str]:
    if count > len(names):
        raise UserError(f"{where}: needs {count} pairs, found {len(names)}")
    return list(names[:count] if end == "first" else names[len(names) - count :])


def _check_pair(lr: Image, hr: Image, scale: int, problems: list[str]) -> tuple[Item, Sight] | None:
    from adaptsr.data.scenes import Sight, scene_mismatch

    pixels = read_matched(lr, hr, scale, problems)
    if pixels is None:
        return None
    mismatch = scene_mismatch(*pixels)
    if mismatch:
        problems.append(f"{hr}: {mismatch}")
        return None
    return Item.of(hr.path.stem, hr.path.stem, lr.path, hr.path), Sight.of(pixels[1])


def _split_rule(declared: Pairs, splits: Mapping[SplitName, Sequence[Item]]) -> str:
    parts = [f"{split} takes {rule.strip()!r} ({len(splits[split])} pairs)" for split, rule in declared.split.items()]
    grouped = any(" of each " in rule for rule in declared.split.values())
    meaning = ", grouped by what stands before the first '_'" if grouped else ""
    return f"Pairs in the order of their names{meaning}: {', '.join(parts)}."

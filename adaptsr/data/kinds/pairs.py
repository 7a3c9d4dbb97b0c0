"""Datasets that are a folder of LR images and a folder of HR images of the same names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path

from adaptsr.config.schema import Pairs
from adaptsr.data.images import SUFFIXES, read_image
from adaptsr.data.manifest import Item, Manifest, SplitName
from adaptsr.errors import UserError
from adaptsr.files import expanded, file_sha256

SPLIT_RULES = "`all`, `none`, `rest`, `first N`, `last N`, `N first of each GROUP`, `N last of each GROUP`"
MOST_PROBLEMS_SHOWN = 200


@dataclass(frozen=True)
class _Image:
    side: str  # "LR" or "HR"
    path: Path

    def __str__(self) -> str:
        return f"{self.side} {self.path.name}"


def check_pairs(name: str, config: Pairs, scale: int) -> Manifest:
    """The manifest of a folder of pairs; nothing is copied, so its paths are absolute.

    Every image is decoded. All that is wrong with the images comes in one `UserError`, by file name; a mistake in the
    split rules comes in another.
    """
    problems: list[str] = []
    lr = _list_images("LR", _folder(f"datasets.{name}.lr", config.lr), problems)
    hr = _list_images("HR", _folder(f"datasets.{name}.hr", config.hr), problems)
    problems += [f"{lr[stem]}: no HR image of this name" for stem in sorted(lr.keys() - hr.keys())]
    problems += [f"{hr[stem]}: no LR image of this name" for stem in sorted(hr.keys() - lr.keys())]
    items = [_check_pair(stem, lr[stem], hr[stem], scale, problems) for stem in sorted(lr.keys() & hr.keys())]
    if not problems and not items:
        problems.append(f"no images in {config.lr} and {config.hr}")
    _refuse(name, problems)
    by_name = {item.name: item for item in items if item}
    chosen = split_names(list(by_name), config.split, f"datasets.{name}.split")
    splits = {split: [by_name[stem] for stem in names] for split, names in chosen.items()}
    _refuse(name, _shared_images(splits))
    return Manifest(dataset=name, scale=scale, kind="pairs", split_rule=_split_rule(config, splits), splits=splits)


def split_names(
    names: Sequence[str], rules: Mapping[SplitName, str], where: str = "split"
) -> dict[SplitName, list[str]]:
    """What each split takes of the sorted `names`; `UserError` for a bad rule, too few names, or overlapping splits."""
    taken = {
        split: _take(names, rule.strip(), f"{where}.{split}") for split, rule in rules.items() if rule.strip() != "rest"
    }
    used = {name for part in taken.values() for name in part}
    rest = [name for name in names if name not in used]
    splits = {split: taken.get(split, rest) for split in rules}
    for one, other in combinations(splits, 2):
        shared = sorted(set(splits[one]) & set(splits[other]))
        if shared:
            raise UserError(
                f"{where}: {one} ({rules[one]!r}) and {other} ({rules[other]!r}) both take {len(shared)} of "
                f"{len(names)} pairs, {shared[0]!r} first; splits may not overlap, `rest` takes what no other split does"
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
    raise UserError(f"{where}: {rule!r} is no rule; allowed are {SPLIT_RULES}")


def _group(name: str) -> str:
    """Names without a '_' have nothing before it: they are one group."""
    return name.partition("_")[0] if "_" in name else ""


def _end(names: Sequence[str], end: str, count: int, where: str) -> list[str]:
    if count > len(names):
        raise UserError(f"{where}: {count} pairs are asked for, there are {len(names)}")
    return list(names[:count] if end == "first" else names[len(names) - count :])


def _folder(where: str, text: str) -> Path:
    path = expanded(text)
    if not path.is_dir():
        raise UserError(f"{where}: {path}: no such folder; give the folder that holds the images")
    return path.resolve()


def _list_images(side: str, folder: Path, problems: list[str]) -> dict[str, _Image]:
    """Images of a folder by the stem of their names; what is no usable file goes to `problems`."""
    images: dict[str, _Image] = {}
    for path in sorted(folder.iterdir()):
        image = _Image(side, path)
        if path.name.startswith("."):
            continue
        # Not `path.resolve()`, which raises on a link to itself.
        if not Path(os.path.realpath(path)).is_relative_to(folder):
            problems.append(f"{image}: a link that leads out of the folder; put the file itself there")
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            problems.append(f"{image}: not an image; expected are {', '.join(SUFFIXES)}")
        elif path.stem in images:
            problems.append(f"{image}: the same name as {images[path.stem]}")
        else:
            images[path.stem] = image
    return images


def _check_pair(name: str, lr: _Image, hr: _Image, scale: int, problems: list[str]) -> Item | None:
    lr_size, hr_size = _size(lr, problems), _size(hr, problems)
    if lr_size is None or hr_size is None:
        return None
    if hr_size != (scale * lr_size[0], scale * lr_size[1]):
        problems.append(f"{hr}: {_mismatch(lr_size, hr_size, scale)}")
        return None
    return Item(
        name=name,
        scene=name,
        lr=str(lr.path),
        hr=str(hr.path),
        lr_sha256=file_sha256(lr.path),
        hr_sha256=file_sha256(hr.path),
    )


def _size(image: _Image, problems: list[str]) -> tuple[int, int] | None:
    try:
        pixels = read_image(image.path)
    except UserError as error:
        problems.append(f"{image}: {str(error).removeprefix(f'{image.path}: ')}")
        return None
    return pixels.shape[2], pixels.shape[1]


def _mismatch(lr: tuple[int, int], hr: tuple[int, int], scale: int) -> str:
    sizes = f"{hr[0]}x{hr[1]} beside LR {lr[0]}x{lr[1]}"
    factor = hr[0] // lr[0]
    if hr == (factor * lr[0], factor * lr[1]):
        return f"{sizes} is a scale of {factor}, that of the profile is {scale}"
    if hr[0] % scale or hr[1] % scale:
        return f"{sizes}: HR is not a multiple of the scale {scale}"
    return f"{sizes}: the sizes do not match; LR of {hr[0] // scale}x{hr[1] // scale} was expected"


def _shared_images(splits: Mapping[SplitName, Sequence[Item]]) -> list[str]:
    owner: dict[str, tuple[SplitName, str]] = {}
    problems = []
    for split, items in splits.items():
        for item in items:
            first_split, first_name = owner.setdefault(item.hr_sha256, (split, item.name))
            if first_split != split:
                problems.append(f"HR {item.name} ({split}) is the same image as {first_name} ({first_split})")
    return problems


def _refuse(name: str, problems: Sequence[str]) -> None:
    if problems:
        hidden = len(problems) - MOST_PROBLEMS_SHOWN
        more = f"; and {hidden} more" if hidden > 0 else ""
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise UserError(f"dataset {name!r}: {count} with its images: {'; '.join(problems[:MOST_PROBLEMS_SHOWN])}{more}")


def _split_rule(config: Pairs, splits: Mapping[SplitName, Sequence[Item]]) -> str:
    parts = [f"{split} takes {rule.strip()!r} ({len(splits[split])} pairs)" for split, rule in config.split.items()]
    grouped = any(" of each " in rule for rule in config.split.values())
    meaning = ", grouped by what stands before the first '_'" if grouped else ""
    return f"Pairs in the order of their names{meaning}: {', '.join(parts)}."

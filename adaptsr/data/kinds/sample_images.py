"""Datasets of patches cut from photographs that ship inside installed packages."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from adaptsr.config.schema import SampleImages
from adaptsr.data import manifest
from adaptsr.data.kinds import Description, SplitSize
from adaptsr.data.manifest import Manifest, SplitName
from adaptsr.data.matching import SUFFIXES
from adaptsr.errors import UserError, suggestion
from adaptsr.errors import listing as names_text
from adaptsr.project import installed_version

FOLDERS = {
    "matplotlib": "mpl-data/sample_data",
    "pyiqa": "../ResultsCalibra/ref_dir",  # its wheel installs them beside the package, not in it
    "skimage": "data",
    "sklearn": "datasets/images",
}
"""Where each package keeps its photographs, relative to its own folder."""
TERMS = {
    "matplotlib": "public domain",
    "pyiqa": "none stated; TID2013 references, cut from the Kodak set",
    "skimage": "CC0 or public domain",
    "sklearn": "CC BY 2.0",
}
"""What is known of the licence of each package's photographs."""
DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


@dataclass(frozen=True)
class Photograph:
    path: Path
    scene: str


def prepare(name: str, declared: SampleImages, folder: Path, scale: int) -> Manifest:
    """Cut, degrade and write the patches of all splits to `folder/<split>/{lr,hr}/*.png`, replacing older ones."""
    from adaptsr.data.patches import write_patches

    photographs = find_photographs(name, declared)
    if declared.patch % scale:
        raise UserError(f"datasets.{name}.patch: {declared.patch} is not a multiple of the scale {scale}")
    manifest.remove(folder)
    for split in get_args(SplitName):
        if (folder / split).exists():
            shutil.rmtree(folder / split)
    splits = {
        split: [
            item
            for photograph in part
            for item in write_patches(name, declared, split, photograph.path, photograph.scene, folder, scale)
        ]
        for split, part in photographs.items()
    }
    return Manifest(
        dataset=name, scale=scale, kind=declared.kind, split_rule=_split_rule(declared, photographs), splits=splits
    )


def describe(declared: SampleImages) -> Description:
    """Name the packages that contain the photographs, with their versions and terms."""
    packages = sorted({source.partition("/")[0] for split in declared.scenes for source in _sources(declared, split)})
    names = [DISTRIBUTIONS.get(package, package) for package in packages]
    versions = ", ".join(f"{name} {installed_version(name)}" for name in sorted(names))
    terms = "; ".join(f"{DISTRIBUTIONS.get(package, package)}: {TERMS[package]}" for package in packages)
    return Description(f"photographs that ship with {versions}", terms)


def estimate(declared: SampleImages, split: SplitName, scale: int) -> SplitSize:
    """Count the patches; a small photograph may give fewer."""
    images = len(_sources(declared, split)) * declared.patches_per_scene.get(split, 1)
    return SplitSize(images, (declared.patch // scale) ** 2, images_known=True, lr_pixels_known=True)


def listing(declared: SampleImages) -> Any:
    """Return the declaration: the photographs are fixed by the installed packages."""
    return declared.model_dump(mode="json")


def photographs(declared: SampleImages, split: SplitName) -> frozenset[str]:
    """Return the photographs as the profile names them."""
    return frozenset(_sources(declared, split))


def _sources(declared: SampleImages, split: SplitName) -> list[str]:
    return [source.strip() for scene in declared.scenes.get(split, []) for source in scene.split("+")]


def find_photographs(name: str, declared: SampleImages) -> dict[SplitName, list[Photograph]]:
    """Find the photographs of each split of dataset `name` without importing their packages.

    Raises `UserError` if a photograph is not installed or is listed twice, in one split or two.
    """
    found: dict[SplitName, list[Photograph]] = {}
    taken: set[str] = set()
    for split, scenes in declared.scenes.items():
        where = f"datasets.{name}.scenes.{split}"
        if split not in declared.patches_per_scene:
            raise UserError(f"datasets.{name}.patches_per_scene: missing for the split {split!r}, which has scenes")
        found[split] = []
        for text in scenes:
            paths = [_find(source.strip(), where) for source in text.split("+")]
            for path in paths:
                if path.stem in taken:
                    raise UserError(
                        f"{where}: {path.stem!r} is listed twice in this dataset; list every photograph once"
                    )
                taken.add(path.stem)
            found[split] += [Photograph(path, scene=paths[0].stem) for path in paths]
    return found


def _find(source: str, where: str) -> Path:
    package, _, file = source.partition("/")
    if package not in FOLDERS or not file or "/" in file or "\\" in file:
        raise UserError(
            f"{where}: invalid photograph {source!r}; expected `<package>/<file>` with one of the packages "
            f"{names_text(FOLDERS)}"
        )
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{where}: {source!r} needs the package {package!r}, which is not installed")
    folder = Path(spec.submodule_search_locations[0]) / FOLDERS[package]
    if not (folder / file).is_file():
        known = sorted(path.name for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
        raise UserError(
            f"{where}: the package {package!r} ships no {file!r}{suggestion(file, known)}; it ships {names_text(known)}"
        )
    return folder / file


def _split_rule(declared: SampleImages, photographs: dict[SplitName, list[Photograph]]) -> str:
    parts = [
        f"{split} (at most {declared.patches_per_scene[split]} of each photograph): "
        f"{', '.join(dict.fromkeys(photograph.scene for photograph in part)) or 'none'}"
        for split, part in photographs.items()
    ]
    return (
        f"Photographs are split by scene, and of each the most detailed patches of {declared.patch}x{declared.patch} pixels "
        f"of a grid are kept; {'; '.join(parts)}."
    )

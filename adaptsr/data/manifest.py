"""Read and write the manifest of a prepared dataset: its pairs, their splits and their checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import PositiveInt

from adaptsr import files
from adaptsr.config.schema import DATASET_KINDS
from adaptsr.errors import UserError

MANIFEST = "manifest.json"
SplitName = Literal["train", "validation", "test"]
_OLD_KINDS = {"photographs": "sample_images"}
"""Old names of kinds in manifests on disk."""


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def _check_item_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"invalid image name {name!r}: it must be usable as the name of a file")
    return name


class Item(_Part):
    """One LR/HR pair, or a photograph, whose `hr` is empty. Paths are absolute, or relative to the manifest's folder."""

    name: Annotated[str, pydantic.AfterValidator(_check_item_name)]
    scene: str
    lr: str
    hr: str = ""
    lr_sha256: str
    hr_sha256: str = ""

    @classmethod
    def of(cls, name: str, scene: str, lr: Path, hr: Path | None, folder: Path | None = None) -> Item:
        """Describe a pair of files, with their checksums; paths are relative to `folder` if it is given."""
        paths = [str(path.relative_to(folder) if folder else path) if path else "" for path in (lr, hr)]
        digests = [files.file_sha256(path) if path else "" for path in (lr, hr)]
        return cls(name=name, scene=scene, lr=paths[0], hr=paths[1], lr_sha256=digests[0], hr_sha256=digests[1])


def _check_kind(kind: str) -> str:
    kind = _OLD_KINDS.get(kind, kind)
    if kind not in DATASET_KINDS:
        raise ValueError(f"unknown kind {kind!r}; the kinds are {', '.join(DATASET_KINDS)}")
    return kind


class Manifest(_Part):
    """The content of a dataset's `manifest.json`. It is written last: a dataset with a manifest is complete."""

    dataset: str
    scale: PositiveInt
    kind: Annotated[str, pydantic.AfterValidator(_check_kind)]
    split_rule: str
    splits: dict[SplitName, list[Item]]

    def digest(self, split: SplitName | None = None) -> str:
        """Return the SHA-256 of the scale, names, scenes and contents of one split or all, independent of paths."""
        splits = self.splits if split is None else {split: self.splits.get(split, [])}
        items = {
            name: [[item.name, item.scene, item.lr_sha256, item.hr_sha256] for item in part]
            for name, part in splits.items()
        }
        return files.digest({"scale": self.scale, "splits": items})

    def write(self, path: Path) -> None:
        files.write_json(path, self.model_dump(mode="json"))


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest. Raises `UserError` if the file is missing or not a manifest."""
    if not path.exists():
        raise UserError(
            f"{path}: this dataset is not prepared; run snakemake, or `adaptsr data prepare {path.parent.name}` "
            "with the profile"
        )
    content = files.read_json(path, "the manifest of a prepared dataset")
    return files.validated(
        Manifest, content, f"{path}: not a dataset's manifest", "delete it and prepare the dataset again"
    )


def manifest_path(dataset: str) -> Path:
    """Return the path of a dataset's manifest, below the working folder."""
    return Path("resources") / dataset / MANIFEST


def remove(folder: Path) -> None:
    """Remove a folder's manifest and temporary files of killed writes, before its images change."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for torn in folder.glob(f".{MANIFEST}.*"):
        torn.unlink()

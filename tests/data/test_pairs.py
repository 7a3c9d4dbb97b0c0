"""What is loaded is what the manifest says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptsr.data.images import write_png
from adaptsr.data.manifest import Item, Manifest
from adaptsr.data.store import load_split, open_split
from adaptsr.files import file_sha256
from tests.factories import refusal


def write_dataset(folder: Path, hr_height: int = 16) -> Path:
    write_png(folder / "lr/a.png", torch.zeros(3, 4, 5, dtype=torch.uint8))
    write_png(folder / "hr/a.png", torch.full((3, hr_height, 20), 7, dtype=torch.uint8))
    item = Item(
        name="a",
        scene="s",
        lr="lr/a.png",
        hr=str(folder / "hr/a.png"),
        lr_sha256=file_sha256(folder / "lr/a.png"),
        hr_sha256=file_sha256(folder / "hr/a.png"),
    )
    manifest = Manifest(dataset="d", scale=4, kind="pairs", split_rule="All.", splits={"test": [item], "train": []})
    manifest.write(folder / "manifest.json")
    return folder / "manifest.json"


def test_relative_and_absolute_paths_are_read(tmp_path: Path) -> None:
    pairs = load_split(write_dataset(tmp_path), "test")
    assert (pairs.name, pairs.scale, pairs.names, pairs.scenes, len(pairs)) == ("d", 4, ("a",), ("s",), 1)
    assert pairs.lr[0].shape == (3, 4, 5)
    assert torch.equal(pairs.hr[0], torch.full((3, 16, 20), 7, dtype=torch.uint8))


def test_datasets_that_share_images_hold_them_once(tmp_path: Path) -> None:
    one, other = (load_split(write_dataset(tmp_path / name), "test") for name in ("a", "b"))
    assert one.hr[0] is other.hr[0]
    assert one.lr[0] is not one.hr[0]


def replaced(path: Path) -> None:
    write_png(path, torch.full((3, 16, 20), 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (replaced, "the content differs from the manifest's checksum"),
        (Path.unlink, "this image of the manifest is missing"),
    ],
)
def test_an_image_that_is_not_the_manifests_is_named(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    manifest = write_dataset(tmp_path)
    spoil(tmp_path / "hr/a.png")
    assert f"hr/a.png: {said}" in refusal(lambda: load_split(manifest, "test"))


def test_sizes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    said = "hr/a.png: 20x12 beside LR 5x4: the sizes do not match; expected LR of 5x3"
    assert said in refusal(lambda: load_split(write_dataset(tmp_path, hr_height=12), "test"))


@pytest.mark.parametrize("split", ["train", "tset"])
def test_an_empty_or_unknown_split_is_named(tmp_path: Path, split: str) -> None:
    said = f"the split '{split}' has no pairs; those with pairs: test"
    assert said in refusal(lambda: load_split(write_dataset(tmp_path), split))


def test_a_part_of_a_split_is_decoded_alone(tmp_path: Path) -> None:
    """What is not asked for is not read: the second image is gone."""
    manifest_path = write_dataset(tmp_path)
    first = Manifest.model_validate_json(manifest_path.read_text()).splits["test"][0]
    second = first.model_copy(update={"name": "b", "lr": "lr/gone.png"})
    manifest = Manifest(dataset="d", scale=4, kind="pairs", split_rule="All.", splits={"test": [first, second]})
    manifest.write(manifest_path)
    split = open_split(manifest_path, "test")
    assert (len(split), split.names) == (2, ("a", "b"))
    assert split.load(0, 1).names == ("a",)
    for act in (lambda: split.load(1, 2), split.check):
        assert "lr/gone.png: this image of the manifest is missing" in refusal(act)


def test_sizes_are_known_without_decoding(tmp_path: Path) -> None:
    """Also of a file that is cut behind its header; what is no image is one line."""
    split = open_split(write_dataset(tmp_path), "test")
    hr = tmp_path / "hr/a.png"
    hr.write_bytes(hr.read_bytes()[:50])
    assert split.hr_sizes() == [(16, 20)]
    hr.write_bytes(b"no image")
    assert "hr/a.png: unreadable or truncated image" in refusal(split.hr_sizes)

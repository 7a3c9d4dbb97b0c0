"""What is loaded is what the manifest says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptsr.data import packed
from adaptsr.data.images import write_png
from adaptsr.data.manifest import Item, Manifest
from adaptsr.data.store import load_split, open_split
from adaptsr.files import file_sha256
from tests.factories import cut, flipped, refusal


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
    for name in ("a", "b"):
        load_split(write_dataset(tmp_path / name), "test")
    one, other = (tmp_path / name / "packed/test.hr.npy" for name in ("a", "b"))
    assert one.samefile(other)


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


def test_a_part_of_a_split_is_of_a_whole_that_is_checked(tmp_path: Path) -> None:
    manifest_path = write_dataset(tmp_path)
    first = Manifest.model_validate_json(manifest_path.read_text()).splits["test"][0]
    second = first.model_copy(update={"name": "b"})
    manifest = Manifest(dataset="d", scale=4, kind="pairs", split_rule="All.", splits={"test": [first, second]})
    manifest.write(manifest_path)
    split = open_split(manifest_path, "test")
    assert (len(split), split.names) == (2, ("a", "b"))
    assert split.load(1, 2).names == ("b",)
    assert split.hr_sizes() == [(16, 20)] * 2
    (tmp_path / "lr/a.png").unlink()
    assert "lr/a.png: this image of the manifest is missing" in refusal(open_split(manifest_path, "test").load)


# The packed file


def unreadable(path: Path) -> torch.Tensor:
    raise AssertionError(f"{path} was decoded again")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read in full from now on."""
    read: list[str] = []
    digest = packed.files.file_sha256
    monkeypatch.setattr(packed.files, "file_sha256", lambda path: read.append(path.name) or digest(path))
    return read


def test_images_are_decoded_once_and_a_packed_file_is_read_in_full_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_dataset(tmp_path)
    expected = load_split(manifest, "test")
    monkeypatch.setattr(packed, "read_image", unreadable)
    read = counted(monkeypatch)
    for _ in range(3):
        assert torch.equal(load_split(manifest, "test").hr[0], expected.hr[0])
    assert read == ["test.lr.npy", "test.hr.npy"]


def test_without_a_place_for_stamps_a_packed_file_is_read_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_dataset(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(packed.files, "NODE_FOLDER", tmp_path / "file/stamps")
    load_split(manifest, "test")
    read = counted(monkeypatch)
    for _ in range(2):
        assert load_split(manifest, "test").hr[0].eq(7).all()
    assert read == ["test.lr.npy", "test.hr.npy"] * 2


def test_what_a_process_does_to_an_image_stays_its_own(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path)
    load_split(manifest, "test").hr[0].zero_()
    assert load_split(manifest, "test").hr[0].eq(7).all()


def torn(path: Path) -> None:
    path.write_bytes(cut(path.read_bytes(), 0.5))


def bit_changed(path: Path) -> None:
    path.write_bytes(flipped(path.read_bytes()))


def touched_image(path: Path) -> None:
    os.utime(path.parents[1] / "hr/a.png")


@pytest.mark.parametrize("spoil", [torn, bit_changed, Path.unlink, touched_image])
@pytest.mark.parametrize("name", ["test.hr.npy", "test.hr.json"])
def test_a_packed_file_that_changed_is_made_again(tmp_path: Path, spoil: Callable[[Path], None], name: str) -> None:
    manifest = write_dataset(tmp_path)
    load_split(manifest, "test")
    spoil(tmp_path / "packed" / name)
    assert load_split(manifest, "test").hr[0].eq(7).all()


def test_a_killed_packing_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = write_dataset(tmp_path / "alone")
    with monkeypatch.context() as patch:
        patch.setattr(packed, "read_image", unreadable)
        with pytest.raises(AssertionError):
            load_split(manifest, "test")
    assert not [path for path in (tmp_path / "alone/packed").iterdir() if not path.name.endswith(".lock")]
    assert load_split(manifest, "test").hr[0].eq(7).all()

"""A manifest says what a dataset holds, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptsr import files
from adaptsr.data.manifest import Item, Manifest, read_manifest
from adaptsr.errors import UserError


def manifest(folder: str = "train", hr_sha256: str = "b", dataset: str = "set", test: str = "t") -> Manifest:
    train = Item(
        name="x", scene="s", lr=f"{folder}/lr/x.png", hr=f"{folder}/hr/x.png", lr_sha256="a", hr_sha256=hr_sha256
    )
    held_out = Item(name=test, scene=test, lr="lr/t.png", hr="hr/t.png", lr_sha256="c", hr_sha256="d")
    splits: dict[str, list[Item]] = {"train": [train], "test": [held_out]}
    return Manifest.model_validate(
        {"dataset": dataset, "scale": 4, "kind": "pairs", "split_rule": "By hand.", "splits": splits}
    )


def test_written_manifest_is_read_back(tmp_path: Path) -> None:
    manifest().write(tmp_path / "manifest.json")
    assert read_manifest(tmp_path / "manifest.json") == manifest()


def test_digest_is_of_contents_and_names_not_of_places() -> None:
    assert manifest().digest() == manifest(folder="/elsewhere", dataset="other").digest()
    assert manifest().digest() != manifest(hr_sha256="other").digest()
    assert manifest().digest() != manifest(test="u").digest()


def test_digest_of_a_split_does_not_see_the_others() -> None:
    assert manifest().digest("train") == manifest(test="u").digest("train")
    assert manifest().digest("test") != manifest(test="u").digest("test")
    assert manifest().digest("train") != manifest(hr_sha256="other").digest("train")


@pytest.mark.parametrize("content", ["", "[]", '{"dataset": "x"}', "\x00"])
def test_what_is_no_manifest_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json: ") as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


def test_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json: this dataset is not prepared"):
        read_manifest(tmp_path / "manifest.json")


def test_the_old_name_of_a_kind_is_read_and_changes_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    files.write_json(path, manifest().model_dump(mode="json") | {"kind": "photographs"})
    assert read_manifest(path).kind == "sample_images"
    assert read_manifest(path).digest() == manifest().digest()


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    files.write_json(path, manifest().model_dump(mode="json") | {"kind": "pictures"})
    with pytest.raises(
        UserError, match=r"kind: .*unknown kind 'pictures'; the kinds are sample_images, pairs, archive"
    ):
        read_manifest(path)

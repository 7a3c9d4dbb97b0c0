"""A manifest says what a dataset holds, wherever it lies."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adaptsr import files
from adaptsr.data.manifest import Item, Manifest, read_manifest
from tests.factories import refusal


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


def test_the_old_name_of_a_kind_is_read_and_changes_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    files.write_json(path, manifest().model_dump(mode="json") | {"kind": "photographs"})
    assert read_manifest(path).kind == "sample_images"
    assert read_manifest(path).digest() == manifest().digest()


def changed(**item: object) -> str:
    """A manifest that a colleague hands over, with a change to an image."""
    content = manifest().model_dump(mode="json")
    content["splits"]["test"][0] |= item
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ""),
        ("[]", ""),
        ('{"dataset": "x"}', ""),
        ("\x00", ""),
        (None, "this dataset is not prepared"),
        (
            json.dumps(manifest().model_dump(mode="json") | {"kind": "pictures"}),
            "kind: .*unknown kind 'pictures'; the kinds are sample_images, pairs, archive",
        ),
        (changed(name="../../x"), ""),
        (changed(name="/nowhere/x"), ""),
        (changed(name=".."), ""),
        (changed(name=""), ""),
        (changed(name="a\0b"), ""),
        (changed(evil=1), ""),
        (changed(lr=3), ""),
    ],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_text(content)
    assert re.search(rf"manifest\.json: .*{said}", refusal(lambda: read_manifest(path)))

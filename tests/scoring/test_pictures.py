"""Restored pictures beside a run: only the named ones are kept, and only those of this run count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adaptsr.data.images import read_image
from adaptsr.errors import UserError
from adaptsr.scoring.pictures import Picture, find_pictures, keep_pictures, kept_pictures, picture_path

CAT, DOG = Picture("photos", "cat"), Picture("photos", "dog")


def restored(picture: Picture) -> torch.Tensor:
    return torch.full((3, 8, 8), len(picture.image), dtype=torch.uint8)


def test_pictures_are_found_in_every_test_dataset() -> None:
    tests = [("a", ["cat", "dog"]), ("b", ["cat"])]
    assert find_pictures(["cat", "dog", "cat"], tests) == [
        Picture("a", "cat"),
        Picture("b", "cat"),
        Picture("a", "dog"),
    ]
    with pytest.raises(UserError, match=r"report.pictures: no test image 'cst' \(did you mean 'cat'\?\); .* have 3"):
        find_pictures(["cst"], tests)


def test_what_is_kept_is_what_is_named(tmp_path: Path) -> None:
    keep_pictures(tmp_path, "photos", "key", [CAT, DOG], restored)
    assert kept_pictures(tmp_path, "photos", "key") == {CAT, DOG}
    assert (read_image(picture_path(tmp_path, CAT)) == 3).all()
    keep_pictures(tmp_path, "photos", "key", [DOG], restored)
    assert kept_pictures(tmp_path, "photos", "key") == {DOG}
    assert not picture_path(tmp_path, CAT).exists()


def test_pictures_of_another_run_or_without_their_file_do_not_count(tmp_path: Path) -> None:
    assert kept_pictures(tmp_path, "photos", "key") == set()
    keep_pictures(tmp_path, "photos", "key", [CAT, DOG], restored)
    assert kept_pictures(tmp_path, "photos", "another key") == set()
    assert kept_pictures(tmp_path, "photos") == {CAT, DOG}
    picture_path(tmp_path, CAT).unlink()
    assert kept_pictures(tmp_path, "photos", "key") == {DOG}


def test_an_interrupted_keeping_leaves_nothing_that_counts(tmp_path: Path) -> None:
    keep_pictures(tmp_path, "photos", "key", [CAT], restored)

    def interrupted(picture: Picture) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_pictures(tmp_path, "photos", "key", [CAT, DOG], interrupted)
    assert kept_pictures(tmp_path, "photos", "key") == set()

"""Names of one image on two systems, or in a data set's two folders, are one name."""

from __future__ import annotations

import unicodedata

import pytest

from adaptsr.data.names import is_system_file, match_stems

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (DECOMPOSED, COMPOSED, "Unicode form"),
        ("IMG_1", "img_1", "upper and lower case"),
        (DECOMPOSED.upper(), COMPOSED, "upper and lower case"),
        ("Canon_001_LR4", "Canon_001_HR", "suffix"),
        ("Canon_001_LR2", "canon_001_hr", "suffix"),
        ("0801x4", "0801", "suffix"),
        ("0801x4d", "0801", "suffix"),
        ("panasonic_12_x1", "panasonic_12_x4", "suffix"),
        ("a-lr", "a.gt", "suffix"),
        ("a_lq", "a_gt", "suffix"),
        ("Nikon_3_LR4_out", "Nikon_3_HR", "suffix"),
        ("a_x2_SR", "a", "suffix"),
        ("a", "a", None),
        ("a_1", "a_2", "nothing"),
        ("box2", "box3", "nothing"),
        ("a_lr", "b_hr", "nothing"),
        ("ultrahr", "ultralr", "nothing"),
        ("lr", "hr", "nothing"),
    ],
)
def test_pairs_of_names(one: str, other: str, difference: str | None) -> None:
    matched = match_stems([one], [other])
    assert matched.pairs == ({} if difference == "nothing" else {one: other})
    assert list(matched.differing) == ([] if difference in (None, "nothing") else [difference])


def test_the_nearest_name_comes_first_and_none_is_guessed() -> None:
    assert match_stems(["a", "A"], ["a"]).pairs == {"a": "a"}
    assert match_stems(["a_lr", "a"], ["a", "a_hr"]).pairs == {"a": "a", "a_lr": "a_hr"}
    assert match_stems(["a_x2", "a_x3", "a_x4"], ["a"]).pairs == {}


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        (".DS_Store", True),
        ("._a.png", True),
        ("Thumbs.db", True),
        ("desktop.ini", True),
        ("@eaDir", True),
        ("__MACOSX", True),
        ("a.png", False),
        ("thumbs.png", False),
        ("notes.txt", False),
    ],
)
def test_files_of_the_system(name: str, hidden: bool) -> None:
    assert is_system_file(name) is hidden

"""Folders are matched in one way, whoever asks, and everything wrong with them is said in one line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptsr.config.schema import Pairs
from adaptsr.data.catalogue import DatasetPart
from adaptsr.data.images import write_png
from adaptsr.data.kinds import archive, pairs
from adaptsr.data.matching import Side, match
from adaptsr.data.store import PairSet
from adaptsr.errors import MOST_PROBLEMS_SHOWN, raise_all
from adaptsr.scoring.external import images_digest, read_external
from adaptsr.scoring.folders import score_folders, standard_scoring
from tests.factories import noise, refusal

NAMES = ("a", "b", "c.d")
SIDE = 8


def as_pairs(root: Path) -> None:
    declared = Pairs(kind="pairs", lr=str(root / "given"), hr=str(root / "hr"), split={"test": "all"})
    pairs.prepare("own", declared, root / "out", 4)


def as_archive(root: Path) -> None:
    staging = root / "staging"
    (staging / "test").mkdir(parents=True)
    for side, folder in (("lr", "given"), ("hr", "hr")):
        if (root / folder).is_dir():
            shutil.copytree(root / folder, staging / "test" / side, symlinks=True)
    images = "set:{name}.png"
    part = DatasetPart(name="set", scale=4, split="test", lr=images, hr=images)
    archive._check_splits("own", [part], staging, 4)


def as_restored(root: Path) -> None:
    score_folders(root / "given", root / "hr", standard_scoring(), 0)


def as_external(root: Path) -> None:
    hr = [noise(name, 4 * SIDE, 4 * SIDE) for name in NAMES]
    test = PairSet(name="photos", scale=4, names=NAMES, scenes=NAMES, lr=hr, hr=hr)
    read_external(root / "given", test)


CALLERS: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "pairs": (as_pairs, "LR", 4),
    "archive": (as_archive, "test LR", 4),
    "score": (as_restored, "restored", 1),
    "external": (as_external, "restored", 1),
}
"""Who matches folders, what it calls the side that is wrong here, and the scale between the sides."""


def linked(given: Path) -> None:
    (given / "b.png").rename(given.parent / "b.png")
    (given / "b.png").symlink_to(given.parent / "b.png")


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a partner is missing": (
        lambda given: (given / "b.png").unlink(),
        r"b\.png: no {side} image of this name$|no {side} image 'b'$",
    ),
    "two files of one name": (
        lambda given: shutil.copy(given / "b.png", given / "b.bmp"),
        r"{side} b\.png: has the same name as {side} b\.bmp; keep one of the two$",
    ),
    "a link out of the folder": (
        linked,
        r"{side} b\.png: a link that leads out of the folder; put the file itself there$",
    ),
    "another size": (
        lambda given: write_png(given / "b.png", noise("b", SIDE // 2, SIDE // 2)),
        r" b\.png: \d+x\d+ beside .* \d+x\d+( is a scale of 8, but|: the sizes must be equal)",
    ),
    "damaged": (
        lambda given: (given / "b.png").write_bytes(b"no image"),
        r"{side} b\.png: unreadable or truncated image",
    ),
}


def folders(root: Path, scale: int) -> Path:
    """Two folders that match; the first of them is returned."""
    for name in NAMES:
        write_png(root / "given" / f"{name}.png", noise(name, 4 * SIDE // scale, 4 * SIDE // scale))
        write_png(root / "hr" / f"{name}.png", noise(name, 4 * SIDE, 4 * SIDE))
    return root / "given"


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("case", CASES)
def test_every_caller_names_what_is_wrong(tmp_path: Path, case: str, caller: str) -> None:
    (call, called, scale), (spoil, said) = CALLERS[caller], CASES[case]
    spoil(folders(tmp_path, scale))
    message = refusal(lambda: call(tmp_path))
    assert re.search(said.format(side=called), message)
    assert "a.png" not in message
    assert "problems" not in message, "one mistake is one problem"


@pytest.mark.parametrize("caller", CALLERS)
def test_every_caller_says_everything_at_once(tmp_path: Path, caller: str) -> None:
    call, called, scale = CALLERS[caller]
    given = folders(tmp_path, scale)
    write_png(given / "a.png", noise("a", SIDE // 2, SIDE // 2))
    (given / "b.png").unlink()
    (given / "c.d.png").write_bytes(b"no image")
    message = refusal(lambda: call(tmp_path))
    for said in ("3 problems: ", f"no {called} image", f"{called} c.d.png: unreadable", "a.png: "):
        assert said in message


@pytest.mark.parametrize("caller", ["pairs", "archive", "score"])
@pytest.mark.parametrize(("empty", "said"), [(True, "no {} images in "), (False, "no such folder ")])
def test_a_folder_without_images_is_one_problem(tmp_path: Path, caller: str, empty: bool, said: str) -> None:
    call, called, scale = CALLERS[caller]
    given = folders(tmp_path, scale)
    shutil.rmtree(given)
    if empty:
        given.mkdir()
    message = refusal(lambda: call(tmp_path))
    assert said.format(called) in message
    assert "of this name" not in message


@pytest.mark.parametrize("caller", CALLERS)
def test_folders_that_match_are_accepted(tmp_path: Path, caller: str) -> None:
    """Suffixes may differ, hidden files are left alone, a folder may be a link, and so may a file within it."""
    call, _, scale = CALLERS[caller]
    given = folders(tmp_path, scale)
    (given / "a.png").rename(given / "a.PNG")
    (given / ".b.png").write_bytes(b"x")
    given.rename(tmp_path / "elsewhere")
    if caller != "archive":  # which copies the folder
        given.symlink_to("elsewhere")
    else:
        (tmp_path / "elsewhere").rename(given)
    call(tmp_path)


def test_other_files_are_a_problem_where_only_images_may_be(tmp_path: Path) -> None:
    given = folders(tmp_path, 1)
    (given / "notes.txt").write_text("hello")
    (given / "more").mkdir()
    problems: list[str] = []
    assert list(match(Side("HR", tmp_path / "hr"), Side("SR", given), problems)) == sorted(NAMES)
    assert not problems
    match(Side("HR", tmp_path / "hr"), Side("SR", given, images_only=True), problems)
    assert [problem.partition(";")[0] for problem in problems] == [
        "SR more: not an image",
        "SR notes.txt: not an image",
    ]


def test_the_digest_of_external_images_needs_every_image(tmp_path: Path) -> None:
    given = folders(tmp_path, 1)
    assert images_digest(given, NAMES) != images_digest(tmp_path / "hr", NAMES[:2])
    assert images_digest(given, NAMES) == images_digest(tmp_path / "hr", NAMES)
    assert images_digest(tmp_path / "gone", NAMES) == ""
    (given / "b.png").unlink()
    assert "no restored image 'b'" in refusal(lambda: images_digest(given, NAMES))


def test_many_problems_are_cut() -> None:
    raise_all("here", [])
    assert refusal(lambda: raise_all("here", ["only"])) == "here: only"
    message = refusal(lambda: raise_all("here", [f"p{number}" for number in range(MOST_PROBLEMS_SHOWN + 3)]))
    assert re.search(r"^here: 23 problems: p0; .*p19; and 3 more$", message)

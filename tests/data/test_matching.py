"""Folders are matched in one way, whoever asks, and everything wrong with them is said in one line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptsr.config.schema import Pairs
from adaptsr.data.catalogue import DatasetPart
from adaptsr.data.images import write_png
from adaptsr.data.kinds import archive, pairs
from adaptsr.data.matching import Side, match, read_matched, size_mismatch
from adaptsr.data.store import PairSet
from adaptsr.errors import MOST_PROBLEMS_SHOWN, UserError, raise_all
from adaptsr.scoring.external import images_digest, read_external
from adaptsr.scoring.folders import score_folders, standard_scoring

NAMES = ("a", "b", "c.d")
SIDE = 8


def image(key: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(key))


def declared(root: Path) -> Pairs:
    return Pairs(kind="pairs", lr=str(root / "given"), hr=str(root / "hr"), split={"test": "all"})


def as_pairs(root: Path) -> None:
    pairs.prepare("own", declared(root), root / "out", 4)


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
    hr = [image(index, 4 * SIDE) for index in range(len(NAMES))]
    test = PairSet(name="photos", scale=4, names=NAMES, scenes=NAMES, lr=hr, hr=hr)
    read_external(root / "given", test)


CALLERS: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "pairs": (as_pairs, "LR", 4),
    "archive": (as_archive, "test LR", 4),
    "score": (as_restored, "restored", 1),
    "external": (as_external, "restored", 1),
}
"""Who matches folders, what it calls the side that is wrong here, and the scale between the sides."""


def missing(given: Path) -> None:
    (given / "b.png").unlink()


def repeated(given: Path) -> None:
    shutil.copy(given / "b.png", given / "b.bmp")


def linked(given: Path) -> None:
    (given / "b.png").rename(given.parent / "b.png")
    (given / "b.png").symlink_to(given.parent / "b.png")


def resized(given: Path) -> None:
    write_png(given / "b.png", image(1, SIDE // 2))


def damaged(given: Path) -> None:
    (given / "b.png").write_bytes(b"no image")


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a partner is missing": (missing, r"b\.png: no {side} image of this name$|no {side} image 'b'$"),
    "two files of one name": (repeated, r"{side} b\.png: has the same name as {side} b\.bmp; keep one of the two$"),
    "a link out of the folder": (
        linked,
        r"{side} b\.png: a link that leads out of the folder; put the file itself there$",
    ),
    "another size": (resized, r" b\.png: \d+x\d+ beside .* \d+x\d+"),
    "damaged": (damaged, r"{side} b\.png: unreadable or truncated image"),
}


def folders(root: Path, scale: int) -> Path:
    """Two folders that match; the first of them is returned."""
    for index, name in enumerate(NAMES):
        write_png(root / "given" / f"{name}.png", image(index, 4 * SIDE // scale))
        write_png(root / "hr" / f"{name}.png", image(index, 4 * SIDE))
    return root / "given"


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("case", CASES)
def test_every_caller_names_what_is_wrong(tmp_path: Path, case: str, caller: str) -> None:
    (call, called, scale), (spoil, said) = CALLERS[caller], CASES[case]
    spoil(folders(tmp_path, scale))
    with pytest.raises(UserError) as caught:
        call(tmp_path)
    message = str(caught.value)
    assert re.search(said.format(side=called), message)
    assert "a.png" not in message
    assert "problems" not in message, "one mistake is one problem"
    assert message.isprintable()


@pytest.mark.parametrize("caller", CALLERS)
def test_every_caller_says_everything_at_once(tmp_path: Path, caller: str) -> None:
    call, called, scale = CALLERS[caller]
    given = folders(tmp_path, scale)
    write_png(given / "a.png", image(0, SIDE // 2))
    missing(given)
    (given / "c.d.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="3 problems: ") as caught:
        call(tmp_path)
    message = str(caught.value)
    assert f"no {called} image" in message
    assert f"{called} c.d.png: unreadable" in message
    assert "a.png: " in message


@pytest.mark.parametrize("caller", ["pairs", "archive", "score"])
@pytest.mark.parametrize(("empty", "said"), [(True, "no {} images in "), (False, "no such folder ")])
def test_a_folder_without_images_is_one_problem(tmp_path: Path, caller: str, empty: bool, said: str) -> None:
    call, called, scale = CALLERS[caller]
    given = folders(tmp_path, scale)
    shutil.rmtree(given)
    if empty:
        given.mkdir()
    with pytest.raises(UserError) as caught:
        call(tmp_path)
    assert said.format(called) in str(caught.value)
    assert "of this name" not in str(caught.value)


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


def test_matched_images_are_read(tmp_path: Path) -> None:
    given = folders(tmp_path, 4)
    problems: list[str] = []
    found = match(Side("LR", given), Side("HR", tmp_path / "hr"), problems)
    read = read_matched(*found["b"], 4, problems)
    assert read
    assert torch.equal(read[1], image(1, 4 * SIDE))
    assert not problems


@pytest.mark.parametrize(
    ("small", "large", "scale", "said"),
    [
        ((6, 7), (24, 28), 4, None),
        ((6, 7), (6, 7), 1, None),
        ((6, 7), (7, 6), 1, "6x7 beside LR 7x6: the sizes must be equal"),
        ((6, 7), (12, 14), 4, "14x12 beside LR 7x6 is a scale of 2, but the profile has 4"),
        ((6, 7), (25, 28), 4, "28x25 beside LR 7x6: HR is not a multiple of the scale 4"),
        ((6, 7), (24, 24), 4, "24x24 beside LR 7x6: the sizes do not match; expected LR of 6x6"),
    ],
)
def test_sizes(small: tuple[int, int], large: tuple[int, int], scale: int, said: str | None) -> None:
    assert size_mismatch(torch.empty(3, *small), torch.empty(3, *large), scale) == said


def test_many_problems_are_cut(tmp_path: Path) -> None:
    raise_all("here", [])
    with pytest.raises(UserError, match=r"^here: only$"):
        raise_all("here", ["only"])
    with pytest.raises(UserError, match=r"^here: 23 problems: p0; .*p19; and 3 more$") as caught:
        raise_all("here", [f"p{number}" for number in range(MOST_PROBLEMS_SHOWN + 3)])
    assert "p20" not in str(caught.value)


def test_the_digest_of_external_images_needs_every_image(tmp_path: Path) -> None:
    given = folders(tmp_path, 1)
    assert images_digest(given, NAMES) != images_digest(tmp_path / "hr", NAMES[:2])
    assert images_digest(given, NAMES) == images_digest(tmp_path / "hr", NAMES)
    assert images_digest(tmp_path / "gone", NAMES) == ""
    missing(given)
    with pytest.raises(UserError, match="no restored image 'b'"):
        images_digest(given, NAMES)

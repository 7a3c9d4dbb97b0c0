"""Folders are matched in one way, whoever asks, and everything wrong with them is said in one line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as ImageFile

from adaptsr.config.schema import Pairs
from adaptsr.data.catalogue import DatasetPart
from adaptsr.data.images import write_png
from adaptsr.data.kinds import archive, pairs
from adaptsr.data.matching import Side, match
from adaptsr.data.store import PairSet
from adaptsr.errors import MOST_PROBLEMS_SHOWN, raise_all
from adaptsr.scoring.external import images_digest, read_external
from adaptsr.scoring.folders import score_folders, standard_scoring
from tests.factories import noise, reduced, refusal

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
        r"(b\.png|'b'): no {side} image of this name$",
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
        hr = noise(name, 4 * SIDE, 4 * SIDE)
        write_png(root / "given" / f"{name}.png", reduced(hr, scale))
        write_png(root / "hr" / f"{name}.png", hr)
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


RENAMED: dict[str, tuple[Callable[[str], str], Callable[[str], str], str]] = {
    "Unicode form": (lambda name: f"{name}e\u0301", lambda name: f"{name}\u00e9", "Unicode form"),
    "case": (str.upper, str, "upper and lower case"),
    "suffixes": (lambda name: f"{name}_LR4", lambda name: f"{name}_HR", "suffix"),
    "one suffix": (lambda name: f"{name}x4", str, "suffix"),
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("case", RENAMED)
def test_every_caller_matches_names_of_one_image_and_says_so_once(
    tmp_path: Path, case: str, caller: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call, _, scale = CALLERS[caller]
    given_name, hr_name, difference = RENAMED[case]
    given = folders(tmp_path, scale)
    for name in NAMES:
        (given / f"{name}.png").rename(given / f"{given_name(name + '1')}.png")
        (tmp_path / "hr" / f"{name}.png").rename(tmp_path / "hr" / f"{hr_name(name + '1')}.png")
    monkeypatch.setattr("tests.data.test_matching.NAMES", tuple(hr_name(name + "1") for name in NAMES))
    call(tmp_path)
    assert capsys.readouterr().err.count(f"although their names differ in their {difference} (") == 1


@pytest.mark.parametrize("caller", CALLERS)
def test_every_caller_ignores_files_of_the_system_and_names_them(
    tmp_path: Path, caller: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call, _, scale = CALLERS[caller]
    given = folders(tmp_path, scale)
    for name in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini"):
        (given / name).write_bytes(b"x")
    (given / "@eaDir").mkdir()
    call(tmp_path)
    said = "ignored files that are not images (5): .DS_Store, ._a.png, @eaDir and 2 more"
    assert (said in capsys.readouterr().err) == (caller != "external")  # where other files are left alone


def test_many_images_with_one_mistake_are_one_entry(tmp_path: Path) -> None:
    given = folders(tmp_path, 4)
    for name in NAMES:
        write_png(given / f"{name}.png", noise(name, SIDE // 2, SIDE // 2))
        shutil.copy(given / f"{name}.png", given / f"{name}2.png")
    message = refusal(lambda: as_pairs(tmp_path))
    assert "LR a2.png: no HR image of this name (likewise LR b2.png, LR c.d2.png); " in message
    assert message.endswith("is a scale of 8, but the profile has 4 (likewise HR b.png, HR c.d.png)")


def test_a_pair_of_which_one_is_turned_is_named(tmp_path: Path) -> None:
    given = folders(tmp_path, 4)
    image = noise("a", 4 * SIDE, 8 * SIDE)
    write_png(tmp_path / "hr/a.png", image)
    write_png(given / "a.png", reduced(image, 4).rot90(1, (1, 2)))
    said = "HR a.png: 64x32 beside LR 8x16: one of the two is turned by 90 degrees"
    assert said in refusal(lambda: as_pairs(tmp_path))


@pytest.mark.parametrize("turned", [(1,), (0, 1)])
def test_an_orientation_in_exif_counts_alike_in_lr_and_hr(tmp_path: Path, turned: tuple[int, ...]) -> None:
    """A file that is stored turned and says so is the same as one that is stored upright."""
    given = folders(tmp_path, 4)
    image = noise("a", 4 * SIDE, 8 * SIDE)
    exif = ImageFile.Exif()
    exif[0x0112] = 6
    for place, (folder, pixels) in enumerate(((given, reduced(image, 4)), (tmp_path / "hr", image))):
        if place in turned:
            stored = ImageFile.fromarray(pixels.rot90(1, (1, 2)).permute(1, 2, 0).contiguous().numpy())
            stored.save(folder / "a.png", exif=exif)
        else:
            write_png(folder / "a.png", pixels)
    as_pairs(tmp_path)


def test_a_pair_of_two_scenes_is_named(tmp_path: Path) -> None:
    given = folders(tmp_path, 4)
    (given / "a.png").rename(given / "x.png")
    (given / "b.png").rename(given / "a.png")
    (given / "x.png").rename(given / "b.png")
    message = refusal(lambda: as_pairs(tmp_path))
    assert "HR a.png: LR and HR do not show the same scene" in message
    assert "(likewise HR b.png)" in message


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
    assert "'b': no restored image of this name" in refusal(lambda: images_digest(given, NAMES))


def test_many_problems_are_cut() -> None:
    raise_all("here", [])
    assert refusal(lambda: raise_all("here", ["only"])) == "here: only"
    letters = [chr(ord("a") + number) for number in range(MOST_PROBLEMS_SHOWN + 3)]
    message = refusal(lambda: raise_all("here", [f"x: {letter}" for letter in letters]))
    assert re.search(r"^here: 23 problems: x: a; .*x: t; and 3 more$", message)

"""Folders of pairs are checked with a page, and aligned with a list of what was dropped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from adaptsr.camera.folders import align_folders, check_folders
from adaptsr.camera.registration import register
from adaptsr.cli import main
from adaptsr.data.images import read_image, write_png
from tests.camera.scenes import Change, pair
from tests.factories import refusal, tree

CHANGES = {
    "IMG_1": Change(),
    "IMG_2": Change(14, -9, degrees=1),
    "IMG_3": Change(gain=0.7, offset=5),
    "IMG_5": Change(1, 1),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound pair, one that is shifted, one exposed otherwise, a wrong one, a copy of the first, and a damaged one."""
    root = tmp_path_factory.mktemp("pairs")
    images = {name: pair(name, change) for name, change in CHANGES.items()}
    images["IMG_4"] = (images["IMG_1"][0], images.pop("IMG_5")[1])
    images["IMG_6"] = images["IMG_1"]
    for name, (lr, hr) in images.items():
        write_png(root / "lr" / f"{name}.png", lr)
        write_png(root / "hr" / f"{name}_HR.png", hr)
    for side in ("lr", "hr"):
        (root / side / "IMG_7.png").write_bytes(b"no image")
    return root


def quiet(line: str) -> None:
    pass


def test_a_check_says_what_is_wrong_with_which_pair(pairs: Path, tmp_path: Path) -> None:
    summary = check_folders(pairs / "lr", pairs / "hr", tmp_path, None, quiet)
    found = {checked.name.removesuffix("_HR"): " ".join(checked.findings) for checked in summary.pairs}
    assert found["IMG_1"] == ""
    assert "LR pixels off" in found["IMG_2"]
    assert "levels darker" in found["IMG_3"]
    assert "scene" in found["IMG_4"]
    assert "photograph of IMG_1_HR" in found["IMG_6"]
    assert "unreadable" in found["IMG_7"]
    said = " ".join(summary.verdict)
    assert "1 of 6 pairs are off by more than 0.5 LR pixels" in said
    assert "2 of 6 pairs are of no use" in said
    table = pd.read_csv(tmp_path / "pairs.csv").set_index("name")
    assert table.loc["IMG_2_HR", "shift_x"] == pytest.approx(14 / 4, abs=0.1)
    page = (tmp_path / "index.html").read_text()
    assert page.count('<article class="picture"') == 5
    assert page.index("<h3>IMG_4_HR") < page.index("<h3>IMG_2_HR") < page.index("<h3>IMG_1_HR")
    with Image.open(tmp_path / "pictures/2-flicker.png") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]


def test_aligning_drops_what_does_not_fit_and_says_so(pairs: Path, tmp_path: Path) -> None:
    before = tree(pairs)
    align_folders(pairs / "lr", pairs / "hr", tmp_path, None, quiet)
    assert tree(pairs) == before
    names = sorted(path.stem.removesuffix("_HR") for path in (tmp_path / "hr").iterdir())
    assert names == ["IMG_1", "IMG_2", "IMG_3", "IMG_6"]
    for path in (tmp_path / "lr").iterdir():
        lr, hr = read_image(path), read_image(tmp_path / "hr" / path.name)
        place = register(lr, hr, 4)
        assert place
        assert place.farthest < 0.15
    dropped = pd.read_csv(tmp_path / "dropped.csv").set_index("name")["reason"]
    assert "scene" in dropped["IMG_4_HR"]
    assert "unreadable" in dropped["IMG_7"]


def test_the_given_pairs_are_never_replaced(pairs: Path) -> None:
    before = tree(pairs)
    assert "would replace the given ones" in refusal(
        lambda: align_folders(pairs / "lr", pairs / "hr", pairs, None, quiet)
    )
    assert tree(pairs) == before


def test_pairs_of_which_none_fits_are_an_error(tmp_path: Path) -> None:
    for side in ("lr", "hr"):
        write_png(tmp_path / side / "a.png", torch.zeros(3, 16, 16, dtype=torch.uint8))
    said = refusal(lambda: align_folders(tmp_path / "lr", tmp_path / "hr", tmp_path / "out", None, quiet))
    assert "no pair can be aligned" in said
    assert "dropped.csv" in said


def test_from_the_shell(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(pairs / "lr"), str(pairs / "hr"), "-o", str(tmp_path)]
    assert main(["pairs", "check", *words]) == 0
    assert "align them with `adaptsr pairs align`" in capsys.readouterr().out
    assert main(["pairs", "align", *words, "--scale", "4"]) == 0
    assert "4 of 6 pairs are aligned" in capsys.readouterr().out


def copied(pairs: Path, folder: Path, names: dict[str, str]) -> Path:
    """A folder with some of the sound pairs, under other names."""
    for side in ("lr", "hr"):
        (folder / side).mkdir(parents=True, exist_ok=True)
        for name, source in names.items():
            [path] = (pairs / side).glob(f"{source}*.png")
            (folder / side / f"{name}.png").write_bytes(path.read_bytes())
    return folder


def test_one_pair_of_another_size_is_named_and_spoils_no_other(pairs: Path, tmp_path: Path) -> None:
    """The first pair's HR is a thumbnail: the scale is what most pairs have."""
    given = copied(pairs, tmp_path / "given", {"a": "IMG_6", "b": "IMG_6", "c": "IMG_6"})
    lr = read_image(given / "lr/a.png")
    write_png(given / "hr/a.png", lr)
    checked = check_folders(given / "lr", given / "hr", tmp_path / "page", None, quiet)
    assert "HR is 1 times LR, of most pairs 4 times" in checked.pairs[0].reason
    assert [pair.reason for pair in checked.pairs[1:]] == ["", ""]
    assert not any("inf" in sentence for sentence in checked.verdict)


def test_aligning_again_leaves_no_pair_of_the_time_before(pairs: Path, tmp_path: Path) -> None:
    given = copied(pairs, tmp_path / "given", {"a": "IMG_6", "b": "IMG_1"})
    align_folders(given / "lr", given / "hr", tmp_path / "out", None, quiet)
    for side in ("lr", "hr"):
        (given / side / "b.png").unlink()
    align_folders(given / "lr", given / "hr", tmp_path / "out", None, quiet)
    assert sorted(tree(tmp_path / "out")) == ["dropped.csv", "hr/a.png", "lr/a.png", "pairs.csv"]


def test_aligning_never_removes_images_of_others(pairs: Path, tmp_path: Path) -> None:
    given = copied(pairs, tmp_path / "given", {"a": "IMG_6"})
    mine = copied(pairs, tmp_path / "mine", {"z": "IMG_6"})
    check_folders(mine / "lr", mine / "hr", mine, None, quiet)  # its table lies there too
    before = tree(mine)
    said = refusal(lambda: align_folders(given / "lr", given / "hr", mine, None, quiet))
    assert "holds images that this command did not write" in said
    assert tree(mine) == before


def test_damaged_files_decide_nothing_about_the_scale(pairs: Path, tmp_path: Path) -> None:
    given = copied(pairs, tmp_path / "given", {"a": "IMG_6"})
    for side in ("lr", "hr"):
        (given / side / "broken.tif").write_bytes(b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 30)
    checked = check_folders(given / "lr", given / "hr", tmp_path / "page", None, quiet)
    assert {pair.name: bool(pair.reason) for pair in checked.pairs} == {"a": False, "broken": True}
    for side in ("lr", "hr"):
        (given / side / "a.png").unlink()
    said: list[str] = []
    check_folders(given / "lr", given / "hr", tmp_path / "page", None, said.append)
    assert not any("of one size" in line for line in said)


@pytest.mark.parametrize("scale", ["0", "-2", "two"])
def test_a_scale_that_is_none_is_refused(pairs: Path, capsys: pytest.CaptureFixture[str], scale: str) -> None:
    with pytest.raises(SystemExit):
        main(["pairs", "check", str(pairs / "lr"), str(pairs / "hr"), f"--scale={scale}"])
    assert "expected a whole number of at least 1" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_page_is_one_line(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("mine")
    assert main(["pairs", "check", str(pairs / "lr"), str(pairs / "hr"), "-o", str(tmp_path / "taken")]) == 2
    assert "a file or folder of that name is in the way" in capsys.readouterr().err.splitlines()[-1]


def test_frames_of_one_size_are_pairs_by_the_factor_of_their_focal_lengths(tmp_path: Path) -> None:
    """The nearer view shows the middle of the wider one, twice as large."""
    for number in range(2):
        lr, hr = pair(number, Change(), (96, 128), scale=2)
        write_png(tmp_path / f"lr/{number}.png", lr)
        write_png(tmp_path / f"hr/{number}.png", hr[:, 48:144, 64:192].contiguous())
    said: list[str] = []
    check_folders(tmp_path / "lr", tmp_path / "hr", tmp_path / "page", None, said.append)
    assert "give --scale N" in said[0]
    align_folders(tmp_path / "lr", tmp_path / "hr", tmp_path / "out", 2, quiet)
    for number in range(2):
        lr, hr = (read_image(tmp_path / f"out/{side}/{number}.png") for side in ("lr", "hr"))
        assert hr.shape[1:] == (2 * lr.shape[1], 2 * lr.shape[2])
        assert lr.shape[1:] >= (40, 56)
        place = register(lr, hr, 2)
        assert place
        assert place.farthest < 0.15

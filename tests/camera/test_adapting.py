"""`adapt` chooses, writes a profile that the workflow takes, and leaves a model to take away."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from adaptsr.backbones.build import build_from_file
from adaptsr.camera import placing
from adaptsr.camera.adapting import degradation_of
from adaptsr.cli import main
from adaptsr.cli.common import progress
from adaptsr.config.reading import load_profile
from adaptsr.data import catalogue
from adaptsr.data.degradation import bicubic
from adaptsr.data.images import read_image, to_float, to_uint8, write_png
from adaptsr.data.scenes import scene_mismatch
from adaptsr.runs.records import read_record
from tests.camera.scenes import Change, pair
from tests.factories import refusal

WEIGHTS = ["--weights", "resources/demo/safmn.safetensors"]
PAIRS = ["--pairs", "pairs"]
NAME = ["-o", "mine"]


@pytest.fixture
def project(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, no_weights: Path) -> Path:
    """A project with pairs named as cameras name files; the workflow's training and scoring are done in this process."""
    (tmp_path / "Snakefile").touch()
    (tmp_path / "config").mkdir()
    shutil.copy(repository / "config/pilot.yaml", tmp_path / "config")
    shutil.copytree(repository / "resources/demo", tmp_path / "resources/demo")
    for number in range(6):
        lr, hr = pair(number, Change(), (24, 40))
        write_png(tmp_path / f"pairs/lr/P114012{number}_x1.png", lr)
        write_png(tmp_path / f"pairs/hr/P114012{number}_x4.png", hr)

    run = subprocess.run

    def workflow(command: list[str], **options: Any) -> Any:
        if "snakemake" not in command:
            return run(command, **options)
        workflows.append(command)
        profile = ["--profile", command[command.index("--configfile") + 1]]
        for split in ("train", "validation", "test"):
            assert main(["data", "prepare", f"mine-{split}", *profile]) == 0
        row = load_profile(Path(profile[1])).report.tables["adaptation"].rows[1]
        if main(["train", "--backbone", "given", "--variant", row, *profile]):
            return SimpleNamespace(returncode=1)
        assert main(["score-runs", "--backbone", "given", "--out", "scored.json", *profile]) == 0
        return SimpleNamespace(returncode=main(["gather", "--out", "results/mine/scores.parquet", *profile]))

    workflows: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", workflow)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("words", "row"), [([], "rank_aware/gradient"), (["--method", "lora/r1"], "lora/r1")])
def test_from_pairs_to_a_model(project: Path, capsys: pytest.CaptureFixture[str], words: list[str], row: str) -> None:
    assert main(["adapt", *PAIRS, *WEIGHTS, *NAME, "--iterations", "2", *words]) == 0
    said = capsys.readouterr()
    assert "6 pairs of 6 scenes: 3 for train, 2 for test, 1 for validation" in said.err
    assert f"{row} on cpu, crops of 24 LR pixels, batch 4, 2 iterations, the learning rate not tuned: about" in said.err
    assert "of memory" in said.err
    assert "PSNR-Y on 2 test pictures of 2 scenes that were not trained on" in said.out
    assert "results/mine/model holds the adapted model" in said.out
    model = project / "results/mine/model"
    build_from_file(model / "4x_mine.safetensors")
    record = read_record(model / "record.json")
    assert record.keeps_best
    assert any("did best on the validation split" in note for note in record.notes)
    card = (model / "README.md").read_text()
    assert f"adaptsr adapt --pairs PAIRS --weights safmn.safetensors -o mine --method {row} --iterations 2" in card
    page = (model / "report.html").read_text()
    assert page.count('<article class="picture"') == 2
    assert "95% interval" in page
    assert "not tested: AlexNet and LPIPS weights not available" in page
    assert all((model / src).is_file() for src in re.findall(r'src="(pictures/[^"]*)"', page))


def test_what_was_chosen_is_kept_until_something_else_is_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Timed steps differ every time: chosen anew, the iterations would make another run of the one that was stopped."""
    words = ["adapt", *PAIRS, *WEIGHTS, *NAME, "--minutes", "0.001", "--method", "lora/r1"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "20 iterations" in said
    assert "--minutes 0.001: too few for this model on this machine" in said
    record = project / "results/mine/given/lora/r1/seed1/record.json"
    before = record.stat().st_mtime_ns
    assert main(words) == 0
    assert "going on with what was chosen before" in capsys.readouterr().err
    assert record.stat().st_mtime_ns == before
    assert main([*words, "--iterations", "2"]) == 0
    assert "going on" not in capsys.readouterr().err
    assert read_record(record).iterations == 2


def test_from_photographs_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LR of validation and test is made once; training degrades its crops, with the ranges that were given."""
    words = ["--photographs", "pairs/hr", "--degradation", "blur_sigma=0.2-1", "jpeg_quality=70-95"]
    assert main(["adapt", *words, *WEIGHTS, *NAME, "--iterations", "2", "--method", "lora/r1"]) == 0
    said = capsys.readouterr().err
    assert "blur_sigma 0.2-1 pixels; resize_range 0.15-1.5, then 0.3-1.2 factors" in said
    assert "6 photographs of 6 scenes" in said
    [source] = load_profile(project / "resources/adapt/mine/profile.yaml").data.train
    assert source.degradation
    assert source.degradation.second.blur_sigma == (0.2, 1)
    hr, lr = (read_image(next((project / f"resources/adapt/mine/test/{side}").iterdir())) for side in ("hr", "lr"))
    assert not torch.equal(lr, to_uint8(bicubic(to_float(hr)[None], 4))[0])
    assert "gains are of that degradation" in (project / "results/mine/model/report.html").read_text()


def test_of_large_images_a_part_is_tested(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "LARGEST", {"validation": 32, "test": 64})
    placed = placing.place_pairs(Path("pairs"), project / "placed", 4, lambda line: None)
    assert (placed.validation, placed.test) == (8 * 8, 2 * 16 * 16)
    [name, _] = placed.splits["test"]
    lr, hr = (read_image(project / f"placed/test/{side}/{name}.png") for side in ("lr", "hr"))
    assert hr.shape[1:] == (64, 64)
    assert scene_mismatch(lr, hr) is None
    assert {path.suffix for path in (project / "placed/train/lr").iterdir()} == {".png"}


def test_a_full_disk_is_one_line_and_the_next_try_goes_on(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["adapt", *PAIRS, *WEIGHTS, *NAME, "--iterations", "2", "--method", "lora/r1"]

    def full(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copy2", full)
        patched.setattr(os, "link", full)
        assert main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device; make room and run the same command again" in last
    assert main(words) == 0


def test_misaligned_pairs_are_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        lr, hr = pair(number, Change(3, -3), (24, 40))
        write_png(project / f"off/lr/{number}.png", lr)
        write_png(project / f"off/hr/{number}.png", hr)
    placing.place_pairs(project / "off", project / "placed", 4, progress)
    assert "6 of 6 pairs that were looked at are off by more than 0.5 LR pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-o", "../mine"], "invalid name"),
        (["-o", "pilot"], "config/pilot.yaml is another profile of this name"),
        (["-o", "mine", "--minutes", "0"], "expected a number above 0"),
        (["-o", "mine", "--method", "lora/r99"], "r99"),
        (["-o", "mine", "--pairs", "resources"], "no such folder"),
        (["-o", "mine", "--pairs", "film.mp4"], "no such folder"),
        (["-o", "mine", "--pairs", "one"], "1 pairs show 1 scenes; expected at least 4"),
        (["-o", "mine", "--pairs", "wrong"], "do not show the same scene"),
        (["-o", "mine", "--pairs", "huge"], "has more than 80000000 pixels; cut it into smaller images"),
        (["-o", "mine", "--weights", "none.pth"], "no such weights file"),
        (["-o", "mine", "--profile", "none.yaml"], "--profile none.yaml: no such profile"),
        (["-o", "mine", "--profile", "Snakefile"], "Snakefile: expected a mapping of keys at the top of the profile"),
        (["-o", "mine", "--device", "mps"], "torch cannot use a GPU here"),
        (["-o", "mine", "--degradation"], "give HR alone with --photographs DIR"),
    ],
)
def test_mistakes_are_refused_before_anything_trains(
    project: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    (project / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(99))
    for side in ("lr", "hr"):
        first, second = sorted((project / "pairs" / side).iterdir())[:2]
        (project / "one" / side).mkdir(parents=True)
        (project / "wrong" / side).mkdir(parents=True)
        shutil.copy(first, project / "one" / side)
        shutil.copy(first if side == "lr" else second, project / "wrong" / side / "a.png")
        (project / "huge" / side).mkdir(parents=True)
        Image.new("1", (10_000, 10_000)).save(project / "huge" / side / "a.png")
    assert main(["adapt", *PAIRS, *WEIGHTS, *words]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("adaptsr: ")
    assert reason in last
    assert not (project / "results").exists()


def test_a_model_of_another_scale(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (project / "pairs/hr").iterdir():
        lr = project / "pairs/lr" / path.name.replace("_x4", "_x1")
        shutil.copy(lr, path)
    assert main(["adapt", *PAIRS, *WEIGHTS, *NAME]) == 2
    assert "is a scale of 1, but the model has 4" in capsys.readouterr().err


def test_ranges_of_the_degradation_are_checked() -> None:
    for word, reason in (
        ("blur=1-2", "names are blur_sigma"),
        ("jpeg_quality=90", "expected NAME=LOW-HIGH"),
        ("jpeg_quality=95-30", "expected two numbers"),
        ("gaussian_sigma=a-b", "expected NAME=LOW-HIGH"),
    ):
        assert reason in refusal(lambda word=word: degradation_of([word]))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seeds: [1, 2]", "seeds: 1"), "seeds"),
        (("  batch_size: 4", "  batch_size: 0"), "training.batch_size"),
        (("  batch_size: 4", "  batsch_size: 4"), "training"),
        (("scoring:", "scoring: {}\nscorings:"), "scor"),
    ],
)
def test_a_mistake_in_the_template_is_one_line_with_its_file(
    project: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], said: str
) -> None:
    text = (project / "config/pilot.yaml").read_text()
    assert change[0] in text
    (project / "config/own.yaml").write_text(text.replace(*change, 1))
    assert main(["adapt", *PAIRS, *WEIGHTS, *NAME, "--iterations", "2", "--profile", "config/own.yaml"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "config/own.yaml" in last
    assert said in last


def test_a_template_that_trains_nothing_or_is_no_text_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "config/latin.yaml").write_bytes("title: \xfcber".encode("latin-1"))
    words = ["adapt", *PAIRS, *WEIGHTS, *NAME, "--iterations", "2", "--profile", "config/latin.yaml"]
    assert main(words) == 2
    assert "config/latin.yaml: not a text file in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("minutes", ["nan", "inf", "0", "-1"])
def test_minutes_that_are_no_number_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], minutes: str
) -> None:
    assert main(["adapt", *PAIRS, *WEIGHTS, *NAME, f"--minutes={minutes}"]) == 2
    assert "--minutes" in capsys.readouterr().err


def test_names_that_yaml_takes_for_numbers_are_names(project: Path) -> None:
    for number, name in enumerate(("1e5", "0o17", "2e3", "10e5", "007", "0x1f")):
        for side in ("lr", "hr"):
            [path] = (project / "pairs" / side).glob(f"*{number}_x*.png")
            path.rename(path.with_name(f"{name}.png"))
    assert main(["adapt", *PAIRS, *WEIGHTS, *NAME, "--iterations", "2", "--method", "lora/r1"]) == 0


def test_weights_may_be_the_name_of_a_row_of_the_catalogue(
    project: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = (repository / "config/weights.tsv").read_text().splitlines()[0]
    row = ["small", "v1", "small.safetensors", "https://example.org/small.safetensors", "", "", "", "MIT", "http", ""]
    for name in ("datasets.tsv", "archives.tsv"):
        shutil.copy(repository / "config" / name, project / "config")
    monkeypatch.setattr(catalogue, "FOLDER", project / "config")
    (project / "config/weights.tsv").write_text("\n".join([header, "\t".join(row)]) + "\n")
    (project / "resources/weights").mkdir()
    shutil.copy(project / "resources/demo/safmn.safetensors", project / "resources/weights/small.safetensors")
    words = ["adapt", *PAIRS, "--weights", "small", *NAME, "--iterations", "2", "--method", "lora/r1"]
    assert main(words) == 0


def test_links_to_files_without_a_suffix_keep_the_name_they_are_given(project: Path) -> None:
    """As annexes and caches store files."""
    for side in ("lr", "hr"):
        store = project / "pairs" / side / ".store"
        store.mkdir()
        for number, path in enumerate(sorted((project / "pairs" / side).glob("*.png"))):
            path.rename(store / str(number))
            path.symlink_to(store / str(number))
    placed = placing.place_pairs(project / "pairs", project / "placed", 4, progress)
    names = {path.name for split in placed.splits for path in (project / "placed" / split / "hr").iterdir()}
    assert len(names) == 6
    assert all(name.endswith(".png") for name in names)

"""`adapt` chooses, writes a profile that the workflow takes, and leaves a model to take away."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptsr.backbones.build import build_from_file
from adaptsr.cli import main
from adaptsr.config.reading import load_profile
from adaptsr.data.images import write_png
from tests.camera.scenes import Change, pair

WEIGHTS = ["--weights", "resources/demo/safmn.safetensors"]


@pytest.fixture
def project(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with pairs named as cameras name files; the workflow's training is done in this process."""
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
        profile = ["--profile", command[command.index("--configfile") + 1]]
        for dataset in ("train", "validation", "test"):
            assert main(["data", "prepare", dataset, *profile]) == 0
        rows = load_profile(Path(profile[1])).report.tables["adaptation"].rows
        return SimpleNamespace(returncode=main(["train", "--backbone", "given", "--variant", rows[1], *profile]))

    monkeypatch.setattr(subprocess, "run", workflow)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("words", "row"), [([], "rank_aware/gradient"), (["--method", "lora/r1"], "lora/r1")])
def test_from_pairs_to_a_model(project: Path, capsys: pytest.CaptureFixture[str], words: list[str], row: str) -> None:
    assert main(["adapt", "--pairs", "pairs", *WEIGHTS, "-o", "mine", "--iterations", "2", *words]) == 0
    said = capsys.readouterr()
    assert "6 pairs of 6 scenes: 3 for train, 2 for test, 1 for validation" in said.err
    assert f"crops of 24 LR pixels, batch 4, 2 iterations; {row}" in said.err
    assert "results/mine/model holds the adapted model" in said.out
    build_from_file(project / "results/mine/model/4x_mine.safetensors")
    assert (project / "results/mine/model/record.json").is_file()


def test_minutes_choose_the_iterations(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapt", "--pairs", "pairs", *WEIGHTS, "-o", "mine", "--minutes", "0.001", "--method", "lora/r1"]) == 0
    assert "20 iterations in 0.001 minutes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-o", "../mine"], "invalid name"),
        (["-o", "pilot"], "config/pilot.yaml is another profile of this name"),
        (["-o", "mine", "--minutes", "0"], "expected a number above 0"),
        (["-o", "mine", "--method", "lora/r99"], "r99"),
        (["-o", "mine", "--pairs", "resources"], "no such folder"),
        (["-o", "mine", "--weights", "none.pth"], "no such weights file"),
    ],
)
def test_mistakes_are_refused_before_anything_trains(
    project: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    assert main(["adapt", "--pairs", "pairs", *WEIGHTS, *words]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("adaptsr: ")
    assert reason in last
    assert not (project / "results").exists()


def test_a_model_of_another_scale(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (project / "pairs/hr").iterdir():
        lr = project / "pairs/lr" / path.name.replace("_x4", "_x1")
        shutil.copy(lr, path)
    assert main(["adapt", "--pairs", "pairs", *WEIGHTS, "-o", "mine"]) == 2
    assert "is a scale of 1, but the model has 4" in capsys.readouterr().err

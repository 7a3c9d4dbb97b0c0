"""`score-runs`, `gather`, `fetch-metric-weights` and `score` from another folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from adaptsr.cli import main
from adaptsr.data.images import write_png
from tests.factories import noise


def test_score_runs_and_gather(author: tuple[Path, Path]) -> None:
    project, folder = author
    [scored] = json.loads((folder / "scored.json").read_text())["scored"]
    assert set(scored["runs"]) == {"safmn/unadapted", "safmn/gains/all/seed1"}
    assert set(pd.read_parquet(project / "results/demo/scores.parquet")["baseline"]) == {"unadapted", "gains"}


def test_fetch_metric_weights(elsewhere: Path) -> None:
    assert main(["fetch-metric-weights", "--out", "missing.json"]) == 0
    assert json.loads((elsewhere / "missing.json").read_text()) == {"missing": {}}


def test_score(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(elsewhere / "sr/only.png", noise("score", 64, 64))
    shutil.copytree(elsewhere / "sr", elsewhere / "hr")
    assert main(["score", "--sr", "sr", "--hr", "hr"]) == 0
    shown = capsys.readouterr()
    head, only, mean = shown.out.splitlines()
    assert head.split()[:3] == ["image", "psnr_y", "ssim_y"]
    assert only.split()[:3] == ["only", "-", "1.0000"]
    assert mean.split()[:3] == ["mean", "-", "1.0000"]
    assert "psnr_y: infinite: the images are identical" in shown.err


@pytest.mark.parametrize("words", [[], ["--conventions"]])
def test_a_device_that_is_not_here_is_one_line(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    write_png(elsewhere / "sr/only.png", noise("score", 64, 64))
    shutil.copytree(elsewhere / "sr", elsewhere / "hr")
    for device in ("gpu", "cuda:7"):
        with pytest.raises(SystemExit):
            main(["score", "--sr", "sr", "--hr", "hr", "--device", device, *words])
        assert "invalid choice" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["score", "--sr", "sr", "--hr", "hr", "--device", "cuda"]) == 2
        assert "torch cannot use a GPU here" in capsys.readouterr().err

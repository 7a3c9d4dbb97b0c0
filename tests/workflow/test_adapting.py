"""The whole way on real pairs: adapt in one command, restore with what it leaves, and load it elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import spandrel
from PIL import Image

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

LEAST_GAIN = 0.5
"""dB of PSNR-Y on held-out scenes over the unadapted model."""
ITERATIONS = 240


@pytest.fixture(scope="module")
def phone(workspace: Workspace, assets: Path) -> Workspace:
    """SAFMN x2 adapted to 40 real pairs of a phone; about five minutes of one core."""
    weights = assets / "weights/SAFMN_x2_DF2K_from_ncnn_fp16.pth"
    words = ["--pairs", str(assets / "pairs/iphone"), "--weights", str(weights), "-o", "phone", "--cores", "2"]
    done = workspace.adaptsr("adapt", *words, "--iterations", str(ITERATIONS))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "about" in done.stderr
    assert "a gain of +" in done.stdout
    return workspace


def test_it_gains_on_held_out_scenes(phone: Workspace) -> None:
    scores = pd.read_parquet(phone.root / "results/phone/scores.parquet").query("metric == 'psnr_y'")
    means = scores.groupby("baseline")["value"].mean()
    assert means["rank_aware"] - means["unadapted"] >= LEAST_GAIN
    line = pd.read_csv(phone.root / "reports/phone/significance.csv").query("metric == 'psnr_y'").iloc[0]
    assert line["scenes"] == 10
    assert line["low_scenes"] > 0
    choice = json.loads(next(phone.root.glob("results/phone/tuning/choices/given/*/*.json")).read_text())
    assert len(choice["tried"]) == 3


def test_the_folder_to_take_away(phone: Workspace, assets: Path) -> None:
    folder = phone.root / "results/phone/model"
    assert spandrel.ModelLoader().load_from_file(folder / "2x_phone.safetensors").scale == 2
    assert re.search(r"\| phone-test \| psnr_y \| 2\d\.\d+ \| unadapted: 26\.53 ", (folder / "README.md").read_text())
    page = (folder / "report.html").read_text()
    assert page.count('<article class="picture"') == 6
    photograph = next((assets / "pairs/iphone/lr").iterdir())
    words = ["restore", str(folder / "2x_phone.safetensors"), str(photograph), "-o", "restored", "--compare"]
    done = phone.adaptsr(*words, "--device", "cpu")
    assert done.returncode == 0, done.stderr[-2000:]
    with Image.open(phone.root / f"restored/{photograph.stem}.png") as image:
        assert image.size == (832, 592)


def test_asked_again_it_trains_nothing(phone: Workspace, assets: Path) -> None:
    records = {path: path.stat().st_mtime_ns for path in phone.root.glob("results/phone/given/*/*/*/record.json")}
    weights = assets / "weights/SAFMN_x2_DF2K_from_ncnn_fp16.pth"
    words = ["--pairs", str(assets / "pairs/iphone"), "--weights", str(weights), "-o", "phone", "--cores", "2"]
    done = phone.adaptsr("adapt", *words, "--iterations", str(ITERATIONS))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "going on with what was chosen before" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in records} == records


def test_the_profile_of_phones_runs_on_real_pairs(workspace: Workspace, assets: Path) -> None:
    weights = assets / "weights/SAFMN_x2_DF2K_from_ncnn_fp16.pth"
    words = ["--pairs", str(assets / "pairs/iphone"), "--weights", str(weights), "-o", "other", "--cores", "2"]
    done = workspace.adaptsr("adapt", "--profile", "config/iphone.yaml", *words, "--iterations", "2")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "batch 32" in done.stderr
    columns = set(pd.read_parquet(workspace.root / "results/other/scores.parquet")["metric"])
    assert "dists" in columns

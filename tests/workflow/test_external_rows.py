"""Restored images of other models in the workflow: scored, reported, and scored again when they change."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from adaptsr.data.images import write_png
from adaptsr.data.manifest import read_manifest
from adaptsr.randomness import generator
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def with_outputs(workspace: Workspace) -> Workspace:
    """Nothing is trained: the unadapted backbone and two rows of other models."""
    content = workspace.profile()
    content["baselines"] = {name: {"rows": []} for name in content["baselines"]}
    content["external"] = {"theirs": {"title": "Their model"}, "absent": {"title": "Nobody's model"}}
    content["report"]["tables"] = {"table1": {"title": "Table 1", "rows": ["unadapted", "external/*"]}}
    content["report"]["comparisons"] = []
    workspace.write_profile(content)
    return workspace


def place(workspace: Workspace, key: str) -> None:
    manifest = read_manifest(workspace.root / "resources/degraded/manifest.json")
    folder = workspace.root / "resources/external/theirs/degraded"
    folder.mkdir(parents=True, exist_ok=True)
    for item in manifest.splits["test"]:
        image = torch.rand(3, 64, 64, generator=generator(key, item.name)) * 255
        write_png(folder / f"{item.name}.png", image.to(torch.uint8))


def psnr(workspace: Workspace, row: str) -> pd.Series:
    scores = pd.read_parquet(workspace.root / "results/demo/scores.parquet")
    return scores[(scores["variant"] == row) & (scores["metric"] == "psnr_y")]["value"]


def make_table(workspace: Workspace) -> str:
    done = workspace.snakemake("--cores", "2", "table1")
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_what_is_not_there_is_a_dash(with_outputs: Workspace) -> None:
    make_table(with_outputs)
    assert psnr(with_outputs, "theirs").isna().all()
    text = (with_outputs.root / "reports/demo/table1.md").read_text()
    assert "Not measured: no folder resources/external/theirs/degraded." in text.replace("\\", "")
    assert "Nothing to be done" in make_table(with_outputs)


def test_images_that_come_are_scored_and_nothing_else(with_outputs: Workspace) -> None:
    place(with_outputs, "first")
    said = make_table(with_outputs)
    assert "Scoring on degraded: external, rows from external.theirs" in said
    assert "Scoring on degraded: safmn" not in said
    assert psnr(with_outputs, "theirs").notna().all()
    assert psnr(with_outputs, "absent").isna().all()
    table = pd.read_csv(with_outputs.root / "reports/demo/table1.csv").set_index("row")
    assert table.loc["external/theirs", "psnr_y_mean"] == pytest.approx(psnr(with_outputs, "theirs").mean())


def test_images_that_change_are_scored_again(with_outputs: Workspace) -> None:
    before = psnr(with_outputs, "theirs").tolist()
    assert "Nothing to be done" in make_table(with_outputs)
    place(with_outputs, "second")
    make_table(with_outputs)
    assert psnr(with_outputs, "theirs").tolist() != before

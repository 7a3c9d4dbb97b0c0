"""The pilot adapts real weights to real camera pairs, and its report says on what it was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import spandrel
import yaml

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

LEAST_GAIN = 0.4
"""dB of PSNR-Y on held-out pairs over the unadapted model."""


@pytest.fixture(scope="module")
def settings(assets: Path) -> dict[str, str]:
    return {"data": str(assets / "pairs/realsr"), "weights": str(assets / "weights/DCTLSA_X4.pt")}


@pytest.fixture(scope="module")
def pilot(workspace: Workspace, settings: dict[str, str]) -> Workspace:
    """The pilot's two LoRA rows after one seed of a shorter schedule, scored and reported by the workflow."""
    path = workspace.root / "config/pilot.yaml"
    content = yaml.safe_load(path.read_text())
    content["seeds"] = [1]
    content["training"].update(iterations=150, validate_every=150)
    content["baselines"]["full_finetuning"] = {"rows": []}
    content["report"]["comparisons"] = content["report"]["comparisons"][:1]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    given = [f"{name}={value}" for name, value in settings.items()]
    done = workspace.snakemake("--cores", "2", "adaptation", "--configfile", "config/pilot.yaml", "--config", *given)
    assert done.returncode == 0, done.stdout[-4000:]
    return workspace


def test_both_rows_gain_on_held_out_pairs(pilot: Workspace) -> None:
    scores = pd.read_parquet(pilot.root / "results/pilot/scores.parquet").query("metric == 'psnr_y'")
    means = scores.groupby(["baseline", "variant"])["value"].mean()
    images = scores.groupby(["baseline", "variant"])["image"].nunique()
    assert (images == 30).all()
    unadapted = means["unadapted", ""]
    assert unadapted == pytest.approx(27.54, abs=0.02)
    gains = {row: means[row] - unadapted for row in (("lora", "r8"), ("rank_aware", "gradient"))}
    assert min(gains.values()) >= LEAST_GAIN, gains


def test_rank_aware_has_the_budget_of_the_uniform_row(pilot: Workspace) -> None:
    folder = pilot.root / "results/pilot/given"
    trained = {
        row: json.loads((folder / row / "seed1/record.json").read_text())["trainable_parameters"]
        for row in ("lora/r8", "rank_aware/gradient")
    }
    assert 0.99 * trained["lora/r8"] <= trained["rank_aware/gradient"] <= trained["lora/r8"]


@pytest.mark.parametrize("kind", ["html", "md", "tex"])
def test_the_report_states_the_split(pilot: Workspace, kind: str) -> None:
    text = (pilot.root / f"reports/pilot/adaptation.{kind}").read_text().replace("&#39;", "'").replace("\\", "")
    assert "test takes '15 last of each camera' (30 pairs)" in text
    assert "validation takes '2 first of each camera' (4 pairs)" in text
    assert "train takes 'rest' (66 pairs)" in text


def test_the_table_is_of_the_file_that_was_given(pilot: Workspace) -> None:
    table = pd.read_csv(pilot.root / "reports/pilot/adaptation.csv").set_index("row")
    assert list(table.index) == ["unadapted", "lora/r8", "rank_aware/gradient"]
    assert "DCTLSA_X4 on camera" in (pilot.root / "reports/pilot/adaptation.html").read_text()
    assert table["lpips_mean"].isna().all(), "AlexNet's weights are not there"
    assert table["notes"].str.contains("LPIPS", na=False).all()


def test_the_adapted_model_is_a_plain_checkpoint(pilot: Workspace) -> None:
    """What `adaptsr merge` writes loads in spandrel as the architecture it came from."""
    merged = pilot.root / "merged.pth"
    done = pilot.adaptsr("merge", "results/pilot/given/lora/r8/seed1", "-o", str(merged))
    assert done.returncode == 0, done.stderr
    assert spandrel.ModelLoader().load_from_file(merged).architecture.id == "DCTLSA"

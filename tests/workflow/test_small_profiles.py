"""The small profiles of config/ run from a fresh copy, here even smaller, and their tables show what they are for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.factories import Json, profile_content
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow


def run(workspace: Workspace, name: str, *words: str) -> Path:
    """Run snakemake on a profile with one backbone and two seeds, of a few iterations on small images."""
    content: Json = profile_content(name)
    content["datasets"]["degraded"].update(patch=64, patches_per_scene={"train": 1, "validation": 1, "test": 1})
    content["seeds"] = [1, 2]
    content["backbones"] = {"safmn": content["backbones"]["safmn"]}
    content["training"].update(iterations=4, crop=32, validate_every=4)
    content["report"]["pictures"] = []
    if "stability" in content:
        content["stability"].update(batches=3, batch_sizes=[1, 2])
    (workspace.root / f"config/{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    done = workspace.snakemake("--cores", "2", *words, "--configfile", f"config/{name}.yaml")
    assert done.returncode == 0, done.stdout[-4000:]
    return workspace.root / "reports" / name


def test_both_objectives_stand_beside_each_other_with_intervals(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    report = run(workspace, "perceptual", "objectives", "significance")
    table = pd.read_csv(report / "objectives.csv").set_index("row")
    assert list(table.index) == ["unadapted", "rank_aware/gradient", "rank_aware/gradient-on", "rank_aware/gan"]
    assert table.loc["rank_aware/gan", "psnr_y_mean"] != table.loc["rank_aware/gradient-on", "psnr_y_mean"]
    assert table["lpips_mean"].isna().all()
    assert table["notes"].str.contains("LPIPS.*weights not available").all()
    lines = pd.read_csv(report / "significance.csv").set_index("metric")
    assert lines.loc[["psnr_y", "ssim_y", "gmsd", "nlpd"], ["low_seeds", "high_seeds"]].notna().all(axis=None)


def test_every_ablation_is_a_table(workspace: Workspace) -> None:
    names = ["table9", "table11", "table12", "scaling", "allocation"]
    part = "rows=lora/*,rank_aware/uniform-*,rank_aware/gradient,rank_aware/fisher,rank_aware/gradient-constant"
    report = run(workspace, "ablations", *names, "stability", "--config", part)
    tables = {name: pd.read_csv(report / f"{name}.csv").set_index("row") for name in names}
    for name, table in tables.items():
        seeds = table["psnr_y_seeds"].drop("unadapted", errors="ignore").dropna()
        assert set(seeds) <= {0, 1, 2}, (name, seeds)
        assert (seeds > 0).sum() >= 2, (name, seeds)
    sizes = tables["table9"]["trainable_parameters_max"]
    equal = sizes[["rank_aware/uniform-1x1-kxk", "rank_aware/uniform-kxk-1x1"]]
    assert equal.between(0.98 * sizes["lora/r4"], sizes["lora/r4"]).all(), "equal parameters"
    assert (sizes[["lora/r4-1x1-kxk", "lora/r4-kxk-1x1"]] < sizes["lora/r4"]).all(), "equal rank"
    assert tables["table11"].loc["rank_aware/fisher", "psnr_y_published"] == "not printed"
    assert list(tables["scaling"].index) == ["lora/r4", "rank_aware/gradient", "rank_aware/gradient-constant"]
    seeds = tables["table12"].loc["rank_aware/gradient", "title"]
    assert list(seeds) == ["Rank-aware LoRA", "Rank-aware LoRA, seed 1", "Rank-aware LoRA, seed 2"]
    assert "0.07 dB above uniform" in (report / "table12.md").read_text()
    found = pd.read_csv(report / "stability.csv").set_index(["score", "batch_size"])
    assert len(found) == 4 * 2
    assert found.loc[("gradient", 1), "published"] == "0.91"
    assert found.loc[("snip", 2), "published"] == "not printed"
    assert found["pairwise"].between(-1, 1).all()
    page = (report / "stability.html").read_text()
    assert "SAFMN (4 blocks, 16 channels), gradient" in page
    assert "batch size, backbone and kind of mean are not stated" in page


def test_the_ablations_take_real_weights_and_pairs(workspace: Workspace, assets: Path) -> None:
    """With data, backbones and training of the pilot in place of the demo's, as the profile says."""
    content, pilot = profile_content("ablations"), profile_content("pilot")
    content |= {key: pilot[key] for key in ("datasets", "data", "backbones", "training")}
    content["datasets"]["camera"]["split"].update(train="rest", test="1 last of each camera")
    content["training"].update(iterations=2, validate_every=2)
    content["seeds"] = [1]
    for table in content["report"]["tables"].values():
        table.pop("published_datasets", None)
    (workspace.root / "config/ablations.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    given = [f"data={assets}/pairs/realsr", f"weights={assets}/weights/DCTLSA_X4.pt"]
    part = "rows=lora/r4,rank_aware/uniform-1x1-kxk,pissa/*"
    words = ["--configfile", "config/ablations.yaml", "--config", *given, part]
    done = workspace.snakemake("--cores", "2", "table9", "competitors", *words)
    assert done.returncode == 0, done.stdout[-4000:]
    table = pd.read_csv(workspace.root / "reports/ablations/table9.csv").set_index("row")
    sizes = table["trainable_parameters_max"]
    assert 0.99 * sizes["lora/r4"] <= sizes["rank_aware/uniform-1x1-kxk"] <= sizes["lora/r4"]

"""A perceptual objective on pairs of a real phone is worth it by another network than the one that it minimises."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.factories import baselines, pairs_profile
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

LEAST_FALL = 0.05
"""Share of LPIPS (AlexNet) on held-out scenes, against the same method trained with L1."""
OBJECTIVE = {"terms": {"l1": 1.0, "lpips": 3.0}, "lpips_network": "vgg"}


def test_lpips_of_another_network_falls(
    workspace: Workspace, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAFMN x2 with LoRA r = 8; VGG16's LPIPS is in the objective, AlexNet's judges."""
    shutil.copytree(assets / "metrics/torch_home", tmp_path / "torch")
    shutil.copy(assets / "metrics/lpips_v0.1_vgg_lin.pth", tmp_path / "torch/hub/pyiqa/LPIPS_v0.1_vgg-a78928a0.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    content = pairs_profile({"train": "rest", "validation": "first 1", "test": "last 10"})
    phone = {
        **content["datasets"]["photos"],
        "lr": str(assets / "pairs/iphone/lr"),
        "hr": str(assets / "pairs/iphone/hr"),
    }
    perceptual = {"rank": 8, "training": {"objective": OBJECTIVE}}
    content |= {
        "name": "phone",
        "scale": 2,
        "datasets": {"phone": phone},
        "data": {
            "train": [{"dataset": "phone"}],
            "validation": {"dataset": "phone", "split": "validation"},
            "test": [{"dataset": "phone"}],
        },
        "backbones": {
            "safmn": {"architecture": "auto", "weights": str(assets / "weights/SAFMN_x2_DF2K_from_ncnn_fp16.pth")}
        },
        "training": {"iterations": 200, "batch_size": 2, "crop": 48, "lr": 2e-3, "validate_every": 200},
        "baselines": {**baselines({}), "lora": {"variants": {"l1": {"rank": 8}, "perceptual": perceptual}}},
    }
    content["scoring"]["metrics"]["lpips"] = {"name": "lpips", "title": "LPIPS (AlexNet)", "options": {"net": "alex"}}
    (workspace.root / "config/phone.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    done = workspace.snakemake("--cores", "2", "scores", "--configfile", "config/phone.yaml")
    assert done.returncode == 0, done.stdout[-4000:]
    scores = pd.read_parquet(workspace.root / "results/phone/scores.parquet")
    means = scores.pivot_table(index="variant", columns="metric", values="value")
    assert means["lpips"]["perceptual"] <= (1 - LEAST_FALL) * means["lpips"]["l1"], means
    assert means["psnr_y"]["l1"] > means["psnr_y"][""], means

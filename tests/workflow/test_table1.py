"""Models of other people, without a backbone of ours: a row of the paper's Table 1, measured beside published."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

IMAGE = "Canon_005_LR4"


def test_the_rows_that_can_be_had_stand_beside_the_published(
    workspace: Workspace, assets: Path, use_real_weights: Path
) -> None:
    """On one of the crops: RealESRGAN from its weights, OSEDiff from an image that its authors published with its scores."""
    for side in ("lr", "hr"):
        (workspace.root / "pairs" / side).mkdir(parents=True)
        shutil.copy(assets / f"pairs/realsr/{side}/{IMAGE}.png", workspace.root / "pairs" / side)
    path = workspace.root / "config/table1-realsr.yaml"
    content = yaml.safe_load(path.read_text())
    content["external"]["osediff"] = {"title": "OSEDiff", "folders": {"table1_crops": str(assets / "known_answers")}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    given = ["data=pairs", f"weights={assets}/weights/RealESRGAN_x4plus_from_ncnn_fp16.pth"]
    done = workspace.snakemake("--cores", "2", "all", "--configfile", str(path), "--config", *given)
    assert done.returncode == 0, done.stdout[-4000:]
    table = pd.read_csv(workspace.root / "reports/table1-realsr/table1.csv").set_index("title")
    assert len(table) == 12, "the models of the paper's table, adapted ones apart"
    logged = pd.read_csv(assets / "known_answers/osediff_realsr.csv").set_index("image").loc[IMAGE]
    for metric, column in {"psnr_y": "psnr_y_db", "ssim_y": "ssim_y", "lpips": "lpips_alex", "dists": "dists"}.items():
        assert table[f"{metric}_mean"]["OSEDiff"] == pytest.approx(logged[column], abs=1e-4)
    assert table["psnr_y_published"]["RealESRGAN"] == 25.69
    assert table["psnr_y_mean"]["RealESRGAN"] > 24
    assert pd.isna(table["psnr_y_mean"]["SinSR"])
    assert (workspace.root / "reports/table1-realsr/index.html").is_file()

"""`list`, `sites`, `params` and `check-backbone` from another folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from adaptsr.backbones.build import build
from adaptsr.cli import main
from adaptsr.config import schema

PROFILE = ["--profile", "config/demo.yaml"]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("backbones", "safmn        safmn"),
        ("datasets", "degraded         "),
        ("baselines", "  lora/r1 "),
    ],
)
def test_list(elsewhere: Path, capsys: pytest.CaptureFixture[str], what: str, line: str) -> None:
    assert main(["list", what, *PROFILE]) == 0
    assert any(shown.lower().startswith(line) for shown in capsys.readouterr().out.splitlines())


def test_sites_of_a_file_of_the_working_folder(
    project: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(project / "resources/demo/safmn.safetensors", elsewhere / "mine.safetensors")
    assert main(["sites", "--backbone", "mine.safetensors", *PROFILE]) == 0
    by_file = capsys.readouterr().out
    assert main(["sites", "--backbone", "safmn", *PROFILE]) == 0
    assert by_file == capsys.readouterr().out
    assert by_file.splitlines()


def test_params(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["params", "--backbone", "safmn", "--variant", "full_finetuning/all", *PROFILE]
    assert main([*words, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["trainable"] == counted["total"]
    assert main(words) == 0
    assert f"trainable  {counted['total']:>12,}  (100.00% of the total)" in capsys.readouterr().out


def small_file(path: Path, scale: int) -> str:
    model = build(schema.Backbone(architecture="edsr", options={"num_feat": 4, "num_block": 1}), scale)
    torch.save(model.state_dict(), path)
    return str(path)


@pytest.mark.parametrize("scale", [2, 3])
def test_a_file_of_another_scale(elsewhere: Path, capsys: pytest.CaptureFixture[str], scale: int) -> None:
    """Counted and listed by its own scale, whatever the profile's."""
    file = ["--backbone", small_file(elsewhere / "other.pth", scale), *PROFILE]
    assert main(["sites", *file]) == 0
    assert "conv_first" in capsys.readouterr().out
    assert main(["params", *file, "--variant", "rank_aware/gradient", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trainable"] > 0


def test_check_backbone(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A profile's backbone is checked and remembered; a file of any scale is checked with the rows of a profile."""
    assert main(["check-backbone", "safmn", *PROFILE, "--out", "safmn.json"]) == 0
    shown = capsys.readouterr().out
    assert "feats.0.ccm.ccm.0" in shown
    assert "safmn: x4, from 8 x 8 pixels on; sites: 30 conv" in shown
    remembered = json.loads((elsewhere / "safmn.json").read_text())
    assert {"full_finetuning/all", "lora/r1"} <= set(remembered["rows"])
    file = small_file(elsewhere / "other.pth", 2)
    assert main(["check-backbone", file, *PROFILE]) == 0
    assert "other.pth: x2, from 1 x 1 pixels on; sites: 6 conv" in capsys.readouterr().out

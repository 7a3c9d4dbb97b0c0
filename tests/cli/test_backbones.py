"""`list`, `sites` and `params` from another folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adaptsr.cli import main

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

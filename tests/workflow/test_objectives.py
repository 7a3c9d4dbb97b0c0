"""Network weights of losses are fetched before training; where they are unavailable, the profile says what happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptsr.runs.records import read_record
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow


def test_missing_weights_stop_the_workflow_or_leave_the_loss_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    content = workspace.profile()
    objective = {"terms": {"l1": 1.0, "perceptual": 1.0}}
    content["baselines"]["lora"]["training"] = {"objective": objective}
    workspace.write_profile(content)
    stopped = workspace.snakemake("--cores", "1", "table2")
    assert stopped.returncode != 0
    assert "training.objective.terms.perceptual: VGG19 weights not available: put https://" in stopped.stdout
    assert not list(workspace.root.glob("results/demo/safmn/lora/*/seed*"))

    content["baselines"]["lora"]["training"] = {"objective": {**objective, "missing_weights": "leave_out"}}
    workspace.write_profile(content)
    done = workspace.snakemake("--cores", "1", "table2")
    assert done.returncode == 0, done.stdout[-4000:]
    record = read_record(workspace.root / "results/demo/safmn/lora/r1/seed1/record.json")
    assert record.left_out["perceptual"].startswith("VGG19 weights not available")
    table = (workspace.root / "reports/demo/table2.md").read_text()
    assert "LoRA, r = 1 (without perceptual)" in table
    assert "Trained without perceptual: VGG19 weights not available" in table

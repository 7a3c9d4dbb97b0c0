"""`snakemake --config baselines=DIR`: a method kept outside the checkout takes part."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import METHOD
from tests.workflow.conftest import Workspace


@pytest.fixture(scope="module")
def methods(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep a method outside the workspace, whose profile has no rows of others."""
    content = workspace.profile()
    content["seeds"] = [1]
    content["baselines"] = {name: {"rows": []} for name in content["baselines"]}
    content["report"]["comparisons"] = []
    workspace.write_profile(content)
    folder = tmp_path_factory.mktemp("methods")
    (folder / "gains.py").write_text(METHOD)
    return folder


def test_a_missing_folder_is_one_line(workspace: Workspace, methods: Path) -> None:
    done = workspace.snakemake("-n", "--config", f"baselines={methods}:nowhere")
    assert done.returncode != 0
    assert [line for line in done.stdout.splitlines() if line.startswith("adaptsr: ")] == [
        "adaptsr: nowhere: no such folder; expected a folder of baseline files"
    ]


@pytest.mark.slow
def test_it_is_trained_and_scored(workspace: Workspace, methods: Path) -> None:
    done = workspace.snakemake("--cores", "2", "results/demo/scores.parquet", "--config", f"baselines={methods}")
    assert done.returncode == 0, done.stdout
    scores = pd.read_parquet(workspace.root / "results/demo/scores.parquet")
    assert set(scores["baseline"]) == {"unadapted", "gains"}
    again = workspace.snakemake("-n", "results/demo/scores.parquet", "--config", f"baselines={methods}")
    assert "Nothing to be done" in again.stdout

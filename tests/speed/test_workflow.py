"""The benchmark of the workflow keeps working."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speed import workflow


@pytest.mark.slow
def test_planning_and_doing_nothing_are_figures(tmp_path: Path) -> None:
    """A matrix is planned and timed; without a finished demo the other figure says that it was not measured."""
    path = tmp_path / "workflow.json"
    workflow.main(["--tiny", "--demo", str(tmp_path), "--json", str(path)])
    content = json.loads(path.read_text())
    planned, memory, nothing = content["figures"]
    assert planned["what"] == "snakemake -n, 80 runs"
    assert planned["unit"] == "s"
    assert 0 < planned["value"] < 120
    assert memory["value"] > 10
    assert nothing["value"] is None
    assert nothing["goal"] == workflow.GOAL_OF_NOTHING
    assert "no finished demo" in nothing["note"]


def test_the_matrix_has_as_many_runs_as_it_says() -> None:
    """4 backbones x 125 variants x 20 seeds at 10,000; every baseline but one is left out."""
    profile = workflow.matrix_of(10_000)
    assert len(profile["backbones"]) == 4
    assert len(profile["baselines"]["lora"]["variants"]) == 125
    assert len(profile["seeds"]) == 20
    assert all(changes == {"rows": []} for name, changes in profile["baselines"].items() if name != "lora")

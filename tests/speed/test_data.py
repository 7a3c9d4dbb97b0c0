"""The benchmark of data keeps working."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speed import data


@pytest.mark.slow
def test_start_memory_and_waiting_are_figures(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    data.main(["--tiny", "--folder", str(tmp_path), "--json", str(path)])
    figures = {figure["what"]: figure for figure in json.loads(path.read_text())["figures"]}
    assert 0 < figures["of it, without the imports"]["value"] < figures["first batch"]["value"] < 120
    assert figures["first batch"]["goal"] == data.GOAL_OF_START
    (memory,) = (figure for what, figure in figures.items() if what.startswith("memory of 2 processes"))
    assert memory["goal"] == data.GOAL_OF_MEMORY
    assert 0 < figures["waiting, batches made ahead"]["value"] < 1
    assert figures["waiting, batches made ahead"]["goal"] == data.GOAL_OF_WAITING
    assert [item.name for item in tmp_path.iterdir()] == ["data.json"], "the data set is removed"

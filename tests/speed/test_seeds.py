"""The benchmark of several seeds at once keeps working."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speed import seeds


@pytest.mark.slow
def test_two_processes_train_at_once_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptsr.devices.DEVICE_FILES", ())
    path = tmp_path / "seeds.json"
    seeds.main(["--tiny", "--seeds", "2", "--json", str(path)])
    content = json.loads(path.read_text())
    ratio, alone, together = content["figures"]
    assert ratio["value"] > 0
    assert alone["value"] > 0
    assert together["value"] > 0
    assert content["provenance"]["device"] == "cpu"


def test_without_a_gpu_the_real_figure_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptsr.devices.DEVICE_FILES", ())
    path = tmp_path / "seeds.json"
    seeds.main(["--json", str(path)])
    (figure,) = json.loads(path.read_text())["figures"]
    assert figure["value"] is None
    assert figure["note"] == "not measured: no CUDA device"
    assert figure["goal"] == seeds.GOAL

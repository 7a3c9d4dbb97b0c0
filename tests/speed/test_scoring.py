"""The benchmark of scoring keeps working."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from speed import scoring


@pytest.mark.slow
def test_both_sides_are_timed_and_agree(tmp_path: Path) -> None:
    """One method, two small images: a ratio, the seconds of both sides, and equal LPIPS and DISTS."""
    path = tmp_path / "scoring.json"
    scoring.main(["--tiny", "--json", str(path)])
    content = json.loads(path.read_text())
    assert content["settings"] == {"images": 2, "methods": 1, "size": 64, "threads": 1}
    ratio, processor, ours, theirs, *_, difference = [item for item in content["figures"] if item["what"][:4] == "cpu,"]
    cuda = [item for item in content["figures"] if item["what"][:5] == "cuda,"]
    assert ratio["what"] == "cpu, 2 images of 64x64, 1 methods: adaptsr / pyiqa"
    assert ratio["goal"] == 0.5
    assert ratio["value"] == pytest.approx(ours["value"] / theirs["value"])
    assert 0 < processor["value"] < 1
    assert difference["value"] < 1, "millionths"
    if not torch.cuda.is_available():
        [missing] = cuda
        assert missing["value"] is None
        assert missing["note"] == "not measured: no CUDA device"


def test_the_mean_is_found_in_what_pyiqa_prints() -> None:
    said = "[2026-01-01 00:00:00] ===> Metrics loaded: ['lpips']\n{'lpips': {'mean': np.float64(0.25)}}\n"
    assert scoring._mean_of(said) == 0.25
    assert scoring._mean_of("{'dists': {'mean': 1e-05}}") == 1e-5
    with pytest.raises(SystemExit, match="no mean"):
        scoring._mean_of("{}")

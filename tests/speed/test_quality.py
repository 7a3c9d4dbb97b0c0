"""The benchmark of the fast recipe's quality keeps working."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from speed import quality


@pytest.mark.slow
def test_both_recipes_are_trained_and_measured(assets: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    for part in ("lr", "hr"):
        (pairs / part).mkdir(parents=True)
        for image in sorted((assets / "pairs/realsr" / part).iterdir())[:18]:
            shutil.copy(image, pairs / part)
    path = tmp_path / "quality.json"
    weights = str(assets / "weights/DCTLSA_X4.pt")
    quality.main(["--tiny", "--data", str(pairs), "--weights", weights, "--json", str(path)])
    plain, fast, difference, ratio = json.loads(path.read_text())["figures"]
    assert 20 < plain["value"] < 40
    assert 20 < fast["value"] < 40
    assert difference["value"] == pytest.approx(fast["value"] - plain["value"])
    assert ratio["goal"] == 1.0

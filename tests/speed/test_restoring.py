"""The benchmark of restoring keeps working, and the ways that it compares restore alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from speed import restoring


def test_three_ways_are_timed(tmp_path: Path) -> None:
    path = tmp_path / "restoring.json"
    restoring.main(["--tiny", "--json", str(path)])
    rate, of_spandrel, of_tiles, ours, tiles = json.loads(path.read_text())["figures"]
    assert min(rate["value"], of_spandrel["value"], of_tiles["value"]) > 0
    assert ours["value"] <= 1
    assert tiles["value"] >= ours["value"]


def test_tiles_cover_the_image() -> None:
    class Same:
        scale = 1

        def __call__(self, image: object) -> object:
            return image

    pixels = np.random.default_rng(0).integers(0, 256, (300, 520, 3), dtype=np.uint8)
    assert np.array_equal(restoring.restored_in_tiles(Same(), pixels), pixels)

"""Splits keep scenes together and depend on what pictures show alone."""

from __future__ import annotations

import pytest
import torch

from adaptsr.camera.splitting import split_scenes
from adaptsr.data.scenes import Sight, scenes_of
from tests.camera.scenes import scene
from tests.factories import refusal


def sight(key: int, step: int = 0) -> Sight:
    """A picture of scene `key`, taken `step` steps aside, with noise of its own."""
    seen = scene(key, 96, 136)[:, :, 4 * step : 4 * step + 128]
    noisy = seen + 3 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(step))
    return Sight.of(noisy.clamp(0, 255).to(torch.uint8))


def test_a_burst_is_one_scene() -> None:
    burst = {f"IMG_{number}": sight(number // 3, number % 3) for number in range(12)}
    assert sorted(map(len, scenes_of(burst))) == [3, 3, 3, 3]


@pytest.mark.parametrize("count", [4, 10, 100])
def test_scenes_stay_on_one_side(count: int) -> None:
    sights = {f"{scene}-{shot}": sight(scene, shot) for scene in range(count) for shot in range(2 if count < 50 else 1)}
    splits = split_scenes(sights, "pairs")
    assert sorted(name for names in splits.values() for name in names) == sorted(sights)
    sides = [{name.split("-")[0] for name in names} for names in splits.values()]
    assert all(sides)
    assert sum(map(len, sides)) == len(set().union(*sides)) == count
    assert len(splits["train"]) >= len(sights) / 2


def test_names_and_their_order_do_not_matter() -> None:
    sights = {f"P{number}": sight(number) for number in range(10)}
    renamed = {f"{9 - number}.x": sight(number) for number in reversed(range(10))}
    numbers = [{int(name[1:]) for name in names} for names in split_scenes(sights, "pairs").values()]
    others = [{9 - int(name[0]) for name in names} for names in split_scenes(renamed, "pairs").values()]
    assert numbers == others


def test_one_photograph_is_not_enough() -> None:
    burst = {f"IMG_{step}": sight(1, step) for step in range(3)}
    assert "3 pairs show 1 scenes; expected at least 4" in refusal(lambda: split_scenes(burst, "pairs"))

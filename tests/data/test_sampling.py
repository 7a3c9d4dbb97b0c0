"""Batches are a pure function of (seed, purpose, iteration), aligned, and drawn as declared."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from adaptsr.config.schema import Degradation
from adaptsr.data.sampling import WeightedSource, sample_batch
from adaptsr.data.store import PairSet
from tests.factories import refusal

SCALE = 4


def pair_set(name: str = "set", images: int = 3, height: int = 20, width: int = 26, first_level: int = 0) -> PairSet:
    """Each LR pixel tells its image (red), row (green) and column (blue); HR repeats every pixel of LR."""
    lr = []
    for index in range(images):
        rows = torch.arange(height).view(-1, 1).expand(height, width)
        columns = torch.arange(width).expand(height, width)
        lr.append(torch.stack([torch.full((height, width), first_level + index), rows, columns]).to(torch.uint8))
    return PairSet(
        name=name,
        scale=SCALE,
        names=tuple(f"{name}{index}" for index in range(images)),
        scenes=tuple(f"{name}{index}" for index in range(images)),
        lr=lr,
        hr=[enlarged(image) for image in lr],
    )


def enlarged(image: torch.Tensor) -> torch.Tensor:
    return image.repeat_interleave(SCALE, dim=-2).repeat_interleave(SCALE, dim=-1)


def levels(batch: torch.Tensor) -> torch.Tensor:
    return batch.mul(255).round().to(torch.int64)


@pytest.mark.parametrize("side", [8, 20])
def test_lr_and_hr_show_the_same_place_in_the_same_orientation(side: int) -> None:
    """A crop may be the whole image."""
    for iteration in range(40):
        lr, hr = sample_batch([WeightedSource(pair_set(height=side, width=side))], 1, iteration, 4, 32, SCALE)
        assert (lr.shape, lr.dtype, hr.dtype) == ((4, 3, 8, 8), torch.float32, torch.float32)
        assert torch.equal(hr, enlarged(lr))
        assert 0 <= hr.min() <= hr.max() <= 1


def test_all_positions_and_the_eight_orientations_occur() -> None:
    positions, orientations = set(), set()
    for iteration in range(150):
        lr, _ = sample_batch([WeightedSource(pair_set(images=1, height=10, width=11))], 2, iteration, 8, 32, SCALE)
        for crop in levels(lr):
            rows, columns = crop[1], crop[2]
            positions.add((int(rows.min()), int(columns.min())))
            corners = (rows[0, 0], columns[0, 0], rows[0, -1], columns[0, -1])
            orientations.add(tuple(int(value) for value in corners - np.array([rows.min(), columns.min()] * 2)))
    assert positions == {(row, column) for row in range(3) for column in range(4)}
    assert len(orientations) == 8


def test_pure_function_of_seed_purpose_and_iteration() -> None:
    sources = [WeightedSource(pair_set(), 1.0, Degradation()), WeightedSource(pair_set("other"), 2.0)]

    def sample(seed: int, iteration: int, purpose: str) -> torch.Tensor:
        return sample_batch(sources, seed, iteration, 4, 32, SCALE, purpose)[0]

    first = sample(0, 5, "train")
    torch.manual_seed(123)
    np.random.seed(123)
    state = torch.get_rng_state()
    assert torch.equal(first, sample(0, 5, "train"))
    assert torch.equal(torch.get_rng_state(), state)
    others = [sample(1, 5, "train"), sample(0, 6, "train"), sample(0, 5, "calibration")]
    assert not any(torch.equal(first, other) for other in others)


def test_larger_batches_begin_with_the_same_crops() -> None:
    sources = [WeightedSource(pair_set())]
    small, large = (sample_batch(sources, 3, 1, size, 32, SCALE)[1] for size in (2, 6))
    assert torch.equal(large[:2], small)


def test_sources_by_weight_and_images_evenly() -> None:
    sources = [WeightedSource(pair_set("a", images=2), 1.0), WeightedSource(pair_set("b", 4, first_level=10), 3.0)]
    drawn = torch.cat([levels(sample_batch(sources, 0, i, 16, 32, SCALE)[0])[:, 0, 0, 0] for i in range(250)])
    shares = {int(image): float((drawn == image).float().mean()) for image in drawn.unique()}
    expected = {0: 1 / 8, 1: 1 / 8} | {10 + index: 3 / 16 for index in range(4)}
    assert shares == {image: pytest.approx(share, abs=0.02) for image, share in expected.items()}


def test_limited_images_are_drawn_with_the_seed_and_more_contain_fewer() -> None:
    source = WeightedSource(pair_set(images=20))

    def seen(images: int, seed: int) -> set[int]:
        limited = source.limited(images, seed, 0)
        drawn = [levels(sample_batch([limited], 7, index, 16, 32, SCALE)[0])[:, 0, 0, 0] for index in range(50)]
        return set(torch.cat(drawn).int().tolist())

    few, more = seen(5, seed=1), seen(12, seed=1)
    assert (len(few), len(more)) == (5, 12)
    assert few < more
    assert few != seen(5, seed=2)
    assert seen(20, seed=1) == set(range(20))
    assert "training.images: 21, but the training split of dataset 'set' has 20" in refusal(
        lambda: source.limited(21, 1, 0)
    )


def test_degradation_replaces_lr_of_its_source_alone() -> None:
    own, made = pair_set("own"), pair_set("made", first_level=100)
    sources = [WeightedSource(own), WeightedSource(made, 1.0, Degradation())]
    plain = [WeightedSource(own), WeightedSource(made)]
    lr, hr = sample_batch(sources, 0, 0, 12, 32, SCALE)
    plain_lr, plain_hr = sample_batch(plain, 0, 0, 12, 32, SCALE)
    assert torch.equal(hr, plain_hr)
    from_made = levels(hr)[:, 0, 0, 0] >= 100
    assert 0 < int(from_made.sum()) < 12
    assert torch.equal(lr[~from_made], plain_lr[~from_made])
    assert all(not torch.equal(one, other) for one, other in zip(lr[from_made], plain_lr[from_made], strict=True))


@pytest.mark.parametrize(
    ("source", "crop", "scale", "said"),
    [
        (pair_set(height=8, width=20), 36, 4, "image 'set[0-2]' is 80x32, smaller than training.crop 36"),
        (pair_set(), 30, 4, "training.crop: 30 is not a multiple of the scale 4"),
        (pair_set(images=0), 32, 4, "no pairs"),
        (pair_set(), 32, 2, "its scale is 4, but the profile has 2"),
    ],
)
def test_impossible_crops_are_users_errors(source: PairSet, crop: int, scale: int, said: str) -> None:
    assert re.search(said, refusal(lambda: sample_batch([WeightedSource(source)], 0, 0, 2, crop, scale)))

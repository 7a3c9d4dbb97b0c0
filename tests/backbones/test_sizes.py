"""Images are padded to sizes that a backbone takes."""

from __future__ import annotations

import pytest
import torch

from adaptsr.backbones.sizes import Sizes


@pytest.mark.parametrize(
    ("sizes", "given", "expected"),
    [
        (Sizes(), (3, 5), (3, 5)),
        (Sizes(minimum=16), (3, 17), (16, 17)),
        (Sizes(multiple_of=8), (8, 9), (8, 16)),
        (Sizes(minimum=12, multiple_of=8), (1, 24), (16, 24)),
        (Sizes(multiple_of=8, square=True), (9, 30), (32, 32)),
    ],
)
def test_fitted(sizes: Sizes, given: tuple[int, int], expected: tuple[int, int]) -> None:
    assert sizes.fitted(*given) == expected
    assert sizes.fitted(*expected) == expected
    padded = sizes.pad(torch.rand(2, 3, *given))
    assert padded.shape == (2, 3, *expected)


def test_reflects_at_the_far_borders() -> None:
    padded = Sizes(multiple_of=4).pad(torch.arange(6.0).view(1, 1, 2, 3))
    assert padded[0, 0, :, :].tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [0, 1, 2, 1], [0, 1, 2, 1]]


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 40), (3, 5)])
def test_images_smaller_than_their_padding(size: tuple[int, int]) -> None:
    """Past a full reflection the last pixel repeats."""
    images = torch.rand(1, 3, *size)
    padded = Sizes(minimum=16).pad(images)
    assert padded.shape[-2:] == Sizes(minimum=16).fitted(*size)
    assert torch.equal(padded[..., : size[0], : size[1]], images)
    assert set(padded.flatten().tolist()) <= set(images.flatten().tolist())


def test_what_fits_is_returned_as_it_is() -> None:
    images = torch.rand(1, 3, 16, 8)
    assert Sizes(multiple_of=8).pad(images) is images

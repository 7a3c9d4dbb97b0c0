"""What a pair shows is one scene, and a photograph stands in one split."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from adaptsr.data.scenes import Sight, scene_mismatch, shared_photographs
from adaptsr.randomness import generator
from tests.factories import reduced

Change = Callable[[torch.Tensor], torch.Tensor]


def photograph(key: object, height: int = 192, width: int = 192) -> torch.Tensor:
    """Random shapes of many sizes below a bright sky, as all photographs of a series have it."""
    draw = generator("scene", str(key))
    sky = torch.linspace(200, 60, height)[:, None].expand(3, height, width)
    shapes = [
        functional.interpolate(torch.randn(1, 3, side, side, generator=draw), size=(height, width), mode="bicubic")[0]
        for side in (3, 6, 9)
    ]
    return (sky + 20 * sum(shapes)).clamp(0, 255).to(torch.uint8)


def jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)


def noisy(image: torch.Tensor) -> torch.Tensor:
    return (image + 15 * torch.randn(image.shape, generator=generator("noise"))).clamp(0, 255).to(torch.uint8)


SCENES: dict[str, tuple[Change, str | None]] = {
    "one scene": (lambda lr: lr, None),
    "one scene with noise": (noisy, None),
    "one scene, darker": (lambda lr: lr // 2, None),
    "one scene, a pixel aside": (lambda lr: lr.roll((1, 1), (1, 2)), None),
    "another scene": (lambda lr: reduced(photograph("other", 4 * lr.shape[1], 4 * lr.shape[2]), 4), r"do not show the same scene .* is -?0\.\d\d, expected"),
    "nothing": (torch.zeros_like, r"their correlation is -?0\.00, expected at least 0\.4"),
    "turned over": (lambda lr: lr.flip(1, 2), "agree only after LR is turned by 180 degrees"),
    "mirrored": (lambda lr: lr.flip(2), "agree only after LR is mirrored left to right"),
    "turned": (lambda lr: lr.rot90(1, (1, 2)), "agree only after LR is turned by 270 degrees"),
}  # fmt: skip


@pytest.mark.parametrize("case", SCENES)
@pytest.mark.parametrize("side", [192, 512])
def test_scenes_of_a_pair(case: str, side: int) -> None:
    change, said = SCENES[case]
    hr = photograph("a", side, side)
    lr = change(reduced(hr, 4))
    found = scene_mismatch(lr, hr)
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(said, found)


def test_a_scene_without_contrast_is_not_judged() -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    assert scene_mismatch(reduced(noisy(grey), 4), grey) is None


COPIES: dict[str, tuple[Change, str | None]] = {
    "the same pixels": (lambda image: image.clone(), "have the same pixels"),
    "a JPEG": (lambda image: jpeg(image, 85), "are copies of one photograph"),
    "a poor JPEG": (lambda image: jpeg(image, 40), "are copies of one photograph"),
    "half the size": (lambda image: reduced(image, 2), "are copies of one photograph"),
    "another photograph": (lambda image: photograph("b", 192, 256), None),
    "the next picture of a series": (lambda image: image.roll(6, 2), None),
    "a cut of it": (lambda image: image[:, 20:], None),
}


@pytest.mark.parametrize("case", COPIES)
def test_a_photograph_in_two_splits(case: str) -> None:
    change, how = COPIES[case]
    image = photograph("a", 192, 256)
    one, other = ("a", Sight.of(image)), ("b", Sight.of(change(image)))
    assert shared_photographs({"train": [("c", Sight.of(photograph("c", 192, 256))), one], "test": [other]}) == (
        [f"HR b (test) and a (train): {how}; keep a photograph in one split"] if how else []
    )
    assert shared_photographs({"train": [one, other]}) == []


def test_plain_photographs_are_the_same_only_by_their_pixels() -> None:
    walls = [torch.full((3, 64, 64), level, dtype=torch.uint8) for level in (128, 129)]
    assert shared_photographs({"train": [("a", Sight.of(walls[0]))], "test": [("b", Sight.of(walls[1]))]}) == []
    assert len(shared_photographs({"train": [("a", Sight.of(walls[0]))], "test": [("b", Sight.of(walls[0]))]})) == 1

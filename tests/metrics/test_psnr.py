"""PSNR-Y without pyiqa agrees with pyiqa and with BasicSR."""

from __future__ import annotations

import math

import pytest
import torch

from adaptsr.basicsr_compat import basicsr_module
from adaptsr.metrics.psnr import psnr_y
from adaptsr.scoring.scorer import Scorer
from tests.factories import scoring_of, smooth_pair


@pytest.mark.parametrize("crop_border", [0, 4])
def test_psnr_y_equals_pyiqa_and_basicsr(crop_border: int) -> None:
    """Three independent implementations of studio-swing PSNR-Y agree, with and without a border."""
    calculate_psnr = basicsr_module("metrics.psnr_ssim").calculate_psnr
    restored, reference = (torch.stack(images) for images in zip(*(smooth_pair(key) for key in range(3)), strict=True))
    ours = psnr_y(restored, reference, crop_border)
    scorer = Scorer(scoring_of("psnr").model_copy(update={"crop_border": crop_border}))
    theirs = [row.value for row in scorer.score(list(restored), list(reference), list("abc"))]
    assert ours.shape == (3,)
    assert ours.tolist() == pytest.approx(theirs, abs=2e-5)
    for index in range(3):
        bgr = [image[index].flip(0).permute(1, 2, 0).numpy() for image in (restored, reference)]
        basicsr = calculate_psnr(*bgr, crop_border=crop_border, test_y_channel=True)
        assert ours[index].item() == pytest.approx(basicsr, abs=1e-4)


def test_psnr_y_is_studio_swing() -> None:
    """A grey step of 10 levels is 10 * 219/255 levels of Y: 1.32 dB above full-range luma."""
    dark, light = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8), torch.full((1, 3, 8, 8), 110, dtype=torch.uint8)
    assert psnr_y(light, dark).item() == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)), abs=1e-5)


def test_psnr_y_refuses_what_it_cannot_mean() -> None:
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert psnr_y(image, image).item() == math.inf
    for restored, reference, border in ((image.float(), image, 0), (image[..., 1:], image, 0), (image, image, 4)):
        with pytest.raises(ValueError, match=r"expected|leaves nothing"):
            psnr_y(restored, reference, border)

"""Known shifts, turns and exposures are recovered, and an aligned pair is aligned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adaptsr.camera.alignment import aligned
from adaptsr.camera.measures import check_pair
from adaptsr.camera.registration import register
from adaptsr.data.images import read_image
from tests.camera.scenes import Change, pair

KNOWN = [
    Change(),
    Change(2.3, -5.1),
    Change(-30.5, 17.25),
    Change(6.2, 1.4, degrees=0.7, zoom=1.01),
    Change(-8, 3.5, degrees=-5, zoom=0.96),
    Change(1, 2, degrees=25, zoom=1.1),
    Change(3.7, -2.2, gain=0.7, offset=25),
    Change(-2.6, 4.9, degrees=1.5, gain=1.3, offset=-30),
]


@pytest.mark.parametrize("change", KNOWN, ids=str)
def test_known_changes_are_recovered(change: Change) -> None:
    """The shift to a tenth of an HR pixel; an LR pixel is four."""
    place = register(*pair("known", change), 4)
    assert place
    assert 4 * place.shift[0] == pytest.approx(change.right, abs=0.1)
    assert 4 * place.shift[1] == pytest.approx(change.down, abs=0.1)
    assert place.rotation == pytest.approx(change.degrees, abs=0.03)
    assert place.zoom == pytest.approx(change.zoom, abs=0.001)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales(scale: int) -> None:
    place = register(*pair("scale", Change(1.3 * scale, -2.6 * scale), (96, 128), scale), scale)
    assert place
    assert place.shift == pytest.approx((1.3, -2.6), abs=0.1)


def test_large_images_are_reduced_and_places_are_those_of_the_whole() -> None:
    place = register(*pair("large", Change(5.2, -3.4), (1100, 1300), 1), 1)
    assert place
    assert place.shift == pytest.approx((5.2, -3.4), abs=0.1)


@pytest.mark.parametrize("change", KNOWN, ids=str)
def test_an_aligned_pair_is_in_place(change: Change) -> None:
    lr, hr = pair("aligned", change)
    place = register(lr, hr, 4)
    assert place
    cut = aligned(lr, hr, place)
    assert cut
    assert cut.hr.shape[1:] == (4 * cut.lr.shape[1], 4 * cut.lr.shape[2])
    assert cut.lr.shape[1] * cut.lr.shape[2] > 0.35 * lr.shape[1] * lr.shape[2]
    again = register(cut.lr, cut.hr, 4)
    assert again
    assert again.farthest < 0.15


def test_an_aligned_pair_is_left_as_it_is() -> None:
    """Warping would soften HR."""
    lr, hr = pair("as it is", Change())
    place = register(lr, hr, 4)
    assert place
    if place.farthest < 0.02:
        cut = aligned(lr, hr, place)
        assert cut
        assert torch.equal(cut.lr, lr)
        assert torch.equal(cut.hr, hr)


def test_what_shares_no_scene_has_no_place() -> None:
    lr, _ = pair("one", Change())
    _, hr = pair("another", Change())
    checked, cut = check_pair("wrong", lr, hr, 4)
    assert cut is None
    assert checked.reason
    flat = torch.full_like(hr, 80)
    assert register(lr, flat, 4) is None


class TestMeasures:
    def test_of_a_sound_pair(self) -> None:
        checked, _ = check_pair("sound", *pair("sound", Change()), 4)
        assert checked.findings == ()
        assert checked.farthest
        assert checked.farthest < 0.1
        assert checked.brightness == pytest.approx(0, abs=0.5)
        assert checked.contrast == pytest.approx(1, abs=0.02)
        assert checked.bicubic == pytest.approx(checked.bicubic_aligned, abs=0.2)

    def test_exposure_is_measured_on_the_aligned_pair(self) -> None:
        checked, _ = check_pair("exposed", *pair("exposed", Change(9, -7, gain=0.8, offset=10)), 4)
        assert checked.contrast == pytest.approx(0.8, abs=0.03)
        assert checked.brightness
        assert -25 < checked.brightness < -6
        assert any("levels darker" in finding for finding in checked.findings)
        assert checked.bicubic is not None
        assert checked.bicubic_aligned is not None
        assert checked.bicubic_aligned > checked.bicubic

    def test_a_color_cast(self) -> None:
        lr, hr = pair("color", Change())
        cast = lr.clone()
        cast[2] = (lr[2].int() + 20).clamp(0, 255).to(torch.uint8)
        checked, _ = check_pair("cast", cast, hr, 4)
        assert checked.color == pytest.approx(20 * 2 / 3, abs=2)

    @pytest.mark.parametrize("blur", [0.0, 1.0, 2.0])
    def test_blur(self, blur: float) -> None:
        import cv2

        lr, hr = pair("blur", Change(), (120, 140))
        soft = lr.permute(1, 2, 0).numpy()
        soft = cv2.GaussianBlur(soft, (0, 0), blur) if blur else soft
        checked, _ = check_pair("blur", torch.from_numpy(np.ascontiguousarray(soft)).permute(2, 0, 1), hr, 4)
        assert checked.blur == pytest.approx(blur, abs=0.3)

    def test_hr_without_detail(self) -> None:
        from adaptsr.tensors import resized

        lr, hr = pair("soft", Change())
        soft = resized(resized(hr, (lr.shape[1], lr.shape[2])), (hr.shape[1], hr.shape[2]))
        checked, _ = check_pair("soft", lr, soft.round().clamp(0, 255).to(torch.uint8), 4)
        assert "HR holds no more detail than LR" in checked.findings


def test_real_pairs_are_in_place(assets: Path) -> None:
    """RealSR's published pairs were registered by their authors; exchanged ones share no scene."""
    names = sorted(path.name for path in (assets / "pairs/realsr/lr").glob("*.png"))[::25]
    images = [[read_image(assets / "pairs/realsr" / side / name) for side in ("lr", "hr")] for name in names]
    for (lr, hr), (_, other) in zip(images, images[1:] + images[:1], strict=True):
        checked, _ = check_pair("real", lr, hr, 4)
        assert checked.farthest is not None
        assert checked.farthest < 0.5
        assert check_pair("exchanged", lr, other, 4)[0].reason


def test_a_real_pair_that_is_shifted_is_found_so(assets: Path) -> None:
    path = sorted((assets / "pairs/realsr/lr").glob("*.png"))[0]
    lr, hr = (read_image(assets / "pairs/realsr" / side / path.name) for side in ("lr", "hr"))
    before, after = register(lr, hr, 4), register(lr[:, 3:, :-5], hr[:, :-12, 20:], 4)
    assert before
    assert after
    assert after.shift[0] - before.shift[0] == pytest.approx(-5, abs=0.1)
    assert after.shift[1] - before.shift[1] == pytest.approx(3, abs=0.1)

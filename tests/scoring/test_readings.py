"""The same images under all conventions: each agrees with its own implementation, and a number finds its convention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptsr.cli import main
from adaptsr.data.images import to_float, write_png
from adaptsr.errors import UserError
from adaptsr.scoring import readings
from adaptsr.scoring.readings import IMAGES, IMAGES_AND_Y, NOTHING, Reading
from adaptsr.scoring.scorer import Scorer
from tests.factories import scoring_of, smooth_pair


def given(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> readings.Images:
    return ((str(i), to_float(ours)[None], to_float(theirs)[None]) for i, (ours, theirs) in enumerate(pairs))


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize(
    ("metric", "options", "channels", "rounded"),
    [
        ("psnr", {}, "Y of YCbCr", IMAGES),
        ("psnr", {"data_range": 255, "eps": 0.0}, "Y of YCbCr", IMAGES_AND_Y),
        ("psnr", {"color_space": "yiq"}, "Y of YIQ", IMAGES),
        ("psnr", {"test_y_channel": False}, "RGB", IMAGES),
        ("ssim", {}, "Y of YCbCr", IMAGES_AND_Y),
        ("ssim", {"color_space": "yiq"}, "Y of YIQ", IMAGES_AND_Y),
        ("ssim", {"test_y_channel": False}, "RGB", IMAGES),
    ],
)
def test_readings_are_pyiqas(metric: str, options: dict[str, Any], channels: str, rounded: str, border: int) -> None:
    pairs = [smooth_pair(key) for key in range(2)]
    scorer = Scorer(scoring_of(metric, **options).model_copy(update={"crop_border": border}))
    rows = scorer.score([one for one, _ in pairs], [other for _, other in pairs], ["a", "b"])
    [found] = [
        getattr(reading, metric)
        for reading in readings.read_all(given(pairs), 4)
        if (reading.channels, reading.rounded, reading.border) == (channels, rounded, border)
    ]
    assert found == pytest.approx(sum(row.value or 0 for row in rows) / 2, abs=2e-5)


def test_what_is_restored_here_is_also_read_unrounded() -> None:
    """A third of a level is lost where images are rounded."""
    reference = torch.full((1, 3, 16, 16), 100 / 255)
    found = readings.read_all(iter([("a", reference + 0.3 / 255, reference)]), 2, lr="made here")
    psnr = {(reading.channels, reading.rounded): reading.psnr for reading in found if reading.border == 0}
    assert len(found) == 16
    assert psnr["RGB", IMAGES] is None, "infinite"
    assert psnr["RGB", NOTHING] == pytest.approx(58.588, abs=1e-2)
    assert psnr["Y of YIQ", NOTHING] == pytest.approx(58.588, abs=1e-2)
    assert all(reading.ssim is not None for reading in found)
    with pytest.raises(UserError, match="a: a border of 8 leaves nothing of 16x16 pixels"):
        readings.read_all(iter([("a", reference, reference)]), 8)


@pytest.mark.parametrize(
    ("expected", "metric", "channels"), [("30.2", "psnr", "RGB"), ("0.81", "ssim", "RGB"), ("31", "psnr", "Y of YIQ")]
)
def test_a_number_finds_its_convention(expected: str, metric: str, channels: str) -> None:
    found = [
        Reading("given", "Y of YIQ", IMAGES, 0, 31.4, 0.9),
        Reading("given", "RGB", IMAGES, 4, 30.21, 0.812),
        Reading("given", "Y of YCbCr", IMAGES, 0, None, None),
    ]
    named, order = readings.closest(found, expected)
    assert (named, order[0].channels, len(order)) == (metric, channels, 2)
    text = readings.as_text(found, expected).splitlines()
    assert text[-2].startswith(f"Closest to {expected}: {metric.upper()} ")
    assert text[-1] == f"Conventions that give {expected} in these digits: 1 of 3."
    for wrong in ("many", "-1", "nan"):
        with pytest.raises(UserError, match=f"--expected {wrong}: expected a PSNR in dB, or an SSIM up to 1"):
            readings.closest(found, wrong)


@pytest.mark.parametrize(("name", "reduce"), readings.REDUCTIONS.items())
def test_ways_of_reduction_keep_a_flat_image_and_round(name: str, reduce: Any) -> None:
    flat = torch.full((1, 3, 16, 24), 0.2)
    assert reduce(flat, 4).shape == (1, 3, 4, 6), name
    assert torch.equal(reduce(flat, 4), torch.full((1, 3, 4, 6), 51 / 255))


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        ours, theirs = smooth_pair(name, 50, 41)
        write_png(Path(f"sr/{name}.png"), ours)
        write_png(Path(f"hr/{name}.png"), theirs)
    assert main(["score", "--sr", "sr", "--hr", "hr", "--conventions", "--scale", "2"]) == 0
    assert "Y of YIQ    2       images and Y  given" in capsys.readouterr().out
    model = str(repository / "resources/demo/safmn.safetensors")
    assert main(["score", "--model", model, "--hr", "hr", "--conventions", "--expected", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["readings"]) == 48
    nearest = min(abs(reading["psnr"] - 20) for reading in found["readings"])
    assert abs(found["closest"]["psnr"] - 20) == nearest
    for words, said in (
        (["--sr", "sr", "--conventions"], "--conventions: needs the HR images"),
        (["--model", model, "--hr", "hr"], "--model: belongs to --conventions"),
    ):
        assert main(["score", *words]) == 2
        assert said in capsys.readouterr().err

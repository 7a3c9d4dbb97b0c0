"""Two folders of images are scored as JSON, and what does not match is said at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptsr.data.images import write_png
from adaptsr.errors import UserError
from adaptsr.metrics.psnr import psnr_y
from adaptsr.scoring.folders import as_text, named_scoring, score_folders, standard_scoring
from adaptsr.scoring.scorer import Scorer, ScoreRow
from tests.factories import scoring_of, smooth_pair


def folder(path: Path, images: Mapping[str, torch.Tensor]) -> Path:
    for name, image in images.items():
        write_png(path / name, image)
    return path


def test_folders_are_scored_as_json(tmp_path: Path, no_weights: Path) -> None:
    pairs = {name: smooth_pair(key) for key, name in enumerate(["a.png", "b.png"])}
    sr = folder(tmp_path / "sr", {name: images[0] for name, images in pairs.items()})
    hr = folder(tmp_path / "hr", {name: images[1] for name, images in pairs.items()})
    scored = json.loads(json.dumps(score_folders(sr, hr, standard_scoring(), 4, "cpu"), allow_nan=False))
    assert [image["name"] for image in scored["images"]] == ["a", "b"]
    expected = [psnr_y(restored[None], reference[None], 4).item() for restored, reference in pairs.values()]
    assert [image["psnr_y"] for image in scored["images"]] == pytest.approx(expected, abs=2e-5)
    assert scored["mean"]["psnr_y"] == pytest.approx(np.mean(expected), abs=2e-5)
    assert scored["mean"]["lpips"] is None
    assert "AlexNet" in scored["mean"]["reasons"]["lpips"]
    assert "VGG16" in scored["images"][0]["reasons"]["dists"]
    assert scored["conventions"]["psnr_y"]["color_space"] == "ycbcr"
    assert scored["conventions"]["psnr_y"]["crop_border"] == 4


def test_a_folder_is_scored_without_references(tmp_path: Path, no_weights: Path) -> None:
    sr = folder(tmp_path / "sr", {name: smooth_pair(name, 64, 64)[0] for name in ("a.png", "b.png")})
    scored = score_folders(sr, None, named_scoring(["piqe", "entropy"]), 4)
    assert [image["name"] for image in scored["images"]] == ["a", "b"]
    assert scored["mean"]["piqe"] == pytest.approx(np.mean([image["piqe"] for image in scored["images"]]))
    inner = folder(tmp_path / "inner", {"a.png": smooth_pair("a.png", 64, 64)[0][:, 4:-4, 4:-4]})
    assert score_folders(inner, None, named_scoring(["piqe"]), 0)["mean"]["piqe"] == scored["images"][0]["piqe"]
    named = score_folders(inner, None, named_scoring(["maniqa", "entropy"]), 0)
    assert as_text(named).splitlines()[0].split() == ["image", "maniqa", "(koniq)", "entropy"]
    assert named["conventions"]["maniqa"]["weights"] == "ckpt_koniq10k.pt"
    (sr / "c.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"restored c\.png: unreadable"):
        score_folders(sr, None, named_scoring(["piqe"]), 0)


def test_one_pair_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {f"{name}.png": smooth_pair(name)[0] for name in "abc"}
    sr, hr = folder(tmp_path / "sr", images), folder(tmp_path / "hr", images)
    score, held = Scorer.score, []

    def counted(self: Scorer, restored: Any, references: Any, names: Any) -> list[ScoreRow]:
        held.append(list(names))
        return score(self, restored, references, names)

    monkeypatch.setattr(Scorer, "score", counted)
    score_folders(sr, hr, scoring_of("psnr"), 0, "cpu")
    assert held == [["a"], ["b"], ["c"]]


def test_identical_images_in_folders_have_no_number_in_json(tmp_path: Path) -> None:
    images = {"a.png": smooth_pair(1)[0], "b.png": smooth_pair(2)[0]}
    sr = folder(tmp_path / "sr", images)
    hr = folder(tmp_path / "hr", {"a.png": images["a.png"], "b.png": smooth_pair(2)[1]})
    scored = score_folders(sr, hr, scoring_of("psnr", "ssim"), 0, "cpu")
    assert scored["images"][0]["psnr"] is None
    assert scored["images"][0]["reasons"] == {"psnr": "infinite: the images are identical"}
    assert scored["images"][0]["ssim"] == 1
    assert scored["mean"]["reasons"] == {"psnr": "1 of 2 images: infinite: the images are identical"}
    json.dumps(scored, allow_nan=False)


def test_folders_that_do_not_match_are_one_line(tmp_path: Path) -> None:
    """Every name without a partner is reported at once; so is every size and every unreadable file."""
    sr = folder(tmp_path / "sr", {f"{name}.png": smooth_pair(1)[0] for name in "abc"})
    hr = folder(tmp_path / "hr", {f"{name}.png": smooth_pair(1)[0] for name in "bcd"})
    with pytest.raises(
        UserError, match=r"restored a\.png: no reference image .*; reference d\.png: no restored image"
    ) as caught:
        score_folders(sr, hr, scoring_of("psnr"), 0, "cpu")
    assert "\n" not in str(caught.value)
    (sr / "a.png").unlink()
    (hr / "d.png").unlink()
    write_png(sr / "b.png", smooth_pair(1, 24, 24)[0])
    (hr / "c.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"restored b\.png: 24x24 beside reference 40x48: .*; reference c\.png: unreadable"
    ):
        score_folders(sr, hr, scoring_of("psnr"), 0, "cpu")
    with pytest.raises(UserError, match="no such folder"):
        score_folders(tmp_path / "gone", hr, scoring_of("psnr"), 0, "cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no restored images in .*/empty; expected files ending in"):
        score_folders(tmp_path / "empty", hr, scoring_of("psnr"), 0, "cpu")

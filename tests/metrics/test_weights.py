"""Network weights of metrics: which files they are, and how they are fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from adaptsr.config.schema import Metric, Objective, Scoring
from adaptsr.errors import UserError
from adaptsr.metrics import weights
from adaptsr.metrics.weights import fetch_weights, weight_files
from tests.factories import scoring_of


def test_weight_files_are_those_pyiqa_and_torchvision_use(no_weights: Path) -> None:
    """Addresses and names are the ones in the installed libraries."""
    import pyiqa.archs.clipiqa_arch as clipiqa
    import pyiqa.archs.dists_arch as dists
    import pyiqa.archs.lpips_arch as lpips
    import pyiqa.archs.musiq_arch as musiq
    import pyiqa.archs.nima_arch as nima
    import pyiqa.archs.niqe_arch as niqe
    import pyiqa.archs.topiq_arch as topiq
    from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

    expected = {
        "alex": (AlexNet_Weights.IMAGENET1K_V1.url, lpips.default_model_urls["0.1_alex"]),
        "vgg": (VGG16_Weights.IMAGENET1K_V1.url, lpips.default_model_urls["0.1_vgg"]),
        "squeeze": (SqueezeNet1_1_Weights.IMAGENET1K_V1.url, lpips.default_model_urls["0.1_squeeze"]),
    }
    for net, urls in expected.items():
        scoring = Scoring(metrics={"a": Metric(name="lpips", title=net, options={"net": net})})
        assert tuple(file.url for file in weight_files(scoring)) == urls
    for metric, url in (
        ("niqe_matlab", niqe.default_model_urls["niqe_matlab"]),
        ("musiq-ava", musiq.default_model_urls["ava"]),
        ("clipiqa+_rn50_512", clipiqa.default_model_urls["clipiqa+_rn50_512"]),
        ("nima-koniq", nima.default_model_urls["inception_resnet_v2-koniq"]),
        ("topiq_nr", topiq.default_model_urls["cfanet_nr_koniq_res50"]),
    ):
        scoring = Scoring(metrics={"a": Metric(name=metric)})
        assert [file.url for file in weight_files(scoring)] == [url]
        assert weight_files(scoring)[0].path == no_weights / "pyiqa" / url.rpartition("/")[2]
    files = weight_files(scoring_of("dists", "gmsd"))
    assert [file.url for file in files] == [VGG16_Weights.IMAGENET1K_V1.url, dists.default_model_urls["url"]]
    assert all(file.path.is_relative_to(no_weights) and file.path.name == Path(file.url).name for file in files)


def test_fetching_verifies_and_explains(no_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right file arrives whole; a wrong one is not kept; a host that does not answer is asked once."""

    right = b"weights" * 1000
    name = f"net-{hashlib.sha256(right).hexdigest()[:8]}.pth"
    (tmp_path / name).write_bytes(right)
    (tmp_path / "net-00000000.pth").write_bytes(right)

    def fetch(*urls: str) -> dict[str, str]:
        files = [weights.WeightFile("a", "Net", url, no_weights / url.rpartition("/")[2]) for url in urls]
        monkeypatch.setattr(weights, "_files", lambda _: files)
        return fetch_weights(scoring_of("lpips"))

    assert fetch((tmp_path / name).as_uri()) == {}
    assert (no_weights / name).read_bytes() == right
    assert "SHA-256 begins" in fetch((tmp_path / "net-00000000.pth").as_uri())["lpips"]
    unanswered = fetch("http://127.0.0.1:9/net-1.pth", "http://127.0.0.1:9/net-2.pth")
    assert unanswered["lpips"].startswith("Net weights not available: put http://127.0.0.1:9/net-1.pth at ")
    assert sorted(path.name for path in no_weights.iterdir()) == [name]
    strict = scoring_of("lpips").model_copy(update={"missing_weights": "error"})
    with pytest.raises(UserError, match="Net weights not available"):
        fetch_weights(strict)


def test_missing_weights_are_tried_again_only_when_something_has_come(
    no_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files on this machine count, and a host that has them."""
    scoring = scoring_of("niqe", "psnr")
    file = no_weights / "pyiqa" / "niqe_modelparameters.mat"
    [offered] = weight_files(scoring)
    assert offered.path == file
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    def next_after(last: dict[str, Any]) -> int:
        return weights.next_attempt(scoring, [], last)

    assert next_after({}) == 0
    missing = fetch_weights(scoring)
    assert missing["niqe"].startswith("NIQE weights not available: put http://127.0.0.1:9/")
    failed = weights.attempt_record(scoring, [], missing, 0)
    assert next_after(failed) == 0
    monkeypatch.setattr(weights, "_is_offered", lambda url, _: url.endswith(file.name))
    assert next_after(failed) == 1
    assert next_after(weights.attempt_record(scoring, [], missing, 1)) == 1, "the host promised it and did not give it"
    monkeypatch.setattr(weights, "_is_offered", lambda *_: False)
    file.parent.mkdir(parents=True)
    file.touch()
    assert next_after(failed) == 1
    assert next_after(weights.attempt_record(scoring, [], {}, 1)) == 1


def test_losses_that_were_left_out_are_tried_again_too(no_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_is_offered", lambda *_: False)
    scoring, objective = scoring_of("psnr"), Objective(terms={"l1": 1.0, "perceptual": 1.0})
    missing = {weights.loss_column("perceptual"): "VGG19 weights not available"}
    failed = weights.attempt_record(scoring, [objective], missing, 0)
    assert weights.next_attempt(scoring, [objective], failed) == 0
    (no_weights / "checkpoints").mkdir(parents=True)
    (no_weights / "checkpoints/vgg19-dcbb9e9d.pth").touch()
    assert weights.next_attempt(scoring, [objective], failed) == 1


def test_metrics_without_weights_are_not_built_to_be_fetched(no_weights: Path) -> None:
    assert fetch_weights(scoring_of("psnr", "ssim", "gmsd", "nlpd")) == {}

"""Losses are those of their sources, with gradients that can be used; weights that are missing are said."""

from __future__ import annotations

import copy
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch.nn import functional

from adaptsr.adaptation.allocation import CalibrationBatches, importance
from adaptsr.adaptation.contract.backbones import calibration, small_backbone
from adaptsr.backbones.sites import find_sites, select
from adaptsr.cli import score
from adaptsr.config import schema
from adaptsr.config.schema import Metric, Scoring
from adaptsr.metrics import weights
from adaptsr.metrics.conventions import conventions, loss_convention
from adaptsr.runs.estimate import estimate
from adaptsr.training import objectives
from adaptsr.training.objectives import LOSSES, Objective, objective_of
from tests.factories import matrix_of, refusal, tiny_profile

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh() -> None:
    objectives._objective.cache_clear()


def training_of(crop: int = 48, **objective: Any) -> schema.Training:
    base = {"iterations": 1, "batch_size": 1, "crop": crop, "lr": 1.0, "validate_every": 1}
    return schema.Training.model_validate({**base, "objective": objective})


def objective(crop: int = 48, **terms: float) -> Objective:
    return objective_of(training_of(crop, terms=terms), CPU)


def images(side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Restored images, slightly out of range as those of a network are, and HR."""
    torch.manual_seed(0)
    hr = functional.interpolate(torch.rand(2, 3, side // 8, side // 8), size=(side, side), mode="bilinear")
    return (hr + 0.2 * torch.randn(hr.shape)).requires_grad_(), hr


def by_hand(name: str, restored: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """The same loss by another way."""
    difference = restored - hr
    if name == "l1":
        return difference.abs().mean()
    if name == "charbonnier":
        return (difference.square() + 1e-12).sqrt().mean()
    if name == "fft":
        spectrum = torch.fft.fft2(difference)  # it is linear
        return (spectrum.real.abs().mean() + spectrum.imag.abs().mean()) / 2
    if name == "perceptual":
        return _features_of_vgg19(restored, hr)
    options = {"ssim": {"test_y_channel": False}, "lpips": {"net": "vgg"}}.get(name, {})
    scoring = Scoring(metrics={name: Metric(name=name, title="vgg", options=options)})
    network = weights.build_network(conventions(scoring)[0], "cpu")
    value = network(restored, hr).mean()
    return 1 - value if name == "ssim" else value


def _features_of_vgg19(restored: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Real-ESRGAN's: convolutions before their ReLU, of images normalised as for ImageNet."""
    with torch.device("meta"):
        network = torchvision.models.vgg19()
    network.load_state_dict(torch.load(weights._hub() / "checkpoints/vgg19-dcbb9e9d.pth"), assign=True)
    places = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, y = (restored - mean) / std, (hr - mean) / std
    total = torch.zeros(())
    for place, layer in enumerate(network.features[:35]):
        x, y = layer(x.clone()), layer(y.clone())
        total = total + places.get(place, 0.0) * (x - y).abs().mean()
    return total


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in schema.WITH_NETWORKS else []) for name in LOSSES]
)
def test_a_loss_is_that_of_its_source_and_has_a_gradient(use_random_weights: Path, name: str) -> None:
    restored, hr = images()
    state = torch.get_rng_state()
    loss = objective(**{name: 1.0})(restored, hr)
    assert torch.equal(torch.get_rng_state(), state)
    [gradient] = torch.autograd.grad(loss, restored)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    # pyiqa's SSIM compares levels of 8 bit
    torch.testing.assert_close(
        loss, by_hand(name, restored, hr).to(loss.dtype), rtol=1e-4, atol=2e-3 * (name == "ssim")
    )
    assert objective(**{name: 1.0})(hr, hr) < 1e-5


def test_l1_is_torchs_to_the_bit() -> None:
    restored, hr = images()
    assert torch.equal(objective(l1=1.0)(restored, hr), functional.l1_loss(restored, hr))
    assert training_of().objective == schema.Objective()


def test_a_sum_is_weighted() -> None:
    restored, hr = images()
    parts = [objective(**{name: 1.0})(restored, hr) for name in ("l1", "fft")]
    torch.testing.assert_close(objective(fft=0.05, l1=2.0)(restored, hr), 2 * parts[0] + 0.05 * parts[1])


def test_lpips_has_a_gradient_where_all_features_are_zero(
    use_random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root in its normalisation has none at 0; the ReLU before it drops what comes from there."""
    network = weights.build_network(loss_convention("lpips", schema.Objective()), "cpu")
    for name, parameter in network.named_parameters():
        parameter.data.mul_(0.0 if name.endswith("bias") else 1.0)
    network.scaling_layer.shift.fill_(-1)  # type: ignore[operator,union-attr]
    monkeypatch.setattr(objectives, "build_network", lambda *_: network)
    restored = torch.zeros(1, 3, 48, 48)
    restored[..., 24:] = 0.5
    loss = objective(lpips=1.0)(restored.requires_grad_(), images()[1][:1])
    [gradient] = torch.autograd.grad(loss, restored)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "said"), [("lpips", "VGG16 and LPIPS"), ("dists", "VGG16 and DISTS"), ("perceptual", "VGG19")]
)
def test_missing_weights_are_an_error_or_leave_the_loss_out(no_weights: Path, name: str, said: str) -> None:
    message = refusal(lambda: objective(l1=1.0, **{name: 1.0}))
    assert message.startswith(f"training.objective.terms.{name}: {said} weights not available: put https://")
    assert "or set objective.missing_weights to `leave_out`" in message
    partial = objective_of(training_of(terms={"l1": 1.0, name: 1.0}, missing_weights="leave_out"), CPU)
    assert list(partial.terms) == ["l1"]
    assert partial.left_out[name].startswith(f"{said} weights not available")
    alone = training_of(terms={name: 1.0}, missing_weights="leave_out")
    assert "nothing is left to minimise" in refusal(lambda: objective_of(alone, CPU))


@pytest.mark.parametrize(("name", "crop"), [("ssim", 8), ("lpips", 8), ("perceptual", 8)])
def test_crops_that_a_loss_cannot_compare_are_refused(use_random_weights: Path, name: str, crop: int) -> None:
    assert f"terms.{name}: cannot compare crops of 8 pixels" in refusal(lambda: objective(crop, **{name: 1.0}))


@pytest.mark.parametrize("missing_weights", ["error", "leave_out"])
def test_weights_of_losses_are_fetched_with_those_of_metrics(
    no_weights: Path, monkeypatch: pytest.MonkeyPatch, missing_weights: str, tmp_path: Path
) -> None:
    """VGG19 comes down, the others do not; a variant's own objective counts as the profile's does."""

    def save(file: weights.WeightFile) -> None:
        if file.title != "VGG19":
            raise urllib.error.URLError("no route")
        file.path.parent.mkdir(parents=True)
        file.path.touch()

    monkeypatch.setattr(weights, "_save", save)
    content = tiny_profile()
    content["training"]["objective"] = {"terms": {"l1": 1.0, "perceptual": 1.0}}
    own = {"terms": {"lpips": 1.0, "l1": 1.0}, "missing_weights": missing_weights}
    content["baselines"]["lora"]["training"] = {"objective": own}
    matrix = matrix_of(content)
    if missing_weights == "error":
        assert "training.objective.terms.lpips: VGG16" in refusal(lambda: score._fetch_for_objectives(matrix))
    else:
        assert "no route" in score._fetch_for_objectives(matrix)["the loss lpips"]
    assert (no_weights / "checkpoints/vgg19-dcbb9e9d.pth").is_file()
    assert dict(estimate(matrix).metric_weights) == {"VGG16": False, "LPIPS": False, "VGG19": True}


def test_importance_takes_the_gradient_of_the_objective() -> None:
    model = copy.deepcopy(small_backbone("batchnorm"))
    sites = select(find_sites(model))
    found = importance(model, sites, "gradient", CalibrationBatches(calibration, functional.mse_loss), 1, 0)
    lr, hr = calibration(0)
    weight = model.get_submodule(sites[0].name).weight
    assert isinstance(weight, torch.Tensor)
    weight.requires_grad_(True)
    [gradient] = torch.autograd.grad(functional.mse_loss(model(lr), hr), weight)
    assert found[sites[0].name] == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert found != importance(model, sites, "gradient", calibration, 1, 0)

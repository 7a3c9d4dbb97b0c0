"""DoRA and PiSSA against Hugging Face PEFT's own layers, and CoLoRA's attribution against a loss with a known answer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from adaptsr.adaptation.allocation import CalibrationBatches
from adaptsr.adaptation.reparametrization import merged_state, original_weight, trainable_count, trainable_parameters
from adaptsr.backbones.sites import find_sites
from tests.baselines.helpers import DATA, attach, baseline, normal, planned, swin_like

PEFT_FORM = {"rank": 2, "factorization": "kxk-1x1", "alpha": 3.0, "biases": False}


def in_peft(model: nn.Module, **config: Any) -> nn.Module:
    """The same layers under PEFT, at the same rank and scale."""
    peft = pytest.importorskip("peft")
    names = [site.name for site in find_sites(model)]
    return peft.inject_adapter_in_model(peft.LoraConfig(r=2, lora_alpha=3, target_modules=names, **config), model)  # type: ignore[no-any-return]


def delta_of(model: nn.Module, site: str) -> Any:
    return model.get_submodule(site).parametrizations.weight[-1]  # type: ignore[union-attr,index]


def test_dora_is_pefts_in_output_and_gradient() -> None:
    """With the same factors and magnitudes, on Linear and Conv2d."""
    model = swin_like()
    ours = attach("dora", copy.deepcopy(model), planned("dora", "r8", model, **PEFT_FORM))
    theirs = in_peft(copy.deepcopy(model), use_dora=True)
    pairs = []
    for number, site in enumerate(site.name for site in find_sites(model)):
        layer: Any = theirs.get_submodule(site)
        low_rank, magnitude = ours.get_submodule(site).parametrizations.weight  # type: ignore[union-attr,misc]
        for own, other in (
            (low_rank.a, layer.lora_A["default"].weight),
            (low_rank.b, layer.lora_B["default"].weight),
            (magnitude.m, layer.lora_magnitude_vector["default"].weight),
        ):
            if own is magnitude.m:
                torch.testing.assert_close(own, other.flatten())  # both start at the norms of W
            value = own.detach() + 0.1 * normal(*own.shape, seed=number).float()
            own.data, other.data = value, value.clone().view_as(other)
            pairs.append((own, other))
    found, expected = ours(DATA.float()), theirs(DATA.float())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    counts = normal(*found.shape, seed=9).float()
    mine = torch.autograd.grad((found * counts).sum(), [own for own, _ in pairs])
    of_peft = torch.autograd.grad((expected * counts).sum(), [other for _, other in pairs])
    for one, other in zip(mine, of_peft, strict=True):
        torch.testing.assert_close(one, other.view_as(one), rtol=1e-3, atol=1e-4)


def test_dora_trains_pefts_number_of_parameters() -> None:
    model = swin_like()
    ours = attach("dora", copy.deepcopy(model), planned("dora", "r8", model, **PEFT_FORM))
    assert trainable_count(ours) == trainable_count(in_peft(copy.deepcopy(model), use_dora=True))


def test_a_filter_of_zeros_keeps_its_output_finite() -> None:
    model = swin_like()
    model.get_submodule("conv_first").weight.data[0] = 0  # type: ignore[index,union-attr]
    ours = attach("dora", copy.deepcopy(model), planned("dora", "r8", model))
    torch.testing.assert_close(ours(DATA.float()), model(DATA.float()))
    ours(DATA.float()).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trainable_parameters(ours).values())


def test_pissa_starts_where_peft_does() -> None:
    """Factors up to a common sign of a row and a column, residual and output, on every Linear."""
    model = swin_like()
    ours = attach("pissa", copy.deepcopy(model), planned("pissa", "r8", model, **PEFT_FORM))
    linear = [site.name for site in find_sites(model) if site.is_linear]
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=linear, init_lora_weights="pissa")
    theirs = peft.inject_adapter_in_model(config, copy.deepcopy(model))
    for site in linear:
        layer, delta = theirs.get_submodule(site), delta_of(ours, site)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        torch.testing.assert_close(delta.a.abs(), a.abs(), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(delta.b @ delta.a, b @ a, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(
            original_weight(ours.get_submodule(site)) - 1.5 * delta.b @ delta.a,
            layer.base_layer.weight,
            rtol=1e-3,
            atol=1e-5,
        )
    torch.testing.assert_close(ours(DATA.float()), model(DATA.float()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factorization", ["loralib", "kxk-1x1"])
def test_pissa_leaves_of_a_convolution_what_no_such_product_can_be(factorization: str) -> None:
    """At the rank that a layer can use, B A is the whole weight: without it nothing is left."""
    model = swin_like()
    ours = attach("pissa", copy.deepcopy(model), planned("pissa", "r8", model, factorization=factorization, rank=64))
    delta = delta_of(ours, "conv_last")
    with torch.no_grad():
        delta.b.zero_()
    left = merged_state(ours, ["conv_last.weight", "conv_first.weight"])
    assert left["conv_last.weight"].abs().max() < 1e-6
    torch.testing.assert_close(left["conv_first.weight"], model.get_parameter("conv_first.weight"))


def test_contributions_add_up_to_what_fine_tuning_gained() -> None:
    """Integrated gradients are complete: for a loss linear in one weight, the contribution is the change of the loss."""
    colora = baseline("colora")
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False))
    model[1].weight.data = torch.eye(3).view(3, 3, 1, 1)
    model.requires_grad_(False)
    image = torch.ones(1, 3, 4, 4)
    calibration = CalibrationBatches(lambda _: (image, image), lambda restored, hr: restored.sum() / 16)
    sites = find_sites(model)[:1]
    options = {"steps": 5, "lr": 0.1, "points": 4}
    found = colora.contributions(copy.deepcopy(model), sites, options, calibration)
    assert list(found) == ["0"]
    # Adam moves each of the nine weights by lr a step against a gradient of 1.
    assert found["0"] == pytest.approx(9 * 5 * 0.1, rel=1e-3)


def test_colora_gives_ranks_to_what_contributes_within_the_budget() -> None:
    model = swin_like().double()
    uniform = trainable_count(attach("lora", copy.deepcopy(model), planned("lora", "r2", model)))
    plan = planned("colora", "r8", model, budget=uniform, steps=3, points=2)
    ranks = plan.settings["ranks"]
    assert min(ranks.values()) == 1
    assert max(ranks.values()) > 2
    assert trainable_count(attach("colora", copy.deepcopy(model), plan)) <= uniform

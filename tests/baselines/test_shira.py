"""SHiRA against Hugging Face PEFT, and its five masks against their definitions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from adaptsr.adaptation.reparametrization import trainable_count, trainable_parameters
from adaptsr.backbones.sites import find_sites
from tests.baselines.helpers import agree, agree_in_gradient, attach, calibration, normal, planned, swin_like

SITE = "layers.0.mlp.fc1"


def masks(chosen: str = "paper", **options: Any) -> dict[str, torch.Tensor]:
    return planned("shira", chosen, swin_like().double(), **options).tensors


def test_against_peft() -> None:
    """PEFT's SHiRA with the same mask and values: the same output, gradient and merged weight."""
    peft = pytest.importorskip("peft")
    layer = nn.Linear(10, 6).double()
    model = nn.ModuleDict({"layer": layer})
    plan = planned("shira", "paper", model, rank=2)
    attached = attach("shira", copy.deepcopy(model), plan).get_submodule("layer")
    (values,) = trainable_parameters(attached).values()

    def same_mask(base_layer: nn.Module, rank: int, random_seed: None) -> torch.Tensor:
        mask = torch.zeros(60)
        mask[plan.tensors["layer"]] = 1
        return mask.view(6, 10)

    config = peft.ShiraConfig(r=2, target_modules=["layer"])
    config.mask_fn = same_mask
    theirs = peft.inject_adapter_in_model(config, copy.deepcopy(model)).get_submodule("layer").double()
    (their_values,) = [p for p in theirs.parameters() if p.requires_grad]
    assert values.shape == their_values.shape == (2 * (10 + 6),)
    with torch.no_grad():
        values.copy_(normal(32))
        their_values.copy_(values)
    x = normal(5, 10)
    agree(attached(x), theirs(x))
    agree_in_gradient(attached(x), theirs(x), [values], [their_values])
    theirs.merge()
    agree(attached.weight, theirs.get_base_layer().weight)


@pytest.mark.parametrize("mask", ["random", "struct", "wm", "grad", "snip"])
def test_size_of_the_masks(mask: str) -> None:
    """A tenth of the entries of every Linear, sorted, none twice; convolutions are left alone."""
    found = masks(mask=mask)
    linear = {site.name: site.weights for site in find_sites(swin_like()) if site.is_linear}
    assert {name: len(indices) for name, indices in found.items()} == {n: round(w / 10) for n, w in linear.items()}
    for name, indices in found.items():
        assert torch.equal(indices, torch.unique(indices))
        assert indices[0] >= 0
        assert indices[-1] < linear[name]


def test_size_by_rank() -> None:
    """With `rank` a mask has as many entries as LoRA has parameters, and never more than the weight has."""
    found = masks(chosen="rank8", rank=1)
    assert len(found[SITE]) == 8 + 16
    assert len(found["conv_first"]) == 9 * (3 + 8)
    assert len(masks(chosen="rank8")["conv_first"]) == 8 * 3 * 9
    model = swin_like()
    attached = attach("shira", model, planned("shira", "rank8", model, rank=1))
    assert trainable_count(attached) == sum(len(indices) for indices in found.values())


def test_random_masks_differ() -> None:
    """Between layers of the same shape."""
    assert not torch.equal(masks()[SITE], masks()["layers.1.mlp.fc1"])


@pytest.mark.parametrize("mask", ["wm", "grad", "snip"])
def test_largest_entries(mask: str) -> None:
    """The largest |W|, |dL/dW| or |W dL/dW|, the gradient averaged over the calibration batches."""
    model = swin_like().double()
    copied = copy.deepcopy(model).requires_grad_(True)
    for index in range(2):
        lr, hr = calibration(index)
        ((copied(lr) - hr).abs().mean() / 2).backward()
    for name, indices in masks(mask=mask, batches=2).items():
        weight = copied.get_parameter(f"{name}.weight")
        assert weight.grad is not None
        score = {"wm": weight, "grad": weight.grad, "snip": weight * weight.grad}[mask].detach().abs().flatten()
        chosen = torch.zeros(len(score), dtype=torch.bool)
        chosen[indices] = True
        assert score[chosen].min() > score[~chosen].max()


def test_struct() -> None:
    """The whole diagonal and whole rows, of which the last may be cut to the count."""
    for name, indices in masks(mask="struct", fraction=0.5).items():
        out, columns = swin_like().get_parameter(f"{name}.weight").shape
        mask = torch.zeros(out * columns, dtype=torch.bool)
        mask[indices] = True
        grid = mask.view(out, columns)
        assert grid.diagonal().all()
        partly = [row for row in range(out) if 1 < int(grid[row].sum()) < columns]
        assert len(partly) <= 1
        assert grid.all(1).any()


def test_convolutions_where_there_is_nothing_else() -> None:
    """On a CNN the entries of its kernels take the place of the Linear layers."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=6))
    plan = planned("shira", "paper", model)
    assert {name: len(indices) for name, indices in plan.tensors.items()} == {"0": 16}

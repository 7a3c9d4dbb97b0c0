"""ARC against its authors' adapter: x + (x U diag(lambda)) U^T + b in front of a layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from adaptsr.adaptation.reparametrization import Plan, trainable_count, trainable_parameters
from tests.baselines.helpers import DATA, Block, agree, agree_in_gradient, attach, normal, planned, swin_like


def fill(model: nn.Module) -> dict[str, nn.Parameter]:
    """Random values in everything that trains."""
    parameters = trainable_parameters(model)
    with torch.no_grad():
        for index, parameter in enumerate(parameters.values()):
            parameter.copy_(0.3 * normal(*parameter.shape, seed=index))
    return parameters


def adapted(**options: Any) -> tuple[nn.Module, nn.Module, Plan]:
    model = swin_like().double()
    plan = planned("arc", "svd50", model, **options)
    return model, attach("arc", copy.deepcopy(model), plan), plan


def test_explicit_adapter() -> None:
    """qkv and fc1 of every block see x + (x U diag(lambda)) U^T + b; out-projections and fc2 see x."""
    model, attached, plan = adapted(size=5)
    fill(attached)
    assert set(plan.settings["sites"]) == {f"layers.{i}.{end}" for i in (0, 1) for end in ("attn.qkv", "mlp.fc1")}
    for name in plan.settings["sites"]:
        before, after = model.get_submodule(name), attached.get_submodule(name)
        weight: Any = after.parametrizations.weight[0]  # type: ignore[index,union-attr]
        shift = after.parametrizations.bias[0].shift  # type: ignore[index,union-attr]
        x = normal(7, 8)
        own, explicit = after(x), before(x + ((x @ weight.u) * weight.scales) @ weight.u.T + shift)
        agree(own, explicit)
        agree_in_gradient(own, explicit, [weight.u, weight.scales, shift])
    for name in ("layers.0.attn.proj", "layers.1.mlp.fc2"):
        assert torch.equal(attached.get_parameter(f"{name}.weight"), model.get_parameter(f"{name}.weight"))


def test_a_row_that_shares_nothing_says_so() -> None:
    """One block a stage: every U has one site."""
    [note] = adapted()[2].notes
    assert note.startswith(
        "no projection U (the input directions that layers re-scale) is shared on this backbone: each of"
    )
    two = nn.ModuleDict({"layers": nn.ModuleList([nn.Sequential(Block(8), Block(8))])})
    assert planned("arc", "svd50", two).notes == []


def test_u_is_shared_per_stage_and_kind() -> None:
    """One U for the attention and one for the MLP of a stage; lambda and b are every site's own."""
    stages = nn.ModuleList([nn.Sequential(Block(8), Block(8)) for _ in range(3)])
    model = nn.ModuleDict({"layers": stages})
    attached = attach("arc", model, planned("arc", "svd50", model, size=5))
    owners: dict[int, set[str]] = {}
    for name, parameter in attached.named_parameters(remove_duplicate=False):
        if name.endswith(".u"):
            owners.setdefault(id(parameter), set()).add(name.split(".parametrizations")[0])
    assert sorted(map(sorted, owners.values())) == [
        [f"layers.{stage}.{block}.{site}" for block in (0, 1)] for stage in range(3) for site in ("attn.qkv", "mlp.fc1")
    ]
    assert trainable_count(attached) == 6 * 5 * 8 + 12 * (5 + 8)


@pytest.mark.parametrize(("options", "equal"), [({"mlp_init": "zero"}, True), ({}, False)])
def test_start(options: Mapping[str, Any], equal: bool) -> None:
    """As published lambda of the MLP starts at Xavier values, not at the identity; `zero` starts at the backbone."""
    model, attached, _ = adapted(size=5, **options)
    assert torch.equal(model(DATA), attached(DATA)) == equal


def test_convolutions_take_the_adapter_without_shift() -> None:
    """Our extension: a 1x1 adapter in front of a convolution, exact at the border because it has no b."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, groups=6))
    attached = attach("arc", copy.deepcopy(model.double()), planned("arc", "svd50", model, size=4))
    assert {name.split(".")[-1] for name in fill(attached)} == {"u", "scales"}
    weight: Any = attached[1].parametrizations.weight[0]  # type: ignore[index]
    x = normal(2, 6, 5, 4)
    adapter = torch.eye(6, dtype=torch.float64) + (weight.u * weight.scales) @ weight.u.T
    agree(attached[1](x), model[1](functional.conv2d(x, adapter[:, :, None, None])))  # type: ignore[index]
    assert not hasattr(attached[2], "parametrizations")  # type: ignore[index]

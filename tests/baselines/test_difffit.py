"""DiffFit against a scale on the output of every residual branch."""

from __future__ import annotations

import copy

import torch
from torch import nn

from adaptsr.adaptation.reparametrization import trainable_count, trainable_parameters
from tests.baselines.helpers import DATA, SwinLike, agree, agree_in_gradient, attach, normal, planned, swin_like


def gammas(model: nn.Module) -> dict[str, nn.Parameter]:
    named = model.named_parameters(remove_duplicate=False)
    return {name: parameter for name, parameter in named if name.endswith("parametrizations.weight.0.gamma")}


def test_scale_on_the_branch_output() -> None:
    """x + gamma1 * attn(norm(x)), then x + gamma2 * mlp(norm(x)), in output and gradient."""
    model = swin_like().double()
    attached = attach("difffit", copy.deepcopy(model), planned("difffit", "gamma", model))
    found = gammas(attached)
    assert [name.split(".parametrizations")[0] for name in found] == [
        "layers.0.attn.proj",
        "layers.0.mlp.fc2",
        "layers.1.attn.proj",
        "layers.1.mlp.fc2",
    ]
    with torch.no_grad():
        for index, gamma in enumerate(found.values()):
            gamma.copy_(normal(8, seed=index))
    scales = [gamma.detach().clone().requires_grad_(True) for gamma in found.values()]

    def explicit(x: torch.Tensor) -> torch.Tensor:
        assert isinstance(model, SwinLike)
        features = model.conv_first(x)
        tokens = features.flatten(2).movedim(1, 2)
        for index, block in enumerate(model.layers):
            tokens = tokens + scales[2 * index] * block.attn(block.norm1(tokens))  # type: ignore[operator]
            tokens = tokens + scales[2 * index + 1] * block.mlp(block.norm2(tokens))  # type: ignore[operator]
        output: torch.Tensor = model.conv_last(features + tokens.movedim(2, 1).view_as(features))
        return output

    agree(attached(DATA), explicit(DATA))
    agree_in_gradient(attached(DATA), explicit(DATA), list(found.values()), scales)


def test_scale_on_a_convolutional_branch() -> None:
    """EDSR: gamma on the second convolution of a block scales what the branch adds."""
    block = nn.ModuleDict({"conv1": nn.Conv2d(6, 6, 3, padding=1), "conv2": nn.Conv2d(6, 6, 3, padding=1)})
    model = nn.ModuleDict({"body": nn.ModuleList([block])}).double()
    attached = attach("difffit", copy.deepcopy(model), planned("difffit", "gamma", model))
    (gamma,) = gammas(attached).values()
    with torch.no_grad():
        gamma.copy_(normal(6))
    x = normal(1, 6, 5, 5)
    explicit = gamma.view(1, -1, 1, 1) * model.get_submodule("body.0.conv2")(x)
    agree(attached.get_submodule("body.0.conv2")(x), explicit)


def test_published_form_trains_biases_and_norms() -> None:
    """Every bias of Linear and Conv2d and every normalisation parameter, chosen by type and not by name."""
    model = swin_like()
    model.relative_position_bias_table = nn.Parameter(torch.zeros(9))
    attached = attach("difffit", model, planned("difffit", "published", model))
    biases = 8 + 3 + 2 * (24 + 8 + 16 + 8)
    norms = 4 * 2 * 8
    assert trainable_count(attached) == biases + norms + 4 * 8
    assert "relative_position_bias_table" not in trainable_parameters(attached)
    assert "conv_first.bias" in trainable_parameters(attached)

"""RaSA against its formula, [B | B_pool] diag(d) [A ; A_pool]."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from adaptsr.adaptation.reparametrization import trainable_count, trainable_parameters
from tests.baselines.helpers import agree, agree_in_gradient, attach, normal, planned, swin_like


def adapted(**options: Any) -> tuple[nn.Module, nn.Module]:
    """A model and the same with RaSA attached, every factor random."""
    model = swin_like().double()
    attached = attach("rasa", copy.deepcopy(model), planned("rasa", "budget", model, **options))
    with torch.no_grad():
        for index, parameter in enumerate(trainable_parameters(attached).values()):
            parameter.copy_(normal(*parameter.shape, seed=index))
    return model, attached


def delta(model: nn.Module, site: str) -> Any:
    return model.get_submodule(site).parametrizations.weight[0]  # type: ignore[index,union-attr]


def test_explicit_formula() -> None:
    """A Linear adds x A^T diag(d) B^T over its own directions and over those of the pool, in output and gradient."""
    model, attached = adapted(rank=4, shared=1)
    layer, own = attached.get_submodule("layers.0.mlp.fc1"), delta(attached, "layers.0.mlp.fc1")
    x = normal(5, 8)
    private, pooled = own.d[:3], own.d[3:]
    assert pooled.shape == (2,)
    frozen = functional.linear(x, model.get_parameter("layers.0.mlp.fc1.weight"), layer.bias)  # type: ignore[arg-type]
    explicit = frozen + (x @ own.a.T * private) @ own.b.T + (x @ own.pool_a.T * pooled) @ own.pool_b.T
    agree(layer(x), explicit)
    agree_in_gradient(layer(x), explicit, [own.a, own.b, own.d, own.pool_a, own.pool_b])


def test_convolution_is_the_unfolded_matrix() -> None:
    """Our extension: the same product on loralib's (out k) x (in k) matrix of a kernel."""
    model, attached = adapted(rank=4, shared=1)
    own = delta(attached, "conv_first")
    matrix = torch.cat([own.b, own.pool_b], 1) @ torch.diag(own.d) @ torch.cat([own.a, own.pool_a])
    assert matrix.shape == (8 * 3, 3 * 3)
    weight = attached.get_submodule("conv_first").weight
    agree(weight - model.get_parameter("conv_first.weight"), matrix.reshape(8, 3, 3, 3))  # type: ignore[operator]


def test_pools_are_shared_within_a_group() -> None:
    """Layers of one name share across stages; of rank r each keeps r - k and all see the L k of the pool."""
    _, attached = adapted(rank=4, shared=1)
    first, second = delta(attached, "layers.0.attn.qkv"), delta(attached, "layers.1.attn.qkv")
    assert first.pool_a is second.pool_a
    assert first.a is not second.a
    assert delta(attached, "layers.0.attn.proj").pool_a is not first.pool_a
    assert first.pool_a.shape == (2, 8)
    linear = 2 * (4 * (8 + 24) + 4 * (8 + 8) + 2 * 4 * (8 + 16)) + 8 * (3 + 2)
    convolutions = 2 * 4 * 9 * (3 + 8) + 2 * 3 * 4
    assert trainable_count(attached) == linear + convolutions


def test_what_is_not_shared_and_the_scale_at_the_start_are_noted() -> None:
    """The demo's rank: 0.5 alpha / (r - k) = 4, LoRA's 1 / r = 0.5. With one stage, no layer has another of its name."""
    scale = "the scale of private ranks starts at 4, 8 times LoRA's 1/r at r = 2"
    assert planned("rasa", "budget", swin_like(), rank=2, shared=1).notes == [scale]
    alone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3))
    note = "no rank is shared on this backbone: each of its 2 sites is alone in its group"
    assert planned("rasa", "budget", alone, rank=2, shared=1).notes == [scale, note]


def test_weights_at_the_start() -> None:
    """d is 0.5 alpha over the number of own and of pooled directions."""
    model = swin_like()
    attached = attach("rasa", model, planned("rasa", "budget", model, rank=4, shared=1, alpha=6.0))
    assert delta(attached, "layers.0.mlp.fc1").d.tolist() == [1.0] * 3 + [1.5] * 2

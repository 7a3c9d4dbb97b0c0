"""Low-rank deltas: the same numbers as microsoft/LoRA, Hugging Face PEFT and the paper's two convolutions."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from adaptsr.adaptation.lora import (
    Factorization,
    LowRankDelta,
    attach_low_rank,
    cost_per_rank,
    factor_shapes,
    low_rank_product,
    plan_low_rank,
    scale_of,
    useful_rank,
)
from adaptsr.adaptation.reparametrization import freeze, reparametrize_weight, trainable_count, trainable_parameters
from adaptsr.backbones.sites import Site, find_sites
from tests.baselines.helpers import agree, agree_in_gradient, normal
from tests.factories import refusal

FACTORIZATIONS: list[Factorization] = ["loralib", "1x1-kxk", "kxk-1x1"]
DEFAULTS: dict[str, Any] = {
    "factorization": "loralib",
    "scaling": "alpha_over_r",
    "alpha": 1.0,
    "biases": True,
    "qkv": "fused",
}


def keyed(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_delta(
    layer: nn.Linear | nn.Conv2d, rank: int, factorization: Factorization, scale: float, splits: int = 1
) -> tuple[nn.Module, LowRankDelta]:
    """A copy of the layer with a delta whose two factors are both random."""
    adapted = copy.deepcopy(layer)
    freeze(adapted)
    delta = LowRankDelta(layer.weight.shape, rank, factorization, scale, keyed(), splits)
    reparametrize_weight(adapted, delta)
    with torch.no_grad():
        delta.b.copy_(normal(*delta.b.shape, seed=1))
    return adapted, delta


def same_numbers(
    x: torch.Tensor,
    adapted: nn.Module,
    delta: LowRankDelta,
    expected: Callable[[torch.Tensor], torch.Tensor],
    a: torch.Tensor,
    b: torch.Tensor,
) -> None:
    """The same output, and the same gradients of A and B."""
    agree(adapted(x), expected(x))
    agree_in_gradient(adapted(x), expected(x), (delta.a, delta.b), (a, b))


@pytest.mark.parametrize(
    ("name", "layer", "options", "shape"),
    [
        ("Linear", nn.Linear(10, 6), {}, (5, 10)),
        ("Conv2d", nn.Conv2d(4, 6, 3, 1, 1), {"kernel_size": 3, "padding": 1}, (2, 4, 9, 8)),
        ("Conv2d", nn.Conv2d(4, 6, 1), {"kernel_size": 1}, (2, 4, 9, 8)),
        ("Conv2d", nn.Conv2d(4, 6, 5, 2, 2), {"kernel_size": 5, "stride": 2, "padding": 2}, (2, 4, 9, 8)),
        # Three pairs of factors in the row slices of a fused qkv.
        ("MergedLinear", nn.Linear(8, 24), {"enable_lora": [True, True, True]}, (5, 8)),
    ],
)
def test_against_loralib(
    name: str, layer: nn.Linear | nn.Conv2d, options: dict[str, Any], shape: Sequence[int]
) -> None:
    """microsoft/LoRA with the same frozen weight, A and B: the same output, gradients and merged output."""
    loralib = pytest.importorskip("loralib")
    layer = layer.double()
    adapted, delta = with_delta(layer, 2, "loralib", 3 / 2, splits=3 if name == "MergedLinear" else 1)
    theirs = getattr(loralib, name)(shape[1], layer.weight.shape[0], r=2, lora_alpha=3, **options).double()
    frozen = getattr(theirs, "conv", theirs)
    with torch.no_grad():
        frozen.weight.copy_(layer.weight)
        frozen.bias.copy_(layer.bias)
        theirs.lora_A.copy_(delta.a.view_as(theirs.lora_A))
        theirs.lora_B.copy_(delta.b.view_as(theirs.lora_B))
    x = normal(*shape)
    same_numbers(x, adapted, delta, theirs, theirs.lora_A, theirs.lora_B)
    theirs.eval()  # merges
    agree(adapted(x), theirs(x))


@pytest.mark.parametrize("rank_stabilised", [False, True])
@pytest.mark.parametrize(
    "layer",
    [nn.Linear(10, 6), nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, (1, 3), stride=2)],
    ids=["linear", "3x3", "1x1", "1x3"],
)
def test_against_peft(layer: nn.Linear | nn.Conv2d, rank_stabilised: bool) -> None:
    """Hugging Face PEFT with the same frozen weight, A and B: the same output, gradients and merged weight."""
    peft = pytest.importorskip("peft")
    layer = layer.double()
    scale = scale_of("rank_stabilised" if rank_stabilised else "alpha_over_r", 3, 4)
    adapted, delta = with_delta(layer, 4, "kxk-1x1", scale)
    config = peft.LoraConfig(r=4, lora_alpha=3, target_modules=["0"], use_rslora=rank_stabilised)
    theirs = peft.inject_adapter_in_model(config, nn.Sequential(copy.deepcopy(layer)))
    a, b = (getattr(theirs[0], name)["default"].weight for name in ("lora_A", "lora_B"))
    with torch.no_grad():
        a.copy_(delta.a)
        b.copy_(delta.b.view_as(b))
    x = normal(5, 10) if isinstance(layer, nn.Linear) else normal(2, 4, 7, 7)
    same_numbers(x, adapted, delta, theirs, a, b)
    theirs[0].merge()
    agree(adapted.weight, theirs[0].get_base_layer().weight)


@pytest.mark.parametrize(("size", "stride"), [((3, 3), 1), ((3, 3), 2), ((5, 1), 1)])
def test_1x1_kxk_is_two_convolutions(size: tuple[int, int], stride: int) -> None:
    """The paper's Eq. 2, y = W * x + (alpha / r) B * (A * x), with a 1x1 A before a kxk B, borders included."""
    padding = (size[0] // 2, size[1] // 2)
    layer = nn.Conv2d(4, 6, size, stride, padding).double()
    adapted, delta = with_delta(layer, 2, "1x1-kxk", 0.5)

    def explicit(x: torch.Tensor) -> torch.Tensor:
        inner = functional.conv2d(x, delta.a[:, :, None, None])
        output: torch.Tensor = layer(x) + 0.5 * functional.conv2d(inner, delta.b, None, stride, padding)
        return output

    same_numbers(normal(2, 4, 9, 8), adapted, delta, explicit, delta.a, delta.b)


def test_scaling() -> None:
    """alpha / r, alpha / sqrt r and alpha; the delta is linear in it."""
    assert scale_of("alpha_over_r", 2, 8) == 0.25
    assert scale_of("rank_stabilised", 2, 16) == 0.5
    assert scale_of("constant", 0.125, 16) == 0.125
    layer = nn.Linear(5, 4).double()
    single, double = (with_delta(layer, 2, "loralib", scale)[0] for scale in (0.5, 1.0))
    agree(2 * (single.weight - layer.weight), double.weight - layer.weight)  # type: ignore[operator]


@pytest.mark.parametrize("factorization", FACTORIZATIONS)
@pytest.mark.parametrize("shape", [(24, 48), (24, 16, 3, 3)], ids=["linear", "conv"])
def test_initialisation(shape: Sequence[int], factorization: Factorization) -> None:
    """A is Kaiming uniform with a = sqrt 5, U(+-1 / sqrt fan_in), of its own shape; B is zero."""
    delta = LowRankDelta(shape, 16, factorization, 1.0, keyed())
    bound = 1 / math.sqrt(nn.init._calculate_fan_in_and_fan_out(delta.a.detach())[0])
    assert 0.98 * bound < delta.a.abs().max() <= bound
    assert delta.a.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert not delta.b.any()


@pytest.mark.parametrize(
    ("factorization", "by_output", "by_input"),
    [("loralib", 72, 180), ("1x1-kxk", 72, 8), ("kxk-1x1", 8, 72)],
)
def test_ranks_of_the_three_factorizations(factorization: Factorization, by_output: int, by_input: int) -> None:
    """Rank of a 180 -> 180 kernel of r = 8 unfolded over outputs and over inputs; per tap the rank is at most 72."""
    a_shape, b_shape = factor_shapes((180, 180, 3, 3), 8, factorization)
    kernel = low_rank_product(normal(*b_shape, seed=1), normal(*a_shape), (180, 180, 3, 3))
    assert torch.linalg.matrix_rank(kernel.flatten(1)) == by_output
    assert torch.linalg.matrix_rank(kernel.movedim(1, 0).flatten(1)) == by_input
    assert torch.linalg.matrix_rank(kernel[:, :, 0, 0]) == (72 if factorization == "loralib" else 8)


def test_factor_shapes() -> None:
    """Those of the libraries, for a 3x3 kernel 4 -> 6 at r = 2, and for a depthwise one."""
    assert factor_shapes((6, 4, 3, 3), 2, "loralib") == ((6, 12), (18, 6))
    assert factor_shapes((6, 4, 3, 3), 2, "1x1-kxk") == ((2, 4), (6, 2, 3, 3))
    assert factor_shapes((6, 4, 3, 3), 2, "kxk-1x1") == ((2, 4, 3, 3), (6, 2))
    assert factor_shapes((9, 1, 3, 3), 1, "loralib", groups=9) == ((3, 27), (3, 3))
    assert factor_shapes((6, 4), 2, "kxk-1x1") == ((2, 4), (6, 2))


shapes = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
)


def site_of(shape: Sequence[int], name: str = "layer") -> Site:
    return Site(name, "mlp" if len(shape) == 2 else "conv", tuple(shape), 1, True, False)


def unfolded(kernel: torch.Tensor, factorization: Factorization) -> torch.Tensor:
    """The matrix whose rank the factorization bounds."""
    if kernel.dim() == 2:
        return kernel
    out, inner, height, width = kernel.shape
    if factorization == "loralib":
        return kernel.reshape(out * height, inner * width)
    return kernel.movedim(1, 0).flatten(1) if factorization == "1x1-kxk" else kernel.flatten(1)


@settings(deadline=None, max_examples=60)
@given(shape=shapes, factorization=st.sampled_from(FACTORIZATIONS), rank=st.integers(1, 8))
def test_cost_and_useful_rank(shape: Sequence[int], factorization: Factorization, rank: int) -> None:
    """A unit of rank costs what the factors hold, and from the useful rank on the delta has full rank, not before."""
    site = site_of(shape)
    delta = LowRankDelta(shape, rank, factorization, 1.0, keyed())
    assert delta.a.numel() + delta.b.numel() == rank * cost_per_rank(site, factorization)

    def rank_of_delta(r: int) -> int:
        a_shape, b_shape = factor_shapes(shape, r, factorization)
        kernel = low_rank_product(normal(*b_shape, seed=1), normal(*a_shape), shape)
        assert kernel.shape == torch.Size(shape)
        return int(torch.linalg.matrix_rank(unfolded(kernel, factorization)))

    useful = useful_rank(site, factorization)
    full = min(unfolded(torch.zeros(tuple(shape)), factorization).shape)
    assert rank_of_delta(useful) == full
    if useful > 1:
        assert rank_of_delta(useful - 1) < full


class TestPlan:
    """The rank map becomes deltas at its sites and nothing else."""

    def attach(self, ranks: dict[str, int], **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        layers = {"conv": nn.Conv2d(3, 8, 3), "qkv": nn.Linear(8, 24), "fc1": nn.Linear(8, 16, bias=False)}
        model = nn.ModuleDict(layers)
        plan = plan_low_rank(find_sites(model), ranks, {**DEFAULTS, **options}, seed=3)
        freeze(model)
        attach_low_rank(model, plan)
        return model, plan.settings

    @pytest.mark.parametrize(
        ("ranks", "options", "trained"),
        [
            # Rank 0 prunes: there is no delta, and the bias stays frozen.
            ((0, 2, 0), {}, 2 * (8 + 24) + 24),
            # fc1 has no bias to train.
            ((1, 1, 1), {}, (9 * (3 + 8) + 8) + (8 + 24 + 24) + (8 + 16)),
            ((1, 1, 1), {"biases": False}, 9 * (3 + 8) + (8 + 24) + (8 + 16)),
            # Three pairs of factors.
            ((0, 2, 0), {"qkv": "separate", "biases": False}, 2 * 3 * (8 + 8)),
        ],
    )
    def test_what_trains(self, ranks: Sequence[int], options: dict[str, Any], trained: int) -> None:
        by_site = dict(zip(("conv", "qkv", "fc1"), ranks, strict=True))
        model, plan = self.attach(by_site, **options)
        assert plan["ranks"] == by_site
        assert {name.split(".")[0] for name in trainable_parameters(model)} == {n for n, r in by_site.items() if r}
        assert trainable_count(model) == trained

    def test_ranks_above_use_are_named(self) -> None:
        """Uniform ranks are never capped; the plan says where they exceed what a layer can use."""
        _, plan = self.attach({"conv": 4, "qkv": 4, "fc1": 4})
        assert plan["above_useful_rank"] == ["conv"]
        assert plan["ranks"]["conv"] == 4

    def test_sites_have_factors_of_their_own(self) -> None:
        """Factors are keyed by seed and site: adding a site changes no other's."""
        both, _ = self.attach({"conv": 1, "qkv": 2, "fc1": 2})
        alone, _ = self.attach({"conv": 0, "qkv": 2, "fc1": 0})
        name = "qkv.parametrizations.weight.0.a"
        assert torch.equal(both.get_parameter(name), alone.get_parameter(name))
        other = both.get_parameter("fc1.parametrizations.weight.0.a")
        assert not torch.equal(both.get_parameter(name), other)

    @pytest.mark.parametrize(
        ("option", "value", "expected"),
        [("factorization", "peft", "kxk-1x1"), ("scaling", "alpha", "alpha_over_r"), ("qkv", "split", "separate")],
    )
    def test_unknown_option(self, option: str, value: str, expected: str) -> None:
        """One line that names the option, the value and what there is."""
        said = refusal(lambda: self.attach({"conv": 1, "qkv": 1, "fc1": 1}, **{option: value}))
        assert re.match(rf"{option}: '{value}' is unknown; there are .*{expected}", said)

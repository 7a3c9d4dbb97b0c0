"""Low-rank deltas of Linear and Conv2d weights.

There are three factorizations of a convolution's delta, with different parameter counts and ranks:

`loralib`  A (r k, i k), B (o k, r k): the product viewed as the kernel, as microsoft/LoRA does; the paper's counts
`1x1-kxk`  A (r, i), B (o, r, k, k): a 1x1 convolution, then the k x k one; the paper's text (Eq. 2)
`kxk-1x1`  A (r, i, k, k), B (o, r): the k x k convolution, then a 1x1 one; Hugging Face PEFT

A Linear has one: A (r, i), B (o, r) (Hu et al., ICLR 2022). For a 1x1 convolution all of these agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from adaptsr import randomness
from adaptsr.adaptation.reparametrization import Plan, reparametrize_weight
from adaptsr.backbones.sites import Site
from adaptsr.errors import UserError

Factorization = Literal["loralib", "1x1-kxk", "kxk-1x1"]
Scaling = Literal["alpha_over_r", "rank_stabilised", "constant"]


def factor_shapes(
    shape: Sequence[int], rank: int, factorization: Factorization, groups: int = 1
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of A and B for a weight of this shape."""
    out, inner = shape[0], shape[1] * groups
    if len(shape) == 2:
        return (rank, inner), (out, rank)
    height, width = shape[2:]
    if factorization == "loralib":
        return (rank * height, inner * width), (out // groups * height, rank * height)
    if factorization == "1x1-kxk":
        return (rank, inner), (out, rank, height, width)
    return (rank, inner, height, width), (out, rank)


def low_rank_product(b: torch.Tensor, a: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return B A as a weight of this shape; the factors' shapes tell the factorization."""
    if b.dim() == 4:
        return torch.einsum("orhw,ri->oihw", b, a)
    return (b @ a.flatten(1)).view(tuple(shape))


def cost_per_rank(site: Site, factorization: Factorization, qkv: str = "fused") -> int:
    """Return the trainable parameters that one unit of rank costs at a site, without biases."""
    a, b = factor_shapes(site.shape, 1, factorization, site.groups)
    splits = _splits(site, qkv)
    return splits * math.prod(a) + math.prod(b)


def scale_of(scaling: Scaling, alpha: float, rank: int) -> float:
    """Return the factor of B A: alpha / r, alpha / sqrt(r) (rsLoRA), or alpha itself."""
    return {"alpha_over_r": alpha / rank, "rank_stabilised": alpha / math.sqrt(rank), "constant": alpha}[scaling]


class LowRankDelta(nn.Module):
    """W -> W + s B A (Eq. 1 of the paper). A starts as in loralib and PEFT (Kaiming uniform, a = sqrt 5), B at zero.

    With `splits` = 3, the q, k and v rows of a fused qkv weight each get their own pair of factors.
    """

    def __init__(
        self,
        shape: Sequence[int],
        rank: int,
        factorization: Factorization,
        scale: float,
        generator: torch.Generator,
        splits: int = 1,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.splits = splits
        self.shape = (shape[0] // splits, *shape[1:])
        a_shape, b_shape = factor_shapes(self.shape, rank, factorization)
        bound = 1 / math.sqrt(math.prod(a_shape[1:]))
        a = torch.empty(splits, *a_shape).uniform_(-bound, bound, generator=generator)
        self.a = nn.Parameter(a if splits > 1 else a[0])
        self.b = nn.Parameter(torch.zeros(splits, *b_shape) if splits > 1 else torch.zeros(b_shape))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if self.splits == 1:
            return weight + self.scale * low_rank_product(self.b, self.a, self.shape)
        parts = [low_rank_product(b, a, self.shape) for b, a in zip(self.b, self.a, strict=True)]
        return weight + self.scale * torch.cat(parts)


def plan_low_rank(sites: Sequence[Site], ranks: Mapping[str, int], options: Mapping[str, Any], seed: int) -> Plan:
    """Return the plan of a LoRA baseline: the rank map and the form of the factors.

    `options` holds factorization, scaling, alpha, biases and qkv; `baselines/lora.py` documents them. Raises
    `UserError` for an unknown value.
    """
    check_options(options["factorization"], options["scaling"], options["qkv"])
    adapted = [site for site in sites if ranks[site.name] > 0]
    return Plan(
        {
            "ranks": dict(ranks),
            "sites": {
                site.name: {"shape": list(site.shape), "splits": _splits(site, options["qkv"])} for site in adapted
            },
            "above_useful_rank": [
                site.name for site in adapted if ranks[site.name] > useful_rank(site, options["factorization"])
            ],
            **{key: options[key] for key in ("factorization", "scaling", "alpha", "biases")},
            "seed": seed,
        }
    )


def attach_low_rank(model: nn.Module, plan: Plan) -> None:
    """Attach a low-rank delta to every site of the plan; sites of rank 0 stay frozen, bias included."""
    settings = plan.settings
    for name, site in settings["sites"].items():
        rank = settings["ranks"][name]
        scale = scale_of(settings["scaling"], settings["alpha"], rank)
        generator = randomness.generator(settings["seed"], "init", name)
        layer = model.get_submodule(name)
        reparametrize_weight(
            layer, LowRankDelta(site["shape"], rank, settings["factorization"], scale, generator, site["splits"])
        )
        if settings["biases"] and isinstance(layer.bias, nn.Parameter):
            layer.bias.requires_grad_(True)


def useful_rank(site: Site, factorization: Factorization) -> int:
    """Return the rank at which B A can be any delta: more adds parameters but no freedom."""
    if site.is_linear:
        return min(site.shape)
    out, inner, height, width = site.shape
    if factorization == "loralib":
        return min(out, math.ceil(inner * width / height))
    if factorization == "1x1-kxk":
        return min(inner, out * height * width)
    return min(out, inner * height * width)


def _splits(site: Site, qkv: str) -> int:
    return 3 if qkv == "separate" and site.is_linear and site.role in ("qkv", "to_qkv") else 1


def check_options(factorization: str, scaling: str, qkv: str) -> None:
    """Check these options. Raises `UserError` for an unknown value."""
    for name, value, allowed in (
        ("factorization", factorization, get_args(Factorization)),
        ("scaling", scaling, get_args(Scaling)),
        ("qkv", qkv, ("fused", "separate")),
    ):
        if value not in allowed:
            raise UserError(f"{name}: {value!r} is unknown; there are {', '.join(allowed)}")

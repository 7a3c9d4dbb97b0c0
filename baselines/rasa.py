"""RaSA (He et al., ICLR 2025): LoRA whose layers of one shape share a part of their ranks.

Each layer keeps r - k of its r ranks and gives k to a pool; all L layers of a group use the pool's L k directions,
weighted by their own diagonal: dW = [B | B_pool] diag(d) [A ; A_pool].
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adaptsr import randomness
from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.lora import factor_shapes, low_rank_product
from adaptsr.adaptation.reparametrization import Plan, reparametrize_weight, sharing_notes
from adaptsr.backbones.sites import Site, select
from adaptsr.errors import UserError

TITLE = "RaSA (r = {rank}, k = {shared})"
TRAINS = "A, B and a diagonal per layer; the pools that layers share"
OPTIONS = {
    "rank": 8,
    "shared": 1,  # k, the ranks that each layer gives to the pool
    "alpha": 8.0,
    "grouping": "stage",  # pool layers of the same name in all stages, as the authors' code does; or `shape`
    "upsampling": False,
}
VARIANTS = {
    "paper": {"rank": 64, "shared": 8, "upsampling": True},
    "budget": {"rank": 8, "shared": 1},
    "budget-shape": {"rank": 8, "shared": 1, "grouping": "shape", "title": "RaSA (r = 8, k = 1, pooled by shape)"},
}
ROWS = ["paper", "budget"]
PROTOCOL = 1
EXTENSIONS = {"conv": "RaSA is defined for linear layers; on convolutions' unfolded kernels it is our extension"}


class SharedRankDelta(nn.Module):
    """W -> W + [B | B_pool] diag(d) [A ; A_pool], viewed as the weight."""

    def __init__(
        self, a: torch.Tensor, b: torch.Tensor, d: torch.Tensor, pool: tuple[nn.Parameter, nn.Parameter]
    ) -> None:
        super().__init__()
        self.a = nn.Parameter(a)
        self.b = nn.Parameter(b)
        self.d = nn.Parameter(d)
        self.pool_a, self.pool_b = pool

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        left = torch.cat([self.b, self.pool_b], dim=1) * self.d
        return weight + low_rank_product(left, torch.cat([self.a, self.pool_a]), weight.shape)


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    rank, shared = options["rank"], options["shared"]
    if not 0 < shared < rank:
        raise UserError(f"rasa: shared: expected k between 1 and rank - 1 = {rank - 1}, found {shared}")
    if options["grouping"] not in ("stage", "shape"):
        raise UserError(f"rasa: grouping: {options['grouping']!r} is unknown; there are stage, shape")
    chosen = select(sites, upsampling=options["upsampling"])
    groups = {site.name: _group(site, options["grouping"]) for site in chosen}
    shapes = {site.name: list(site.shape) for site in chosen}
    settings = {
        "rank": rank,
        "shared": shared,
        "alpha": options["alpha"],
        "groups": groups,
        "shapes": shapes,
        "seed": seed,
        "notes": [_scale_note(rank, shared, options["alpha"]), *sharing_notes(groups, "rank")],
    }
    return Plan(settings)


def _scale_note(rank: int, shared: int, alpha: float) -> str:
    """Compare the scale of the private ranks at the start with LoRA's alpha / r, for alpha = 1."""
    scale = 0.5 * alpha / (rank - shared)
    return f"the scale of private ranks starts at {scale:.3g}, {scale * rank:.3g} times LoRA's 1/r at r = {rank}"


def _group(site: Site, grouping: str) -> str:
    shape = "x".join(map(str, site.shape))
    if grouping == "shape":
        return f"{site.kind} {shape}"
    return re.sub(r"^([a-z_]+)[.][0-9]+[.]", r"\1.*.", site.name) + f" {shape}"


def attach(model: nn.Module, plan: Plan) -> None:
    settings = plan.settings
    seed, private, shared = settings["seed"], settings["rank"] - settings["shared"], settings["shared"]
    groups: dict[str, str] = settings["groups"]
    pools: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
    for name, group in groups.items():
        shape = settings["shapes"][name]
        pooled = list(groups.values()).count(group) * shared
        if group not in pools:
            a, b = _factors(shape, pooled, randomness.generator(seed, "init", "pool", group))
            pools[group] = (nn.Parameter(a), nn.Parameter(b))
        a, b = _factors(shape, private, randomness.generator(seed, "init", name))
        own_share = torch.full((a.shape[0],), 0.5 * settings["alpha"] / private)
        pool_share = torch.full((pools[group][0].shape[0],), 0.5 * settings["alpha"] / pooled)
        delta = SharedRankDelta(a, b, torch.cat([own_share, pool_share]), pools[group])
        reparametrize_weight(model.get_submodule(name), delta)


def _factors(shape: Sequence[int], rank: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw A as LoRA does and set B to zero; unfold a convolution's kernel as microsoft/LoRA does."""
    a_shape, b_shape = factor_shapes(shape, rank, "loralib")
    bound = 1 / math.sqrt(a_shape[1])
    return torch.empty(a_shape).uniform_(-bound, bound, generator=generator), torch.zeros(b_shape)

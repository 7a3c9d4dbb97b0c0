"""ARC, adapter re-composing (Dong et al., NeurIPS 2023): one projection U shared by sites, re-scaled at each.

In front of a layer, x -> x + (x U diag(lambda)) U^T + b equals W -> W (I + U diag(lambda) U^T), bias -> bias + W b, so
the placement of the authors' ViT code, before qkv and the MLP's first layer, merges exactly. Each stage and width has
one U. Their dropout inside the adapter (0.1, on Swin 0.5) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adaptsr import randomness
from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.reparametrization import (
    Plan,
    original_weight,
    reparametrize_bias,
    reparametrize_weight,
    sharing_notes,
)
from adaptsr.backbones.sites import Site, select
from adaptsr.errors import UserError

TITLE = "ARC (svd{size})"
TRAINS = "U per stage and width; lambda and b per layer"
OPTIONS = {
    "size": 50,  # columns of U, `svd_dim` in the authors' code
    "mlp_init": "xavier",  # start of lambda before the MLP: xavier as published, or zero (identity)
}
VARIANTS = {
    "svd50": {"size": 50},
    "svd100": {"size": 100},
    "svd350": {"size": 350},
    "svd375": {"size": 375},
    "svd400": {"size": 400},
    "svd500": {"size": 500},
    "svd50-zero": {"size": 50, "mlp_init": "zero", "title": "ARC (svd50, identity at the start)"},
}
ROWS = ["svd50", "svd100", "svd350", "svd375", "svd400", "svd500"]
PROTOCOL = 1
EXTENSIONS = {
    "conv": "ARC is defined for attention and MLP layers; on convolutions this is our extension: the same re-scaling in "
    "front of every dense convolution, without b, which zero padding would make wrong at the border"
}
# In front of the MLP lambda starts at Xavier values, as published.
STARTS_AT_BACKBONE = False
U = "projection U (the input directions that layers re-scale)"
OUTPUT_ROLES = ("proj", "to_out", "out_proj", "fc2")


class RecomposedWeight(nn.Module):
    """W -> W (I + U diag(lambda) U^T) over the input dimension of a (out, in) or (out, in, k, k) weight."""

    def __init__(self, u: nn.Parameter, initial: torch.Tensor) -> None:
        super().__init__()
        self.u = u
        self.scales = nn.Parameter(initial)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        last = weight.movedim(1, -1)
        return weight + (((last @ self.u) * self.scales) @ self.u.T).movedim(-1, 1)


class RecomposedBias(nn.Module):
    """bias -> bias + W b, with the frozen W."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = (layer,)  # a tuple hides the layer from nn.Module, which would otherwise contain itself
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, bias: torch.Tensor) -> torch.Tensor:
        return bias + original_weight(self.layer[0]) @ self.shift


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    if options["mlp_init"] not in ("xavier", "zero"):
        raise UserError(f"arc: mlp_init: {options['mlp_init']!r} is unknown; there are xavier, zero")
    inputs = [site for site in select(sites, ["attention", "mlp"]) if site.role not in OUTPUT_ROLES]
    chosen = inputs or select(sites, ["conv"])
    placed = {
        site.name: {
            "share": _share(site),
            "width": site.in_features,
            "mlp": site.kind == "mlp",
            "shift": site.is_linear,
        }
        for site in chosen
    }
    settings = {"size": options["size"], "mlp_init": options["mlp_init"], "sites": placed, "seed": seed}
    return Plan({**settings, "notes": sharing_notes({site.name: _share(site) for site in chosen}, U)})


def _share(site: Site) -> str:
    """Return the key of a site's U: sites of one stage, kind and width share it; a CNN counts as one stage."""
    stage = site.stage if site.is_linear else "all"
    return f"{stage} {site.kind} {site.in_features}"


def attach(model: nn.Module, plan: Plan) -> None:
    size, seed = plan.settings["size"], plan.settings["seed"]
    shared: dict[str, nn.Parameter] = {}
    for name, placed in plan.settings["sites"].items():
        width, share = placed["width"], placed["share"]
        if share not in shared:
            shared[share] = nn.Parameter(_xavier(width, size, randomness.generator(seed, "init", "u", share)))
        xavier = placed["mlp"] and plan.settings["mlp_init"] == "xavier"
        initial = _xavier(1, size, randomness.generator(seed, "init", name))[0] if xavier else torch.zeros(size)
        layer = model.get_submodule(name)
        reparametrize_weight(layer, RecomposedWeight(shared[share], initial))
        if placed["shift"]:
            reparametrize_bias(layer, RecomposedBias(layer, width))


def _xavier(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    bound = math.sqrt(6 / (rows + columns))
    return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)

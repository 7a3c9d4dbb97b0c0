"""DoRA, a magnitude and a low-rank direction for each weight (Liu et al., ICML 2024, arXiv 2402.09353).

The norm is that of an output row, or of a convolution's filter, and counts as a constant in the gradient, as in Hugging Face PEFT;
`kxk-1x1` without biases is PEFT's form. The default is LoRA's form here, so that only the magnitudes differ from a LoRA of this rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.lora import attach_low_rank, plan_low_rank
from adaptsr.adaptation.reparametrization import Plan, original_weight, reparametrize_weight
from adaptsr.backbones.sites import Site, select

TITLE = "DoRA, r = {rank}"
TRAINS = "A and B of every site, the norms of its filters, biases of the adapted layers"
OPTIONS = {"rank": 8, "factorization": "loralib", "scaling": "alpha_over_r", "alpha": 1.0, "biases": True}
VARIANTS: dict[str, dict[str, Any]] = {"r8": {}}
ROWS: list[str] = []
PROTOCOL = 1


class Magnitude(nn.Module):
    """V -> m V / |V|, row by row. m starts at |W|."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.m = nn.Parameter(weight.flatten(1).norm(dim=1))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        norm = weight.detach().flatten(1).norm(dim=1).clamp_min(torch.finfo(weight.dtype).tiny)
        moved: torch.Tensor = (self.m / norm).view(-1, *[1] * (weight.dim() - 1)) * weight
        return moved


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    chosen = select(sites)
    return plan_low_rank(chosen, {site.name: options["rank"] for site in chosen}, {**options, "qkv": "fused"}, seed)


def attach(model: nn.Module, plan: Plan) -> None:
    attach_low_rank(model, plan)
    for name in plan.settings["sites"]:
        layer = model.get_submodule(name)
        reparametrize_weight(layer, Magnitude(original_weight(layer)))

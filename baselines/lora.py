"""LoRA with one rank at every site (Hu et al., ICLR 2022), on Linear and Conv2d layers.

The defaults give the paper's parameter counts: microsoft/LoRA's convolution, fused qkv, trained biases of the adapted
layers. Layers that feed a pixel shuffle and grouped convolutions stay frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.lora import attach_low_rank, plan_low_rank
from adaptsr.adaptation.reparametrization import Plan
from adaptsr.backbones.sites import Site, select

TITLE = "LoRA, r = {rank}"
TRAINS = "A and B of every site, biases of the adapted layers"
OPTIONS = {
    "rank": 8,
    "factorization": "loralib",  # of a convolution's delta: loralib, 1x1-kxk (the paper's Eq. 2), kxk-1x1 (PEFT)
    "scaling": "alpha_over_r",  # alpha_over_r, rank_stabilised (alpha / sqrt r) or constant (alpha)
    "alpha": 1.0,
    "biases": True,  # train the biases of the adapted layers
    "b_rate": 1.0,  # learning rate of B, as a multiple of that of the rest
    "qkv": "fused",  # one pair of factors for a fused qkv layer, or `separate` ones for q, k and v
    "upsampling": False,  # adapt layers that feed a pixel shuffle
    "kinds": ["conv", "attention", "mlp"],
}
VARIANTS = {
    "r1": {"rank": 1},
    "r2": {"rank": 2},
    "r4": {"rank": 4},
    "r8": {"rank": 8},
    "r16": {"rank": 16},
    "r64": {"rank": 64},
    # An alias of r8 for the paper's 886k row.
    "r8-paper": {"rank": 8, "title": "LoRA, r = 8 (the paper's)"},
    # Table 4: r = 32 without biases explains all three of its LoRA counts.
    "table4-conv": {"rank": 32, "biases": False, "kinds": ["conv"], "title": "LoRA, r = 32, convolutions"},
    "table4-mlp": {"rank": 32, "biases": False, "kinds": ["mlp"], "title": "LoRA, r = 32, MLPs"},
    "table4-attention": {"rank": 32, "biases": False, "kinds": ["attention"], "title": "LoRA, r = 32, attention"},
    # Other readings of the paper, all at r = 8.
    "r8-1x1-kxk": {"factorization": "1x1-kxk", "title": "LoRA, r = 8, 1x1 to kxk"},
    "r8-kxk-1x1": {"factorization": "kxk-1x1", "title": "LoRA, r = 8, kxk to 1x1"},
    "r8-nobias": {"biases": False, "title": "LoRA, r = 8, no biases"},
    "r8-separate-qkv": {"qkv": "separate", "title": "LoRA, r = 8, separate q, k, v"},
    "r8-upsampling": {"upsampling": True, "title": "LoRA, r = 8, upsampling too"},
    "r8-constant": {"scaling": "constant", "alpha": 0.125, "title": "LoRA, r = 8, constant scale 1/8"},
    "r8-rank-stabilised": {"scaling": "rank_stabilised", "title": "LoRA, r = 8, rank-stabilised"},
    # LoRA+ (Hayou et al., ICML 2024, arXiv 2402.12354): a larger rate for B; 16 is the ratio of the authors' code.
    "r8-plus": {"b_rate": 16.0, "title": "LoRA+, r = 8"},
}
RECIPE = {"groups": {"*.b": {"lr": "{b_rate}"}}}
ROWS = ["r1", "r4", "r8", "r16", "r64"]
PROTOCOL = 1


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    chosen = select(sites, options["kinds"], upsampling=options["upsampling"])
    return plan_low_rank(chosen, {site.name: options["rank"] for site in chosen}, options, seed)


def attach(model: nn.Module, plan: Plan) -> None:
    attach_low_rank(model, plan)

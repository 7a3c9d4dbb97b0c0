"""CoLoRA, ranks by the contribution of layers (Park et al., ECCV 2024, arXiv 2408.01099), on LoRA's form.

Known: a layer's share of trained parameters follows its contribution, by FAIG (Xie et al., NeurIPS 2021; github.com/TencentARC/FAIG):
the sum of |W1 - W0| times the absolute mean of dL/dW on the line from W0, before fine-tuning, to W1, after it. OPEN: how shares follow
(by two factors there): here in proportion, at a budget. W1: here after `steps` of Adam. L: here the objective, in FAIG a squared error.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adaptsr.adaptation.allocation import Calibration, allocate, loss_of, mean_gradients
from adaptsr.adaptation.lora import attach_low_rank, cost_per_rank, plan_low_rank
from adaptsr.adaptation.reparametrization import Plan, original_weight
from adaptsr.backbones.sites import Site, select

TRAINS = "A and B of the sites, biases of the adapted layers"
OPTIONS = {"budget": "lora/r8", "steps": 50, "lr": 2e-4, "points": 10}
VARIANTS: dict[str, dict[str, Any]] = {"r8": {"title": "CoLoRA"}}
ROWS: list[str] = []
PROTOCOL = 1
FORM = {"factorization": "loralib", "scaling": "alpha_over_r", "alpha": 1.0, "biases": True, "qkv": "fused"}


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    chosen = select(sites)
    costs = {site.name: (cost_per_rank(site, "loralib"), site.out_features * site.bias) for site in chosen}
    scores = contributions(copy.deepcopy(backbone), chosen, options, calibration)
    spent = lambda name, rank: rank * costs[name][0] + costs[name][1]  # noqa: E731
    ranks = allocate(scores, spent, int(options["budget"]), 1, 64, "proportional")
    return plan_low_rank(chosen, ranks, FORM, seed)


def contributions(
    model: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration
) -> dict[str, float]:
    weights = {site.name: original_weight(model.get_submodule(site.name)) for site in sites}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    adam = torch.optim.Adam(weights.values(), lr=options["lr"])
    for step in range(options["steps"]):
        for name, gradient in mean_gradients(model, sites, [calibration(step)], loss_of(calibration)).items():
            weights[name].grad = gradient
        adam.step()
    change = {name: weight - before[name] for name, weight in weights.items()}
    total: dict[str, Any] = dict.fromkeys(weights, 0.0)
    for point in range(options["points"]):
        for name, weight in weights.items():
            weight.copy_(before[name] + (1 - point / options["points"]) * change[name])
        for name, gradient in mean_gradients(model, sites, [calibration(0)], loss_of(calibration)).items():
            total[name] += gradient / options["points"]
    return {name: float((total[name] * change[name]).abs().sum()) for name in total}


def attach(model: nn.Module, plan: Plan) -> None:
    attach_low_rank(model, plan)

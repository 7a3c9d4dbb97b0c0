"""Full fine-tuning: every parameter of the backbone trains (the paper's reference; Table 4 restricts it to one kind of site)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.reparametrization import Plan, train_statistics
from adaptsr.backbones.sites import Site, select

TITLE = "Full fine-tuning ({sites})"
TRAINS = "every parameter, or the weights and biases of one kind of site"
OPTIONS = {
    "sites": "all",  # `all` parameters of the backbone, or sites of one kind: conv, mlp, attention
    "biases": True,  # whether the biases of those sites train too; the paper's counts fit both
}
VARIANTS = {
    "all": {"title": "Full fine-tuning"},
    "conv": {"sites": "conv"},
    "mlp": {"sites": "mlp"},
    "attention": {"sites": "attention"},
    "conv-nobias": {"sites": "conv", "biases": False, "title": "Full fine-tuning (conv, no biases)"},
    "mlp-nobias": {"sites": "mlp", "biases": False, "title": "Full fine-tuning (mlp, no biases)"},
    "attention-nobias": {"sites": "attention", "biases": False, "title": "Full fine-tuning (attention, no biases)"},
}
ROWS = ["all"]
TRAINS_ALL = True
PROTOCOL = 1


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    chosen = [] if options["sites"] == "all" else [site.name for site in select(sites, [options["sites"]])]
    return Plan({"sites": chosen, "all": options["sites"] == "all", "biases": options["biases"]})


def attach(model: nn.Module, plan: Plan) -> None:
    if plan.settings["all"]:
        model.requires_grad_(True)
        train_statistics(model)
        return
    for name in plan.settings["sites"]:
        layer = model.get_submodule(name)
        layer.weight.requires_grad_(True)
        if plan.settings["biases"] and isinstance(layer.bias, nn.Parameter):
            layer.bias.requires_grad_(True)

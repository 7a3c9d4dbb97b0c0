"""DiffFit (Xie et al., ICCV 2023): biases, normalisation and a scale gamma on every residual branch's output.

gamma on a branch's output scales the rows of its last layer: W -> diag(gamma) W, b -> gamma b. The AdaptSR paper's 13k
counts gamma alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.reparametrization import Plan, original_weight, reparametrize_bias, reparametrize_weight
from adaptsr.backbones.branches import branch_ends
from adaptsr.backbones.sites import Site
from adaptsr.errors import UserError

TITLE = "DiffFit ({form})"
TRAINS = "gamma per residual branch; all biases and normalisation unless gamma only"
OPTIONS = {
    "form": "published",  # biases, norms and gamma, or `gamma` alone
    # The last layers of residual branches, as patterns of site names: attention and MLP of a transformer block, the
    # second convolution of a residual block (EDSR), the feed-forward part of SAFMN. SAFMN's other branch ends in a product
    # after a non-linearity, into which gamma cannot be merged. Where none of them matches, the ends are found in the
    # backbone's graph: the layers whose output is added to what their branch started from.
    "branch_ends": [r"attn\.proj$", r"mlp\.fc2$", r"body\.\d+\.conv2$", r"ccm\.ccm\.2$"],
}
VARIANTS = {
    "published": {"title": "DiffFit"},
    "gamma": {"form": "gamma", "title": "DiffFit (gamma only)"},
}
ROWS = ["published", "gamma"]
PROTOCOL = 1
EXTENSIONS = {"conv": "DiffFit is defined for transformer blocks; gamma on convolutional branches is our extension"}


class OutputScale(nn.Module):
    """tensor -> gamma tensor, along the first dimension of a weight or bias."""

    def __init__(self, gamma: nn.Parameter) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * self.gamma.view(-1, *([1] * (tensor.dim() - 1)))


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    if options["form"] not in ("published", "gamma"):
        raise UserError(f"difffit: form: {options['form']!r} is unknown; there are published, gamma")
    ends = [site.name for site in sites if any(re.search(pattern, site.name) for pattern in options["branch_ends"])]
    ends = ends or branch_ends(backbone, sites)
    if not ends:
        raise UserError(
            "difffit: no site of this backbone ends a residual branch; name some in the option branch_ends (`adaptsr sites` lists them)"
        )
    return Plan({"branch_ends": ends, "biases_and_norms": options["form"] == "published"})


def attach(model: nn.Module, plan: Plan) -> None:
    if plan.settings["biases_and_norms"]:
        for module in list(model.modules()):
            _train_bias_or_norm(module)
    for name in plan.settings["branch_ends"]:
        layer = model.get_submodule(name)
        gamma = nn.Parameter(torch.ones(len(original_weight(layer))))
        reparametrize_weight(layer, OutputScale(gamma))
        reparametrize_bias(layer, OutputScale(gamma))


def _train_bias_or_norm(module: nn.Module) -> None:
    """Unfreeze a layer's bias or a norm, chosen by type: by name, `bias` would match Swin's position tables too."""
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        module.bias.requires_grad_(True)
    elif "Norm" in type(module).__name__:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)

"""PiSSA, LoRA whose B A starts at the principal part of the weight (Meng et al., NeurIPS 2024, arXiv 2404.02948).

W' = (W - s B0 A0) + s B A, where s B0 A0 is the best approximation of W at this rank, as in Hugging Face PEFT, which has it for Linear.
A convolution's weight is the matrix that B A stands for in its factorization, loralib or kxk-1x1. Ranks end at what a layer can use.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.lora import attach_low_rank, factor_shapes, plan_low_rank, scale_of, useful_rank
from adaptsr.adaptation.reparametrization import Plan, original_weight
from adaptsr.backbones.sites import Site, select
from adaptsr.errors import UserError

TITLE = "PiSSA, r = {rank}"
TRAINS = "A and B of every site, biases of the adapted layers"
OPTIONS = {"rank": 8, "factorization": "loralib", "scaling": "alpha_over_r", "alpha": 1.0, "biases": True}
VARIANTS: dict[str, dict[str, Any]] = {"r8": {}}
ROWS: list[str] = []
PROTOCOL = 1
EXTENSIONS = {"conv": "PiSSA is defined for linear layers; on convolutions it is our extension"}


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    chosen, form = select(sites), options["factorization"]
    if form not in ("loralib", "kxk-1x1"):
        raise UserError(f"pissa: factorization: {form!r} has no such start here; there are loralib, kxk-1x1")
    ranks = {site.name: min(options["rank"], useful_rank(site, form)) for site in chosen}
    made = plan_low_rank(chosen, ranks, {**options, "qkv": "fused"}, seed)
    for name, site in made.settings["sites"].items():
        (inner, *a_shape), (rows, *_) = factor_shapes(site["shape"], ranks[name], form)
        matrix = original_weight(backbone.get_submodule(name)).detach().reshape(rows, -1)
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        root = (s[:inner] / scale_of(options["scaling"], options["alpha"], ranks[name])).sqrt()
        made.tensors[f"{name}.a"] = (root[:, None] * v[:inner]).reshape(-1, *a_shape)
        made.tensors[f"{name}.b"] = (u[:, :inner] * root).contiguous()
    return made


def attach(model: nn.Module, plan: Plan) -> None:
    for sign in (-1, 1):  # W - s B0 A0, which stays, then + s B A
        attach_low_rank(model, plan)
        for name in plan.settings["sites"]:
            delta: Any = model.get_submodule(name).parametrizations.weight[-1]  # type: ignore[union-attr,index]
            delta.scale *= sign
            for factor, parameter in delta.named_parameters():
                parameter.data = plan.tensors[f"{name}.{factor}"].to(parameter, copy=True)
                parameter.requires_grad_(sign > 0)

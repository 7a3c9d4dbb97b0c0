"""SHiRA, sparse high-rank adapters (Bhardwaj et al., NeurIPS 2024): a fixed sparse subset of every weight trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adaptsr import randomness
from adaptsr.adaptation.allocation import Calibration, loss_of, mean_gradients
from adaptsr.adaptation.lora import cost_per_rank
from adaptsr.adaptation.reparametrization import Plan, original_weight, reparametrize_weight
from adaptsr.backbones.sites import Site, select
from adaptsr.errors import UserError

TITLE = "SHiRA ({mask} mask)"
TRAINS = "a fixed sparse subset of each weight's entries"
OPTIONS = {
    "mask": "random",  # random, struct, wm (largest weights), grad (largest gradients), snip (largest |W dL/dW|)
    "fraction": 0.1,  # share of each weight's entries; `rank` > 0 takes as many as LoRA of that rank trains
    "rank": 0,
    "kinds": ["attention", "mlp"],
    "batches": 1,  # calibration batches whose mean gradient the masks grad and snip use
}
VARIANTS = {
    "paper": {"title": "SHiRA (10%)"},
    "rank8": {"rank": 8, "kinds": ["conv", "attention", "mlp"], "title": "SHiRA (as LoRA r = 8)"},
    "struct": {"mask": "struct"},
    "wm": {"mask": "wm"},
    "grad": {"mask": "grad"},
    "snip": {"mask": "snip"},
}
ROWS = ["paper", "rank8"]
PROTOCOL = 1
EXTENSIONS = {"conv": "SHiRA is defined for linear layers; on the entries of convolution kernels it is our extension"}


class SparseDelta(nn.Module):
    """W -> W + S, where S is zero except at fixed entries."""

    def __init__(self, indices: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("indices", indices, persistent=False)
        self.values = nn.Parameter(torch.zeros(len(indices)))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.indices, torch.Tensor)
        return weight.flatten().index_add(0, self.indices, self.values).view_as(weight)


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    chosen = select(sites, options["kinds"]) or select(sites, ["conv"])
    importance = _importance(backbone, chosen, options, calibration)
    tensors = {}
    for site in chosen:
        count = min(_entries(site, options), site.weights)
        tensors[site.name] = _mask(site, options["mask"], count, importance, seed)
    return Plan({"mask": options["mask"], "sites": [site.name for site in chosen]}, tensors)


def _entries(site: Site, options: dict[str, Any]) -> int:
    if options["rank"]:
        return int(options["rank"]) * cost_per_rank(site, "loralib")
    return round(float(options["fraction"]) * site.weights)


def _importance(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration
) -> dict[str, torch.Tensor]:
    """Return the values whose largest entries train; empty for masks that need none."""
    mask = options["mask"]
    weights = {site.name: original_weight(backbone.get_submodule(site.name)).detach() for site in sites}
    if mask == "wm":
        return {name: weight.abs() for name, weight in weights.items()}
    if mask not in ("grad", "snip"):
        return {}
    batches = [calibration(i) for i in range(options["batches"])]
    gradients = mean_gradients(backbone, sites, batches, loss_of(calibration))
    factors = weights if mask == "snip" else dict.fromkeys(weights, torch.ones(()))
    return {name: (gradient * factors[name]).abs() for name, gradient in gradients.items()}


def _mask(site: Site, mask: str, count: int, importance: dict[str, torch.Tensor], seed: int) -> torch.Tensor:
    """Return the sorted flat indices of the `count` entries that train."""
    if mask == "random":
        order = torch.randperm(site.weights, generator=randomness.generator(seed, "mask", site.name))
        return order[:count].sort().values
    if mask == "struct":
        return _struct(site, count)
    if site.name not in importance:
        raise UserError(f"shira: mask: {mask!r} is unknown; there are grad, random, snip, struct, wm")
    return importance[site.name].flatten().topk(count).indices.sort().values


def _struct(site: Site, count: int) -> torch.Tensor:
    """Return the diagonal and equally spaced whole rows of the (out, in k k) matrix; cut the last row to `count`.

    The SHiRA paper gives no spacing; equal distances are our choice.
    """
    out, columns = site.out_features, site.weights // site.out_features
    diagonal = [index * columns + index for index in range(min(out, columns))]
    rows = math.ceil(max(count - len(diagonal), 0) / columns)
    spaced = [round((row + 0.5) * out / max(rows, 1) - 0.5) for row in range(rows)]
    candidates = dict.fromkeys(diagonal)
    for row in [*spaced, *(r for r in range(out) if r not in spaced)]:
        candidates.update(dict.fromkeys(range(row * columns, (row + 1) * columns)))
        if len(candidates) >= count:
            break
    return torch.tensor(sorted(list(candidates)[:count]))


def attach(model: nn.Module, plan: Plan) -> None:
    for name in plan.settings["sites"]:
        reparametrize_weight(model.get_submodule(name), SparseDelta(plan.tensors[name]))

"""Rank-aware LoRA: ranks by importance under a parameter budget (AdaptSR, Algorithm 1).

The paper leaves open how ranks follow from scores, their bounds and the budget's unit; each reading is a variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from adaptsr.adaptation.allocation import Calibration, allocate, importance, mirror, rescale
from adaptsr.adaptation.lora import attach_low_rank, cost_per_rank, plan_low_rank, useful_rank
from adaptsr.adaptation.reparametrization import Plan
from adaptsr.backbones.sites import Site, select

TITLE = "Rank-aware LoRA ({score}, {allocation})"
TRAINS = "A and B of the sites with a rank, biases of the adapted layers"
OPTIONS = {
    "score": "gradient",  # gradient, fisher, activation, snip, random, uniform
    "batches": 1,  # calibration batches behind the scores
    # Whose score decides: the `site`'s (the paper's norm, which large layers win), per `parameter`, or per `cost` of a rank.
    "per": "site",
    "reversed": False,  # the least important sites first: a control
    "allocation": "greedy",  # greedy (the literal Algorithm 1), proportional, or rank_linear (by order)
    # Trainable parameters to spend, the variant whose number to match, or `ranks: N` for a sum of ranks.
    "budget": "lora/r8",
    "r_min": 1,  # 0 prunes sites (Section 3.3), 1 leaves every site a minimal rank (Figure 5)
    "r_max": 16,
    "cap": False,  # no rank above what the layer's shape can use
    "factorization": "loralib",
    "scaling": "alpha_over_r",
    "alpha": 1.0,
    "biases": True,
    "qkv": "fused",
    "upsampling": False,
    "kinds": ["conv", "attention", "mlp"],
}
VARIANTS = {
    "gradient": {"title": "Rank-aware LoRA"},
    "gradient-proportional": {"allocation": "proportional"},
    "gradient-rank-linear": {"allocation": "rank_linear"},
    "gradient-pruned": {"r_min": 0, "title": "Rank-aware LoRA (gradient, greedy, pruned)"},
    "gradient-ranks": {"budget": {"ranks": 1232}, "title": "Rank-aware LoRA (gradient, greedy, sum of ranks 1232)"},
    "gradient-per-parameter": {"per": "parameter", "title": "Rank-aware LoRA (gradient per parameter)"},
    "gradient-per-cost": {"per": "cost", "title": "Rank-aware LoRA (gradient per cost of a rank)"},
    "gradient-reversed": {"reversed": True, "title": "Ranks against the gradient"},
    "gradient-constant": {"scaling": "constant", "alpha": 0.125, "title": "Rank-aware LoRA (constant scale 1/8)"},
    "fisher": {"score": "fisher"},
    "activation": {"score": "activation"},
    "snip": {"score": "snip"},
    "random": {"score": "random"},
}
ROWS = ["gradient"]
PROTOCOL = 1


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    chosen = select(sites, options["kinds"], upsampling=options["upsampling"])
    by_name = {site.name: site for site in chosen}
    units = {site.name: cost_per_rank(site, options["factorization"], options["qkv"]) for site in chosen}
    scores = importance(backbone, chosen, options["score"], calibration, options["batches"], seed)
    scores = rescale(scores, chosen, options["score"], options["per"], units)
    scores = mirror(scores) if options["reversed"] else scores
    budget = options["budget"]
    in_ranks = isinstance(budget, dict)

    def cost(name: str, rank: int) -> int:
        if in_ranks or rank == 0:
            return rank
        site = by_name[name]
        return rank * units[name] + (site.out_features if options["biases"] and site.bias else 0)

    caps = {site.name: useful_rank(site, options["factorization"]) for site in chosen} if options["cap"] else None
    limit = int(budget["ranks"]) if in_ranks else int(budget)
    ranks = allocate(scores, cost, limit, options["r_min"], options["r_max"], options["allocation"], caps)
    made = plan_low_rank(chosen, ranks, options, seed)
    made.settings.update(scores=scores, budget=limit, budget_unit="ranks" if in_ranks else "parameters")
    made.settings["spent"] = sum(cost(name, rank) for name, rank in ranks.items())
    return made


def attach(model: nn.Module, plan: Plan) -> None:
    attach_low_rank(model, plan)

"""Rank-aware LoRA: the plan it writes down and what it attaches from it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from adaptsr.adaptation.allocation import importance
from adaptsr.adaptation.lora import cost_per_rank
from adaptsr.adaptation.reparametrization import trainable_count, trainable_parameters
from adaptsr.backbones.sites import find_sites, select
from tests.baselines.helpers import attach, calibration, planned, swin_like
from tests.factories import refusal

UNIFORM = 9 * (3 + 8) * 2 * 2 + 2 * 2 * ((8 + 24) + (8 + 8) + 2 * (8 + 16))
BIASES = 8 + 3 + 2 * (24 + 8 + 16 + 8)


def plan(chosen: str = "gradient", **options: Any) -> dict[str, Any]:
    return planned("rank_aware", chosen, swin_like().double(), **{"budget": UNIFORM + BIASES, **options}).settings


@pytest.mark.parametrize(
    "chosen",
    [
        "gradient",
        "gradient-proportional",
        "gradient-rank-linear",
        "gradient-per-cost",
        "gradient-reversed",
        "fisher",
        "activation",
        "snip",
        "random",
    ],
)
def test_budget(chosen: str) -> None:
    """Trains at most the budget, what the plan says it spends, and nearly all of it."""
    model = swin_like().double()
    made = planned("rank_aware", chosen, model, budget=UNIFORM + BIASES)
    trained = trainable_count(attach("rank_aware", copy.deepcopy(model), made))
    assert trained == made.settings["spent"] <= UNIFORM + BIASES
    assert UNIFORM + BIASES - trained < min(8 + 8, 9 * (3 + 8))
    assert made.settings["budget_unit"] == "parameters"


def test_scores_are_written_down() -> None:
    """The plan holds the scores that its ranks follow from, those of `importance` on the calibration data."""
    model = swin_like().double()
    made = plan(batches=2, r_max=3)
    assert made["scores"] == importance(model, select(find_sites(model)), "gradient", calibration, 2, 1)
    ranked = sorted(made["scores"], key=lambda name: -made["scores"][name])
    assert made["ranks"][ranked[0]] == 3


def test_scores_per_parameter_and_per_cost() -> None:
    """The norm over the root of the number of weights; the norm over what a unit of rank costs."""
    sites = {site.name: site for site in select(find_sites(swin_like()))}
    norms = plan()["scores"]
    per_parameter, per_cost = (plan(f"gradient-per-{what}")["scores"] for what in ("parameter", "cost"))
    for name, site in sites.items():
        assert per_parameter[name] == pytest.approx(norms[name] / math.sqrt(site.weights))
        assert per_cost[name] == pytest.approx(norms[name] / cost_per_rank(site, "loralib"))
    assert "per: 'layer' is unknown; there are cost, parameter, site" in refusal(lambda: plan(per="layer"))


def test_reversed_scores_raise_the_least_important_sites_first() -> None:
    """The control spends the same budget, in the opposite order, on scores that stay positive."""
    made, control = plan(r_max=3), plan("gradient-reversed", r_max=3)
    order = sorted(made["scores"], key=lambda name: made["scores"][name])
    assert sorted(control["scores"], key=lambda name: -control["scores"][name]) == order
    assert min(control["scores"].values()) == pytest.approx(min(made["scores"].values()))
    assert control["ranks"][order[0]] == made["ranks"][order[-1]] == 3
    assert control["budget"] == made["budget"]


def test_pruned_sites_have_nothing() -> None:
    """r_min 0: a pruned site has no delta and its bias stays frozen."""
    model = swin_like().double()
    made = planned("rank_aware", "gradient-pruned", model, budget=UNIFORM)
    attached = attach("rank_aware", model, made)
    pruned = [name for name, rank in made.settings["ranks"].items() if rank == 0]
    assert pruned
    assert not any(name.startswith(f"{site}.") for site in pruned for name in trainable_parameters(attached))


def test_caps() -> None:
    """`cap` keeps every rank within what the layer can use; the paper's rows have none."""
    assert plan()["above_useful_rank"] != []
    capped = plan(cap=True)
    assert capped["above_useful_rank"] == []
    assert max(capped["ranks"].values()) <= 8


def test_seed_decides_nothing_but_the_factors() -> None:
    """Scores and ranks follow from data alone, unless the score is random."""
    model = swin_like().double()
    for chosen, same in (("gradient", True), ("random", False)):
        one, other = (planned("rank_aware", chosen, model, seed, budget=UNIFORM).settings for seed in (1, 2))
        assert (one["scores"] == other["scores"]) == same
        assert one["ranks"] == other["ranks"] or not same

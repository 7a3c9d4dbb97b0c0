"""Importance scores against brute force, and Algorithm 1 as properties over arbitrary scores, costs and budgets."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from adaptsr.adaptation.allocation import (
    Batch,
    allocate,
    importance,
    rank_correlation,
    total_cost,
    weight_gradients,
)
from adaptsr.backbones.sites import Site, find_sites
from adaptsr.errors import UserError
from tests.factories import refusal

RULES = ["greedy", "proportional", "rank_linear"]
Cost = Callable[[str, int], int]


def names(count: int) -> list[str]:
    return [f"site{index}" for index in range(count)]


def linear_cost(per_rank: Mapping[str, int], fixed: Mapping[str, int] | None = None) -> Cost:
    """`per_rank` for each unit and `fixed` (a trained bias) from rank 1 on."""
    return lambda name, rank: rank * per_rank[name] + ((fixed or {}).get(name, 0) if rank else 0)


class Problem(NamedTuple):
    scores: Mapping[str, float]
    cost: Cost
    r_min: int
    r_max: int

    def budget(self, share: float) -> int:
        """From what r_min everywhere costs (0) to what r_max costs (1)."""
        least, most = (total_cost(dict.fromkeys(self.scores, rank), self.cost) for rank in (self.r_min, self.r_max))
        return least + int(share * (most - least))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to 12 sites whose unit of rank and whose bias cost what they like."""
    sites = names(draw(st.integers(1, 12)))
    scores = {site: draw(st.floats(0, 1e3, allow_nan=False)) for site in sites}
    per_rank = {site: draw(st.integers(1, 50)) for site in sites}
    fixed = {site: draw(st.integers(0, 9)) for site in sites}
    r_min = draw(st.integers(0, 3))
    return Problem(scores, linear_cost(per_rank, fixed), r_min, draw(st.integers(max(r_min, 1), 16)))


@pytest.mark.parametrize("rule", RULES)
class TestAllocate:
    @settings(deadline=None, max_examples=150)
    @given(problem=problems(), share=st.floats(0, 1.2))
    def test_within_budget_and_bounds(self, rule: str, problem: Problem, share: float) -> None:
        """Every site named once, every rank in bounds, and what is left buys no site below r_max one more unit."""
        scores, cost, r_min, r_max = problem
        budget = problem.budget(share)
        ranks = allocate(scores, cost, budget, r_min, r_max, rule)
        assert list(ranks) == list(scores)
        assert all(r_min <= rank <= r_max for rank in ranks.values())
        room = budget - total_cost(ranks, cost)
        assert room >= 0
        for name, rank in ranks.items():
            assert rank == r_max or cost(name, rank + 1) - cost(name, rank) > room

    @settings(deadline=None, max_examples=150)
    @given(
        scores=st.lists(st.floats(0, 1e3), min_size=2, max_size=12, unique=True),
        unit=st.integers(1, 20),
        r_min=st.integers(0, 2),
        r_max=st.integers(3, 16),
        share=st.floats(0, 1),
    )
    def test_monotone_in_the_score(
        self, rule: str, scores: list[float], unit: int, r_min: int, r_max: int, share: float
    ) -> None:
        """Of sites that cost the same, one with a higher score never gets a lower rank."""
        by_name = dict(zip(names(len(scores)), scores, strict=True))
        problem = Problem(by_name, linear_cost(dict.fromkeys(by_name, unit)), r_min, r_max)
        ranks = allocate(by_name, problem.cost, problem.budget(share), r_min, r_max, rule)
        for one, other in combinations(by_name, 2):
            if by_name[one] > by_name[other]:
                assert ranks[one] >= ranks[other]

    def test_zero_minimum_prunes(self, rule: str) -> None:
        """r_min 0 leaves the sites without importance at rank 0, which costs nothing, not even a bias."""
        scores = {"a": 3.0, "b": 0.0, "c": 1.0}
        cost = linear_cost({"a": 10, "b": 10, "c": 10}, {"a": 4, "b": 4, "c": 4})
        ranks = allocate(scores, cost, cost("a", 3) + cost("c", 1), 0, 4, rule)
        assert ranks["b"] == 0
        assert ranks["a"] > ranks["c"]

    @settings(deadline=None, max_examples=50)
    @given(
        exponents=st.lists(st.integers(-320, 300), min_size=2, max_size=12),
        r_min=st.integers(0, 2),
        share=st.floats(0, 1),
    )
    def test_scores_of_any_magnitude(self, rule: str, exponents: list[int], r_min: int, share: float) -> None:
        """Scores hundreds of decades apart neither overflow nor leave budget unspent."""
        scores = {name: float(f"1e{exponent}") for name, exponent in zip(names(99), exponents, strict=False)}
        budget = len(scores) * r_min + int(share * len(scores) * (8 - r_min))
        assert sum(allocate(scores, lambda _, rank: rank, budget, r_min, 8, rule).values()) == budget

    @pytest.mark.parametrize("score", [float("nan"), float("inf")])
    def test_scores_that_are_no_numbers(self, rule: str, score: float) -> None:
        with pytest.raises(UserError, match=r"^score: the importance of b is (nan|inf)"):
            allocate({"a": 1.0, "b": score}, lambda _, rank: rank, 10, 1, 8, rule)

    def test_caps(self, rule: str) -> None:
        """A cap bounds its site alone; what it frees goes to the others; it never undercuts r_min."""
        scores = {"a": 9.0, "b": 1.0, "c": 1.0}
        cost = linear_cost({"a": 1, "b": 1, "c": 1})
        ranks = allocate(scores, cost, 20, 2, 16, rule, caps={"a": 3, "b": 1})
        assert ranks == {"a": 3, "b": 2, "c": 15}

    @settings(deadline=None, max_examples=50)
    @given(problem=problems(), factor=st.floats(1e-6, 1e6))
    def test_only_relative_scores_matter(self, rule: str, problem: Problem, factor: float) -> None:
        """Greedy sees the order of the scores alone; both rules stay within the budget at any magnitude."""
        scores, cost, r_min, r_max = problem
        budget = problem.budget(0.5)
        scaled = {name: factor * score for name, score in scores.items()}
        ranks = allocate(scaled, cost, budget, r_min, r_max, rule)
        assert total_cost(ranks, cost) <= budget
        if rule == "greedy" and sorted(scaled, key=lambda n: -scaled[n]) == sorted(scores, key=lambda n: -scores[n]):
            assert ranks == allocate(scores, cost, budget, r_min, r_max, rule)


@pytest.mark.parametrize(
    ("rule", "scores", "costs", "budget", "r_max", "ranks"),
    [
        # b to r_max, then a to the largest rank that fits, then c with what remains.
        ("greedy", [2, 3, 1], [10, 10, 1], 75, 4, [3, 4, 4]),
        # In the proportion of the scores as far as the budget goes.
        ("proportional", [1, 2, 4], [10, 10, 10], 140, 16, [2, 4, 8]),
        # By order alone: 7, 1 and 4 on the line from 7 to 1, and the rest to the largest fractional part.
        ("rank_linear", [300, 2, 3], [10, 10, 10], 120, 7, [7, 1, 4]),
        ("rank_linear", [300, 2, 3], [10, 10, 10], 70, 7, [4, 1, 2]),
        # With nothing to tell sites apart, proportional is uniform and greedy fills them in module order.
        ("greedy", [2, 2, 2, 2], [5, 5, 5, 5], 160, 16, [16, 14, 1, 1]),
        ("proportional", [2, 2, 2, 2], [5, 5, 5, 5], 160, 16, [8, 8, 8, 8]),
        # A model without gradients spends the budget too.
        ("greedy", [0, 0, 0], [2, 2, 2], 30, 16, [13, 1, 1]),
        ("proportional", [0, 0, 0], [2, 2, 2], 30, 16, [5, 5, 5]),
    ],
)
def test_by_hand(
    rule: str, scores: Sequence[float], costs: Sequence[int], budget: int, r_max: int, ranks: Sequence[int]
) -> None:
    sites = names(len(scores))
    cost = linear_cost(dict(zip(sites, costs, strict=True)))
    found = allocate(dict(zip(sites, scores, strict=True)), cost, budget, 1, r_max, rule)
    assert list(found.values()) == ranks


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"r_min": -1}, r"^r_min, r_max: .* found r_min -1, r_max 4"),
        ({"r_min": 5}, r"^r_min, r_max: .* found r_min 5, r_max 4"),
        ({"r_min": 0, "r_max": 0}, r"^r_min, r_max: .* found r_min 0, r_max 0"),
        ({"budget": 2}, r"^budget: r_min 1 alone costs 3 parameters at the 3 sites, more than the budget of 2"),
        ({"rule": "best"}, r"^allocation: 'best' is unknown; there are greedy, proportional, rank_linear"),
    ],
)
def test_errors_are_one_line(change: Mapping[str, object], line: str) -> None:
    scores = {"a": 1.0, "b": 2.0, "c": 3.0}
    given = {"budget": 10, "r_min": 1, "r_max": 4, "rule": "greedy", **change}
    said = refusal(lambda: allocate(scores, linear_cost(dict.fromkeys(scores, 1)), **given))  # type: ignore[arg-type]
    assert re.match(line, said)


class Tiny(nn.Module):
    """Two convolutions, a depthwise one, a Linear over channels, dropout: x1, three channels to three."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm = nn.BatchNorm2d(6)
        self.mix = nn.Linear(6, 6)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Conv2d(6, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.norm(functional.gelu(self.depthwise(self.first(x))))
        mixed = self.dropout(self.mix(features.movedim(1, -1)).movedim(-1, 1))
        output: torch.Tensor = self.last(features + mixed)
        return output


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tiny().train().requires_grad_(False)


def calibration(index: int) -> Batch:
    generator = torch.Generator().manual_seed(index)
    return torch.rand(3, 3, 6, 5, generator=generator), torch.rand(3, 3, 6, 5, generator=generator)


def brute_force(model: nn.Module, sites: Sequence[Site], lr: torch.Tensor, hr: torch.Tensor) -> dict[str, torch.Tensor]:
    """dL/dW by `backward` on a copy whose every parameter trains."""
    other = copy.deepcopy(model).eval().requires_grad_(True)
    (other(lr) - hr).abs().mean().backward()
    found = {}
    for site in sites:
        gradient = other.get_parameter(f"{site.name}.weight").grad
        assert gradient is not None
        found[site.name] = gradient
    return found


def close(found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


class TestImportance:
    def test_gradient(self, model: nn.Module) -> None:
        """Frobenius norm of the gradient of the mean loss over the batches."""
        sites = find_sites(model)
        per_batch = [brute_force(model, sites, *calibration(i)) for i in range(3)]
        expected = {s.name: float(sum(g[s.name] for g in per_batch).norm() / 3) for s in sites}  # type: ignore[union-attr]
        close(importance(model, sites, "gradient", calibration, 3, 0), expected)

    def test_fisher(self, model: nn.Module) -> None:
        """Mean over images, not over batches, of the sum of squared gradients."""
        sites = find_sites(model)
        images = [(lr[n : n + 1], hr[n : n + 1]) for lr, hr in map(calibration, range(2)) for n in range(3)]
        per_image = [brute_force(model, sites, *image) for image in images]
        expected = {s.name: sum(float(g[s.name].pow(2).sum()) for g in per_image) / 6 for s in sites}
        found = importance(model, sites, "fisher", calibration, 2, 0)
        close(found, expected)
        of_batches = [brute_force(model, sites, *calibration(i)) for i in range(2)]
        assert found[sites[0].name] > sum(float(g[sites[0].name].pow(2).sum()) for g in of_batches) / 2

    def test_snip(self, model: nn.Module) -> None:
        """Sum of |W * dL/dW|."""
        sites = find_sites(model)
        gradient = brute_force(model, sites, *calibration(0))
        expected = {
            s.name: float((model.get_parameter(f"{s.name}.weight") * gradient[s.name]).abs().sum().detach())
            for s in sites
        }
        close(importance(model, sites, "snip", calibration, 1, 0), expected)

    def test_activation(self, model: nn.Module) -> None:
        """Root mean square of each layer's output, averaged over images."""
        sites = find_sites(model)
        plain = copy.deepcopy(model).eval()
        assert isinstance(plain, Tiny)
        values: dict[str, list[float]] = {site.name: [] for site in sites}
        for lr, _ in map(calibration, range(2)):
            for image in lr:
                first = plain.first(image[None])
                depthwise = plain.depthwise(first)
                features = plain.norm(functional.gelu(depthwise))
                mixed = plain.mix(features.movedim(1, -1))
                last = plain.last(features + mixed.movedim(-1, 1))
                for name, output in zip(values, (first, depthwise, mixed, last), strict=True):
                    values[name].append(float(output.norm() / output.numel() ** 0.5))
        expected = {name: sum(several) / len(several) for name, several in values.items()}
        close(importance(model, sites, "activation", calibration, 2, 0), expected)

    def test_random(self, model: nn.Module) -> None:
        """In [0, 1), a function of the seed alone."""
        sites = find_sites(model)
        first, again, other = (importance(model, sites, "random", calibration, 1, seed) for seed in (1, 1, 2))
        assert first == again != other
        assert all(0 <= value < 1 for value in first.values())

    @pytest.mark.parametrize("score", ["gradient", "fisher", "snip", "activation", "random"])
    def test_model_is_left_frozen_and_unchanged(self, model: nn.Module, score: str) -> None:
        """Scores leave weights, buffers and hooks as they were and nothing trainable, and need no global chance."""
        before = copy.deepcopy(model.state_dict())
        chance = torch.get_rng_state()
        first = importance(model, find_sites(model), score, calibration, 2, 5)
        assert torch.equal(chance, torch.get_rng_state())
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(module._forward_hooks for module in model.modules())
        assert first == importance(model, find_sites(model), score, calibration, 2, 5)

    def test_left_frozen_after_a_fault(self, model: nn.Module) -> None:
        """A batch that does not fit leaves nothing trainable and no hook behind either."""
        sites = find_sites(model)
        wrong = [(torch.rand(1, 4, 6, 5), torch.rand(1, 3, 6, 5))]
        with pytest.raises(RuntimeError):
            list(weight_gradients(model, sites, wrong))
        assert not any(parameter.requires_grad for parameter in model.parameters())
        with pytest.raises(RuntimeError):
            importance(model, sites, "activation", lambda _: wrong[0], 1, 0)
        assert not any(module._forward_hooks for module in model.modules())


class TestRankCorrelation:
    @settings(deadline=None, max_examples=30)
    @given(st.data())
    def test_against_scipy(self, data: st.DataObject) -> None:
        """Mean and minimum over all pairs and the mean against the average are scipy's Spearman correlations."""
        sites = names(data.draw(st.integers(3, 8)))
        row = st.lists(st.integers(0, 50), min_size=len(sites), max_size=len(sites)).filter(lambda r: len(set(r)) > 1)
        table = data.draw(st.lists(row, min_size=2, max_size=5))
        mean = [sum(column) / len(table) for column in zip(*table, strict=True)]
        assume(len(set(mean)) > 1)
        found = rank_correlation([dict(zip(sites, map(float, row), strict=True)) for row in table])
        pairs = [spearmanr(one, other).statistic for one, other in combinations(table, 2)]
        assert found["pairwise"] == pytest.approx(sum(pairs) / len(pairs))
        assert found["minimum"] == pytest.approx(min(pairs))
        against = [spearmanr(row, mean).statistic for row in table]
        assert found["with_mean"] == pytest.approx(sum(against) / len(against))

"""Score the importance of sites and allocate ranks under a budget (Algorithm 1 of the paper).

All scores use the pretrained weights without dropout, DropPath and moving statistics (they would add noise), and the objective
of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adaptsr import randomness
from adaptsr.backbones.probing import measuring_mode
from adaptsr.backbones.sites import Site
from adaptsr.errors import UserError

Batch = tuple[torch.Tensor, torch.Tensor]
Calibration = Callable[[int], Batch]
"""Returns batch i: LR (N, 3, h, w) and HR (N, 3, s h, s w) in [0, 1]; depends on (seed, i) alone."""
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Returns the loss of restored images beside HR: one number."""

SIZE_POWERS: Mapping[str, float] = {"gradient": 0.5, "fisher": 1, "snip": 1, "activation": 0, "random": 0, "uniform": 0}
"""How each score grows with a layer's number of weights, all else being equal."""


@dataclass(frozen=True)
class CalibrationBatches:
    """Batches of training data, with the objective that training minimises."""

    batch: Calibration
    loss: Loss

    def __call__(self, index: int) -> Batch:
        return self.batch(index)


def loss_of(calibration: Calibration) -> Loss:
    """Return the objective that comes with calibration batches; L1 for batches alone."""
    loss: Loss = getattr(calibration, "loss", functional.l1_loss)
    return loss


def importance(
    model: nn.Module, sites: Sequence[Site], score: str, calibration: Calibration, batches: int, seed: int
) -> dict[str, float]:
    """Return the importance of each site by name (Section 3.3 and Table 11 of the paper), L being the objective.

    gradient    Frobenius norm of dL/dW's mean over the batches (Algorithm 1, line 1)
    fisher      trace of the diagonal Fisher information: sum of squared gradients, averaged over images
    activation  root mean square of the layer's output
    snip        sum of abs(W * dL/dW) (Lee et al., ICLR 2019)
    random      uniform in [0, 1), keyed by the seed
    uniform     the same for all

    Raises `UserError` for an unknown score.
    """
    if score == "random":
        generator = randomness.numpy_generator(seed, "importance")
        return {site.name: float(value) for site, value in zip(sites, generator.random(len(sites)), strict=True)}
    if score == "uniform":
        return {site.name: 1.0 for site in sites}
    if score == "activation":
        return _activation_rms(model, sites, [calibration(i) for i in range(batches)])
    if score == "fisher":
        images = [(lr[n : n + 1], hr[n : n + 1]) for lr, hr in map(calibration, range(batches)) for n in range(len(lr))]
        per_image = [
            {name: float(gradient.square().sum()) for name, gradient in gradients.items()}
            for gradients in weight_gradients(model, sites, images, loss_of(calibration))
        ]
        return {site.name: math.fsum(one[site.name] for one in per_image) / len(per_image) for site in sites}
    if score not in ("gradient", "snip"):
        raise UserError(f"score: {score!r} is unknown; there are activation, fisher, gradient, random, snip, uniform")
    mean = mean_gradients(model, sites, [calibration(i) for i in range(batches)], loss_of(calibration))
    if score == "gradient":
        return {name: float(gradient.norm()) for name, gradient in mean.items()}
    return {name: float((_weight(model, name) * gradient).abs().sum()) for name, gradient in mean.items()}


def rescale(
    scores: Mapping[str, float], sites: Sequence[Site], score: str, per: str, costs: Mapping[str, int]
) -> dict[str, float]:
    """Return scores that a layer's size does not raise by itself; `costs` are the parameters of a unit of rank.

    site       the score as it is, which grows with the layer
    parameter  per weight of the layer: for `gradient` the root mean square of dL/dW instead of its Frobenius norm
    cost       per parameter that a unit of rank adds: what is gained for what is spent

    Raises `UserError` for an unknown `per`.
    """
    if per == "parameter":
        return {site.name: scores[site.name] / site.weights ** SIZE_POWERS[score] for site in sites}
    if per == "cost":
        return {name: value / costs[name] for name, value in scores.items()}
    if per != "site":
        raise UserError(f"per: {per!r} is unknown; there are cost, parameter, site")
    return dict(scores)


def mirror(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores of the same range in reverse order: the highest becomes the lowest."""
    ends = max(scores.values(), default=0.0) + min(scores.values(), default=0.0)
    return {name: ends - value for name, value in scores.items()}


def weight_gradients(
    model: nn.Module, sites: Sequence[Site], batches: Sequence[Batch], loss: Loss = functional.l1_loss
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield dL/dW of every site, batch by batch; leave the model frozen and in eval mode."""
    measuring_mode(model)
    model.requires_grad_(False)
    weights = {site.name: _weight(model, site.name) for site in sites}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        for lr, hr in batches:
            gradients = torch.autograd.grad(loss(model(lr), hr), list(weights.values()))
            yield dict(zip(weights, gradients, strict=True))
    finally:
        model.eval().requires_grad_(False)


def mean_gradients(
    model: nn.Module, sites: Sequence[Site], batches: Sequence[Batch], loss: Loss = functional.l1_loss
) -> dict[str, torch.Tensor]:
    """Return dL/dW of every site, averaged over the batches."""
    total: dict[str, torch.Tensor] = {}
    for gradients in weight_gradients(model, sites, batches, loss):
        total = {name: total[name] + gradient if total else gradient for name, gradient in gradients.items()}
    return {name: gradient / len(batches) for name, gradient in total.items()}


def _weight(model: nn.Module, name: str) -> torch.Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _activation_rms(model: nn.Module, sites: Sequence[Site], batches: Sequence[Batch]) -> dict[str, float]:
    squares: dict[str, list[float]] = {site.name: [] for site in sites}

    def record(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        return lambda _module, _input, output: squares[name].append(float(output.square().mean().sqrt()))

    measuring_mode(model)
    hooks = [model.get_submodule(site.name).register_forward_hook(record(site.name)) for site in sites]
    try:
        with torch.no_grad():
            for lr, _ in batches:
                for image in lr:
                    model(image[None])
    finally:
        model.eval()
        for hook in hooks:
            hook.remove()
    return {name: math.fsum(values) / len(values) for name, values in squares.items()}


def allocate(
    scores: Mapping[str, float],
    cost: Callable[[str, int], int],
    budget: int,
    r_min: int,
    r_max: int,
    rule: str = "greedy",
    caps: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return ranks in [r_min, r_max] with a total cost of at most `budget` (Algorithm 1, lines 2 and 3).

    `cost(site, rank)` is a site's cost at a rank: 0 at rank 0, and increasing. `caps` lowers r_max for single sites.

    greedy        start at r_min and raise sites to r_max by descending score; a site that does not fit gets the largest
                  rank that does. This takes line 3 literally.
    proportional  rank proportional to score, clipped, as high as the budget allows; the rest goes unit by unit to the
                  largest fractional parts. Among sites of equal cost a higher score never gets a lower rank.
    rank_linear   proportional to a line that falls from r_max at the highest score to r_min at the lowest, site by site:
                  only the order of the scores counts.

    Raises `UserError` for impossible bounds, a score that is not finite, an unknown rule, or a budget below r_min.
    """
    if not 0 <= r_min <= r_max or r_max == 0:
        raise UserError(f"r_min, r_max: expected 0 <= r_min <= r_max and r_max > 0, found r_min {r_min}, r_max {r_max}")
    for name, score in scores.items():
        if not math.isfinite(score):
            raise UserError(
                f"score: the importance of {name} is {score}; the backbone or its calibration data is broken"
            )
    highest = {name: max(r_min, min(r_max, (caps or {}).get(name, r_max))) for name in scores}
    least = sum(cost(name, r_min) for name in scores)
    if least > budget:
        raise UserError(
            f"budget: r_min {r_min} alone costs {least} parameters at the {len(scores)} sites, more than the budget of {budget}; lower r_min or raise the budget"
        )
    if rule == "greedy":
        return _greedy(scores, cost, budget, dict.fromkeys(scores, r_min), highest)
    if rule == "proportional":
        return _proportional(scores, cost, budget, r_min, highest)
    if rule == "rank_linear":
        return _proportional(_line(scores, r_min, r_max), cost, budget, r_min, highest)
    raise UserError(f"allocation: {rule!r} is unknown; there are greedy, proportional, rank_linear")


def _line(scores: Mapping[str, float], r_min: int, r_max: int) -> dict[str, float]:
    order = sorted(scores, key=lambda site: -scores[site])
    step = (r_max - r_min) / max(1, len(order) - 1)
    line = {name: r_max - place * step for place, name in enumerate(order)}
    return {name: line[name] for name in scores}  # ties go by the order of the sites


def _greedy(
    scores: Mapping[str, float],
    cost: Callable[[str, int], int],
    budget: int,
    ranks: dict[str, int],
    highest: Mapping[str, int],
) -> dict[str, int]:
    room = budget - total_cost(ranks, cost)
    for name in sorted(scores, key=lambda site: -scores[site]):
        now = ranks[name]
        fitting = (r for r in range(highest[name], now, -1) if cost(name, r) - cost(name, now) <= room)
        ranks[name] = next(fitting, now)
        room -= cost(name, ranks[name]) - cost(name, now)
    return ranks


def _proportional(
    scores: Mapping[str, float], cost: Callable[[str, int], int], budget: int, r_min: int, highest: Mapping[str, int]
) -> dict[str, int]:
    # Divide by the largest score, so that no loss can overflow.
    largest = max(scores.values(), default=0.0) or 1.0
    relative = {name: score / largest for name, score in scores.items()}
    ranks = dict.fromkeys(scores, r_min)
    room = budget - total_cost(ranks, cost)
    level = 0.0
    for reached, names in sorted(_levels(relative, r_min, highest).items()):
        level = reached
        extra = sum(cost(name, ranks[name] + 1) - cost(name, ranks[name]) for name in names)
        if extra > room:
            break
        ranks.update({name: ranks[name] + 1 for name in names})
        room -= extra
    while True:
        units = {name: cost(name, rank + 1) - cost(name, rank) for name, rank in ranks.items()}
        fitting = [name for name, rank in ranks.items() if rank < highest[name] and units[name] <= room]
        if not fitting:
            return ranks
        # Largest fractional part; negative if r_min already exceeds the proportional rank.
        chosen = max(fitting, key=lambda name: level * relative[name] - ranks[name])
        ranks[chosen] += 1
        room -= units[chosen]


def _levels(relative: Mapping[str, float], r_min: int, highest: Mapping[str, int]) -> dict[float, list[str]]:
    """Return each level at which floor(level * score) reaches a new rank above r_min, with the sites that reach it."""
    levels: dict[float, list[str]] = {}
    for name, score in relative.items():
        for rank in range(r_min + 1, highest[name] + 1):
            level = rank / score if score > 0 else math.inf
            if level < math.inf:
                levels.setdefault(level, []).append(name)
    return levels


def total_cost(ranks: Mapping[str, int], cost: Callable[[str, int], int]) -> int:
    """Return the cost of all sites at their ranks."""
    return sum(cost(name, rank) for name, rank in ranks.items())


def rank_correlation(vectors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Measure how well score vectors, such as those of 50 mini-batches, agree on the sites' order (Section 3.3: 0.91).

    Returns Spearman correlations in [-1, 1]: `pairwise`, the mean over all pairs; `with_mean`, the mean of each vector
    against the mean vector; `minimum`, the lowest pair.
    """
    from scipy.stats import spearmanr

    names = list(vectors[0])
    table = np.array([[vector[name] for name in names] for vector in vectors])
    pairs = [float(spearmanr(table[i], table[j]).statistic) for i in range(len(table)) for j in range(i)]
    against_mean = [float(spearmanr(row, table.mean(axis=0)).statistic) for row in table]
    return {"pairwise": float(np.mean(pairs)), "with_mean": float(np.mean(against_mean)), "minimum": min(pairs)}

"""Compute DISTS from network features, in pieces that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NUMBERS_AT_ONCE = 1 << 16
_C1 = _C2 = 1e-6


def with_moments(layers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return a reference's features, (N, C, H, W) per layer, then each layer's mean, then its variance, (N, C)."""
    import torch

    moments = [[_mean_and_variance(image) for image in _pixels(layer)] for layer in layers]
    means = [torch.stack([mean for mean, _ in of_layer]) for of_layer in moments]
    variances = [torch.stack([variance for _, variance in of_layer]) for of_layer in moments]
    return [*layers, *means, *variances]


def dists(
    restored: Sequence[torch.Tensor], reference: Sequence[torch.Tensor], alpha: torch.Tensor, beta: torch.Tensor
) -> torch.Tensor:
    """Return DISTS, (N,), from `restored`, the features per layer, and `reference`, the result of `with_moments`.

    `alpha` and `beta` weigh texture and structure in the channels of all layers, in order; they need not sum to 1.
    Source: Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity", 2020.
    """
    import torch

    channels = [layer.shape[1] for layer in restored]
    total = alpha.sum() + beta.sum()
    texture_weights = torch.split((alpha / total).flatten(), channels)
    structure_weights = torch.split((beta / total).flatten(), channels)
    layers, means, variances = (
        reference[first : first + len(restored)] for first in range(0, len(reference), len(restored))
    )
    similarities = []
    for index, _ in enumerate(restored[0]):
        similarity = alpha.new_zeros(())
        for number, (ours, theirs) in enumerate(zip(restored, layers, strict=True)):
            mean, variance = means[number][index], variances[number][index]
            own_mean, own_variance, covariance = _joint_moments(_pixels(ours)[index], _pixels(theirs)[index], mean)
            texture = (2 * own_mean * mean + _C1) / (own_mean.square() + mean.square() + _C1)
            structure = (2 * covariance + _C2) / (own_variance + variance + _C2)
            similarity += (texture_weights[number] * texture).sum() + (structure_weights[number] * structure).sum()
        similarities.append(similarity)
    return 1 - torch.stack(similarities)


def _pixels(layer: torch.Tensor) -> torch.Tensor:
    """Return (N, C, H, W) as (N, H W, C); a view in channels-last order."""
    return layer.permute(0, 2, 3, 1).flatten(1, 2)


def _pieces(pixels: torch.Tensor) -> Iterator[slice]:
    step = max(1, _NUMBERS_AT_ONCE // pixels.shape[1])
    return (slice(start, start + step) for start in range(0, len(pixels), step))


def _mean_and_variance(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance of each channel, (C,), of (P, C)."""
    mean = pixels.mean(dim=0)
    squares = mean.new_zeros(len(mean)).double()
    for piece in _pieces(pixels):
        squares += (pixels[piece] - mean).square().sum(dim=0)
    return mean, (squares / len(pixels)).to(mean.dtype)


def _joint_moments(
    ours: torch.Tensor, theirs: torch.Tensor, their_mean: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each channel's mean and variance in `ours` and its covariance with `theirs`, both (P, C)."""
    mean = ours.mean(dim=0)
    squares, products = mean.new_zeros(2, len(mean)).double()
    for piece in _pieces(ours):
        deviation = ours[piece] - mean
        products += (deviation * (theirs[piece] - their_mean)).sum(dim=0)
        squares += deviation.square_().sum(dim=0)
    return mean, (squares / len(ours)).to(mean.dtype), (products / len(ours)).to(mean.dtype)

"""Compute DISTS from network features, in pieces that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NUMBERS_AT_ONCE = 1 << 16
_C1 = _C2 = 1e-6
LARGEST_WHOLE = 1 << 21
"""Pixels: larger images are compared in tiles, to need less memory."""
_TILE = 768
_STRIDES = (1, 1, 2, 4, 8, 16)
_HALO = 112
"""Pixels, a multiple of the largest stride: the last layer sees 105 pixels to every side."""


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
            texture, structure = _similarities(own_mean, mean, own_variance, variance, covariance)
            similarity += (texture_weights[number] * texture).sum() + (structure_weights[number] * structure).sum()
        similarities.append(similarity)
    return 1 - torch.stack(similarities)


def dists_in_tiles(
    extract: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    restored: torch.Tensor,
    reference: torch.Tensor,
    alpha: torch.Tensor,
    beta: torch.Tensor,
) -> torch.Tensor:
    """Return DISTS, (N,), of images (N, 3, H, W) from the features of tiles: all of an image need 1.2 kB per pixel.

    extract: returns the features per layer. Every tile is seen with as many pixels around it as the last layer sees; what
    remains is rounding, below 1e-6.
    """
    import torch

    count = [0] * len(_STRIDES)
    totals: list[torch.Tensor] = [alpha.new_zeros(())] * len(_STRIDES)
    shifts: list[list[torch.Tensor]] = []
    for rows in _cuts(restored.shape[2]):
        for columns in _cuts(restored.shape[3]):
            tiles = (images[:, :, rows[0], columns[0]] for images in (restored, reference))
            layers = zip(*(extract(tile.contiguous(memory_format=torch.channels_last)) for tile in tiles), strict=True)
            for number, (pair, stride) in enumerate(zip(layers, _STRIDES, strict=True)):
                inner = (..., _divided(rows[1], stride), _divided(columns[1], stride))
                ours, theirs = (layer[inner] for layer in pair)
                if number == len(
                    shifts
                ):  # near the means, so that the variances are not small differences of large sums
                    shifts.append([layer.mean(dim=(2, 3), keepdim=True) for layer in (ours, theirs)])
                ours, theirs = ours - shifts[number][0], theirs - shifts[number][1]
                sums = [image.sum(dim=(2, 3), dtype=torch.float64) for image in (ours, theirs)]
                for one, other in ((ours, ours), (theirs, theirs), (ours, theirs)):
                    sums.append((one * other).sum(dim=(2, 3), dtype=torch.float64))
                totals[number] = totals[number] + torch.stack(sums)
                count[number] += ours.shape[2] * ours.shape[3]
    compared = []
    for total, number_of_pixels, (shift, their_shift) in zip(totals, count, shifts, strict=True):
        ours, theirs, squares, their_squares, products = total / number_of_pixels
        means = (ours + shift[..., 0, 0], theirs + their_shift[..., 0, 0])
        variances = (squares - ours.square(), their_squares - theirs.square())
        compared.append(_similarities(*means, *variances, products - ours * theirs))
    texture, structure = (torch.cat(parts, dim=1) for parts in zip(*compared, strict=True))
    return 1 - (alpha.flatten() * texture + beta.flatten() * structure).sum(dim=1) / (alpha.sum() + beta.sum())


def _similarities(
    mean_x: torch.Tensor,
    mean_y: torch.Tensor,
    variance_x: torch.Tensor,
    variance_y: torch.Tensor,
    covariance: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the similarities of texture and of structure."""
    texture = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    return texture, (2 * covariance + _C2) / (variance_x + variance_y + _C2)


def _cuts(length: int) -> Iterator[tuple[slice, slice]]:
    """Yield the stretches of a side with the pixels around them, and where each stretch lies in that."""
    for start in range(0, length, _TILE):
        stop = min(start + _TILE, length)
        first = max(0, start - _HALO)
        yield slice(first, min(length, stop + _HALO)), slice(start - first, stop - first if stop < length else None)


def _divided(stretch: slice, stride: int) -> slice:
    return slice(stretch.start // stride, None if stretch.stop is None else stretch.stop // stride)


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

"""Compare what images show: the two of a pair, and the photographs of two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from adaptsr.data.manifest import SplitName

LOWEST_CORRELATION = 0.4
"""Below this, LR and HR show different scenes. The 140 RealSR and iPhone pairs of the tests have at least 0.92, and 0.82
with noise of 20 levels added to LR; of their 10,000 wrong pairings the highest has 0.34."""
_SIDE = 64
_LAYOUT = 4
_FLATTEST = 2.0
"""Levels: the least contrast in which a scene can be recognised."""
_THUMBNAIL = 32
_LARGEST_DIFFERENCE = 4.0
"""Levels between thumbnails of one photograph, stored anew as a JPEG or in another size."""
_RATIO_TOLERANCE = 0.02
_PLAINEST = 8.0
"""Levels: photographs of less contrast may have equal thumbnails by chance."""
SAME_SCENE = 0.85
"""Correlation of thumbnails, shifted by an eighth of their side at most, from which two pictures show one scene: bursts, a step
aside. Of the tests' 140 real pairs, which show different scenes, no two exceed 0.81."""
_SHIFT = _THUMBNAIL // 8


def scene_mismatch(lr: torch.Tensor, hr: torch.Tensor) -> str | None:
    """Say that LR and HR, uint8 (3, h, w) and (3, H, W), show different scenes; None if they do not.

    Reduces both to at most 64 pixels a side (bicubic) and correlates their grey levels, less those of a 4x4 grid: many
    photographs share a layout, such as a bright sky. Says whether they fit once LR is turned or mirrored.
    """
    longest = max(lr.shape[1:])
    size = [max(1, round(side * min(1.0, _SIDE / longest))) for side in lr.shape[1:]]
    seen = _details(hr, size)
    if seen.std() < _FLATTEST:
        return None
    found = _correlation(_details(lr, size), seen)
    if found >= LOWEST_CORRELATION:
        return None
    for how, turned in _turned(lr).items():
        if turned.shape == lr.shape and _correlation(_details(turned, size), seen) >= LOWEST_CORRELATION:
            return f"LR and HR agree only after LR is {how}; store both images alike"
    return (
        f"LR and HR do not show the same scene in the same place: their correlation is {found:.2f}, expected at least "
        f"{LOWEST_CORRELATION}; correct the names, align the two or remove the pair"
    )


@dataclass(frozen=True, eq=False)
class Sight:
    """What is kept of a photograph to find it again: a digest of its pixels and a thumbnail (32, 32)."""

    digest: str
    thumbnail: torch.Tensor
    ratio: float

    @staticmethod
    def of(image: torch.Tensor) -> Sight:
        """Look at an image, uint8 (3, H, W)."""
        digest = hashlib.blake2b(f"{tuple(image.shape)}".encode(), digest_size=16)
        digest.update(image.contiguous().numpy().data)
        thumbnail = functional.interpolate(_grey(image), size=(_THUMBNAIL, _THUMBNAIL), mode="area")[0, 0]
        return Sight(digest.hexdigest(), thumbnail, image.shape[2] / image.shape[1])


def shared_photographs(splits: Mapping[SplitName, Sequence[tuple[str, Sight]]]) -> list[str]:
    """Return a problem for every photograph that an earlier split has too; photographs are (name, sight)."""
    problems = []
    earlier: list[tuple[str, str, Sight]] = []
    for split, photographs in splits.items():
        for name, sight in photographs:
            if found := find_copy(sight, [seen for _, _, seen in earlier]):
                index, how = found
                first, other, _ = earlier[index]
                problems.append(f"HR {name} ({split}) and {other} ({first}): {how}; keep a photograph in one split")
        earlier += [(split, name, sight) for name, sight in photographs]
    return problems


def find_copy(sight: Sight, known: Sequence[Sight]) -> tuple[int, str] | None:
    """Return the place of a photograph among those known, and how it is the same."""
    equal = next((index for index, other in enumerate(known) if other.digest == sight.digest), None)
    if equal is not None:
        return equal, "have the same pixels"
    if not known or sight.thumbnail.std() < _PLAINEST:
        return None
    differences = (torch.stack([other.thumbnail for other in known]) - sight.thumbnail).abs().amax(dim=(1, 2))
    nearest = int(differences.argmin())
    alike = (
        differences[nearest] < _LARGEST_DIFFERENCE and abs(known[nearest].ratio / sight.ratio - 1) < _RATIO_TOLERANCE
    )
    return (nearest, "are copies of one photograph") if alike else None


def scenes_of(sights: Mapping[str, Sight]) -> list[list[str]]:
    """Group pictures by scene: those that are similar, directly or through others."""
    names = list(sights)
    if not names:
        return []
    thumbnails = torch.stack([sight.thumbnail - sight.thumbnail.mean() for sight in sights.values()])
    thumbnails = thumbnails / thumbnails.norm(dim=(1, 2), keepdim=True).clamp_min(1e-9)
    spectra = torch.fft.rfft2(thumbnails)
    near = [shift for shift in range(_THUMBNAIL) if min(shift, _THUMBNAIL - shift) <= _SHIFT]
    groups = [[names[0]]]
    for index, name in enumerate(names[1:], start=1):
        shifted = torch.fft.irfft2(spectra[index] * spectra[:index].conj(), s=thumbnails.shape[1:])
        alike = (shifted[:, near][:, :, near].amax(dim=(1, 2)) > SAME_SCENE).tolist()
        similar = {
            other
            for other, correlated in zip(names[:index], alike, strict=True)
            if correlated or sights[other].digest == sights[name].digest
        }
        joined = [group for group in groups if similar.intersection(group)]
        groups = [group for group in groups if group not in joined]
        groups.append([*(other for group in joined for other in group), name])
    return groups


def _grey(image: torch.Tensor) -> torch.Tensor:
    return image.to(torch.float32).mean(dim=0)[None, None]


def _details(image: torch.Tensor, size: list[int]) -> torch.Tensor:
    small = functional.interpolate(_grey(image), size=size, mode="bicubic", antialias=True)
    layout = functional.interpolate(functional.adaptive_avg_pool2d(small, _LAYOUT), size=size, mode="bicubic")
    return small - layout


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-9))


def _turned(image: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "turned by 180 degrees": image.flip(1, 2),
        "mirrored left to right": image.flip(2),
        "mirrored top to bottom": image.flip(1),
        "turned by 90 degrees": image.rot90(1, (1, 2)),
        "turned by 270 degrees": image.rot90(3, (1, 2)),
        "mirrored along a diagonal": image.transpose(1, 2),
        "mirrored along the other diagonal": image.rot90(2, (1, 2)).transpose(1, 2),
    }

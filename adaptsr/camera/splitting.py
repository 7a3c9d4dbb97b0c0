"""Split pairs for training, validation and testing, whatever they are called: similar pictures stay on one side."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from adaptsr.data.manifest import SplitName
from adaptsr.data.scenes import Sight
from adaptsr.errors import UserError

SAME_SCENE = 0.85
"""Correlation of thumbnails, shifted by an eighth of their side at most, from which two pictures show one scene: bursts, a step
aside. Of the tests' 140 real pairs, which show different scenes, no two exceed 0.81."""
_SHIFT = 4
LEAST_SCENES = 4
_SHARES: tuple[tuple[SplitName, float, int], ...] = (("test", 0.25, 15), ("validation", 0.1, 8))
"""Share and most scenes of the splits that are not trained on."""


def scenes_of(sights: Mapping[str, Sight]) -> list[list[str]]:
    """Group pictures by scene: those that are similar, directly or through others."""
    groups: list[list[str]] = []
    for name, sight in sights.items():
        similar = [group for group in groups if any(_similar(sight, sights[other]) for other in group)]
        groups = [group for group in groups if group not in similar]
        groups.append([*(other for group in similar for other in group), name])
    return groups


def split_scenes(sights: Mapping[str, Sight], where: str) -> dict[SplitName, list[str]]:
    """Choose whole scenes for each split, by what they show: neither names nor their order matter.

    Raises `UserError` for fewer than `LEAST_SCENES` scenes.
    """
    scenes = sorted(scenes_of(sights), key=lambda group: min(sights[name].digest for name in group))
    if len(scenes) < LEAST_SCENES:
        raise UserError(
            f"{where}: {len(sights)} pairs show {len(scenes)} scenes; expected at least {LEAST_SCENES}, "
            "so that the gain can be measured on scenes that were not trained on"
        )
    splits: dict[SplitName, list[str]] = {}
    for split, share, most in _SHARES:
        count = max(1, min(most, round(share * len(scenes))))
        splits[split] = [name for group in scenes[:count] for name in sorted(group)]
        scenes = scenes[count:]
    return {"train": [name for group in scenes for name in sorted(group)], **splits}


def _similar(one: Sight, other: Sight) -> bool:
    a, b = (sight.thumbnail - sight.thumbnail.mean() for sight in (one, other))
    spectrum = torch.fft.rfft2(a) * torch.fft.rfft2(b).conj()
    correlations = torch.fft.irfft2(spectrum, s=a.shape) / (a.norm() * b.norm()).clamp_min(1e-9)
    near = [shift for shift in range(len(a)) if min(shift, len(a) - shift) <= _SHIFT]
    return one.digest == other.digest or bool(correlations[near][:, near].max() > SAME_SCENE)

"""Split pairs for training, validation and testing, whatever they are called: similar pictures stay on one side."""

from __future__ import annotations

from collections.abc import Mapping

from adaptsr.data.manifest import SplitName
from adaptsr.data.scenes import Sight, scenes_of
from adaptsr.errors import UserError

LEAST_SCENES = 4
_SHARES: tuple[tuple[SplitName, float, int], ...] = (("test", 0.25, 15), ("validation", 0.1, 8))
"""Share and most scenes of the splits that are not trained on."""


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

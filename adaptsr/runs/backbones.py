"""Build the backbone that a command names: one of a profile, or one from a checkpoint file."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.sites import Site, find_sites
from adaptsr.errors import unknown
from adaptsr.runs.matrix import Matrix


def backbone_and_sites(matrix: Matrix, name: str, load: bool = False) -> tuple[nn.Module, list[Site]]:
    """Build a backbone of the profile, or one from a checkpoint file, and find its sites.

    Without `load`, a backbone of the profile has random weights; with it, its own, and the masks of the training crops.
    """
    declared = matrix.profile.backbones.get(name)
    if declared is not None:
        scale = matrix.profile.scale
        lr_size = matrix.profile.schedule.crop // scale if load else None
        model = build(declared, scale, lr_size, load)
        return model, find_sites(model, declared.kinds)
    if Path(name).suffix:
        model = build_from_file(Path(name))
        return model, find_sites(model)
    raise unknown(matrix.source, "backbone or file", name, matrix.profile.backbones)

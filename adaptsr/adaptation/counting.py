"""What there is and what it counts: sites of a backbone, parameters of a variant."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptsr.adaptation.baseline_files import Variant
from adaptsr.adaptation.reparametrization import merged_state, parameter_count, trainable_count, trainable_parameters
from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.sites import Site, find_sites
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.runs.matrix import Matrix

CALIBRATION_SIDE = 32
"""LR side of the random batch that stands in for data where a plan asks for some: the least that all windows take."""


@dataclass(frozen=True)
class Count:
    """Parameters of one variant on one backbone."""

    backbone: str
    row: str
    total: int
    trainable: int
    merged_total: int
    by_kind: dict[str, int]
    """Trainable parameters by kind of site; what is shared counts where it is first used, `other` is outside sites."""
    left_out: list[str]
    """Sites that the variant does not touch: grouped convolutions, for one, stay frozen."""


def backbone_and_sites(matrix: Matrix, name: str) -> tuple[nn.Module, list[Site]]:
    """A backbone of the profile with random weights, or one from a checkpoint file, and its sites."""
    declared = matrix.profile.backbones.get(name)
    if declared is not None:
        model = build(declared, matrix.profile.scale, load=False)
        return model, find_sites(model, declared.kinds)
    if Path(name).suffix:
        model = build_from_file(Path(name))
        return model, find_sites(model)
    known = matrix.profile.backbones
    raise UserError(
        f"backbone {name!r}: neither a file nor in {matrix.source}{suggestion(name, known)}; there are {listing(known)}"
    )


def count(matrix: Matrix, backbone: str, row: str) -> Count:
    """Count a variant by attaching it; plans that need data get random images, which no count of the paper depends on."""
    model, sites = backbone_and_sites(matrix, backbone)
    keys = list(model.state_dict())
    parameters = {name for name, _ in model.named_parameters()}
    attached = attach_for_counting(matrix, model, sites, matrix.variant(row))
    merged = merged_state(attached, keys)
    kinds = {site.name: site.kind for site in sites}
    by_kind: dict[str, int] = {}
    touched = set()
    for name, parameter in trainable_parameters(attached).items():
        site = next((s for s in kinds if name.startswith(f"{s}.")), None)
        kind = kinds[site] if site else "other"
        by_kind[kind] = by_kind.get(kind, 0) + parameter.numel()
        touched.add(site)
    return Count(
        backbone=backbone,
        row=row,
        total=parameter_count(model),
        trainable=trainable_count(attached),
        merged_total=sum(tensor.numel() for key, tensor in merged.items() if key in parameters),
        by_kind=dict(sorted(by_kind.items())),
        left_out=[site.name for site in sites if site.name not in touched],
    )


def attach_for_counting(matrix: Matrix, model: nn.Module, sites: Sequence[Site], variant: Variant) -> nn.Module:
    """A copy of the model with the variant attached, planned on a random batch."""
    generator = torch.Generator().manual_seed(0)
    scale = matrix.profile.scale

    def calibration(_: int) -> tuple[torch.Tensor, torch.Tensor]:
        lr = torch.rand(1, 3, CALIBRATION_SIDE, CALIBRATION_SIDE, generator=generator)
        return lr, torch.rand(1, 3, CALIBRATION_SIDE * scale, CALIBRATION_SIDE * scale, generator=generator)

    options: dict[str, Any] = dict(variant.options)
    for key, other in matrix.references(variant).items():
        options[key] = trainable_count(attach_for_counting(matrix, model, sites, other))
    attached = copy.deepcopy(model)
    variant.attach(attached, variant.plan(copy.deepcopy(model), sites, options, calibration, seed=0))
    return attached
